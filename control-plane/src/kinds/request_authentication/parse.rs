//! What a RequestAuthentication says, checked and in the domain's terms.

use std::sync::Arc;

use http::HeaderName;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT,
    FORWARDED, HOST, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use weft_model::request_authentication::{
    ClaimHeader, ClaimPath, JsonWebKey, JwtProvider, RequestAuthentication, TokenLocation,
    is_same_header,
};

use super::jwks;
use super::key_source::{KeySource, is_discoverable, is_key_address};
use super::schema::{ProviderSpec, RequestAuthenticationSpec};
use crate::kinds::field_error::FieldError;

/// Headers that mean something else to those on the way.
const OF_OTHERS: [HeaderName; 14] = [
    AUTHORIZATION,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    COOKIE,
    EXPECT,
    FORWARDED,
    HOST,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The tokens, and for each of the issuers where its keys are fetched that are not in the object.
pub(super) type Content = (RequestAuthentication, Vec<Option<KeySource>>);

/// Reads the issuers.
///
/// # Errors
/// The first mistake.
pub(super) fn authentication(spec: &RequestAuthenticationSpec) -> Result<Content, FieldError> {
    let ports = spec.ports.iter().flatten().enumerate();
    let ports = ports.map(|(index, port)| {
        let known = u16::try_from(*port).ok().filter(|port| *port != 0);
        known.ok_or_else(|| {
            let message = format!("{port} is not a port between 1 and 65535");
            FieldError::new(format!("spec.ports[{index}]"), message)
        })
    });
    let ports: Vec<_> = ports.collect::<Result<_, _>>()?;
    if spec.ports.is_some() && ports.is_empty() {
        return Err(says_nothing("spec.ports"));
    }
    match spec.providers.len() {
        0 => {
            let why = "tokens are somebody's; without issuers, every token would be refused";
            return Err(FieldError::missing("spec.providers", why));
        }
        count if count > RequestAuthentication::MOST_PROVIDERS => {
            let most = RequestAuthentication::MOST_PROVIDERS;
            let message = format!("{count} issuers, and {most} is the most");
            return Err(FieldError::new("spec.providers", message));
        }
        _ => {}
    }
    let (mut providers, mut sources) = (Vec::new(), Vec::new());
    for (index, spec) in spec.providers.iter().enumerate() {
        let (provider, source) = provider(&format!("spec.providers[{index}]"), spec)?;
        providers.push(Arc::new(provider));
        sources.push(source);
    }
    let authentication = RequestAuthentication { ports, providers };
    check_headers(&authentication)?;
    Ok((authentication, sources))
}

fn provider(
    path: &str,
    spec: &ProviderSpec,
) -> Result<(JwtProvider, Option<KeySource>), FieldError> {
    let field = |name: &str| format!("{path}.{name}");
    if spec.issuer.is_empty() {
        return Err(FieldError::missing(
            &field("issuer"),
            "it is what the claim `iss` has to be",
        ));
    }
    let algorithms = list(
        &field("algorithms"),
        spec.algorithms.as_ref(),
        |field, name| name.parse().map_err(|error| FieldError::new(field, error)),
    );
    let audiences = list(&field("audiences"), spec.audiences.as_ref(), named);
    let (keys, source) = keys(path, spec)?;
    let claims = spec.output_claim_to_headers.as_ref();
    let claim_headers = list(&field("outputClaimToHeaders"), claims, |path, spec| {
        let claim = ClaimPath::new(spec.claim.iter().map(|name| &**name));
        Ok(ClaimHeader {
            name: own_header(&format!("{path}.header"), &spec.header)?,
            claim: claim.map_err(|error| FieldError::new(format!("{path}.claim"), error))?,
        })
    });
    let payload = spec.output_payload_to_header.as_ref();
    let payload = payload.map(|name| own_header(&field("outputPayloadToHeader"), name));
    let provider = JwtProvider {
        issuer: (*spec.issuer).into(),
        audiences: audiences?,
        algorithms: algorithms?,
        keys,
        key_source: None,
        locations: locations(path, spec)?,
        forwards_token: spec.forward_original_token,
        claim_headers: claim_headers?,
        payload_header: payload.transpose()?,
    };
    Ok((provider, source))
}

/// The keys of an issuer, or where they are.
fn keys(
    path: &str,
    spec: &ProviderSpec,
) -> Result<(Vec<JsonWebKey>, Option<KeySource>), FieldError> {
    let field = |name: &str| format!("{path}.{name}");
    match (&spec.jwks, &spec.jwks_uri) {
        (Some(text), None) => {
            let keys = jwks::parse(text);
            let keys = keys.map_err(|error| FieldError::new(field("jwks"), error))?;
            Ok((keys, None))
        }
        (None, Some(address)) => match is_key_address(address) {
            true => Ok((Vec::new(), Some(KeySource::Address((**address).into())))),
            false => {
                let message = format!("`{address}` is no https URL without a user in it");
                Err(FieldError::new(field("jwksUri"), message))
            }
        },
        (None, None) if is_discoverable(&spec.issuer) => {
            let source = KeySource::Issuer((*spec.issuer).into());
            Ok((Vec::new(), Some(source)))
        }
        (None, None) => {
            let why = "an issuer has its public keys in `jwks` or at the address `jwksUri`; only \
                       one that is an https URL can be asked for that address";
            Err(FieldError::missing(&field("jwks"), why))
        }
        (Some(_), Some(_)) => {
            let message = "an issuer has its keys in `jwks` or at `jwksUri`, not both";
            Err(FieldError::new(field("jwksUri"), message))
        }
    }
}

fn locations(path: &str, spec: &ProviderSpec) -> Result<Vec<TokenLocation>, FieldError> {
    let field = |name: &str| format!("{path}.{name}");
    let headers = spec.from_headers.as_ref();
    let headers = list(&field("fromHeaders"), headers, |path, spec| {
        Ok(TokenLocation::Header {
            name: header(&format!("{path}.name"), &spec.name)?,
            prefix: spec.prefix.as_deref().unwrap_or_default().into(),
        })
    });
    let mut locations = headers?;
    for (name, texts, location) in [
        (
            "fromCookies",
            &spec.from_cookies,
            TokenLocation::Cookie as fn(Arc<str>) -> TokenLocation,
        ),
        ("fromParams", &spec.from_params, TokenLocation::Query),
    ] {
        let names = list(&field(name), texts.as_ref(), named)?;
        locations.extend(names.into_iter().map(location));
    }
    if locations.is_empty() {
        locations = vec![
            TokenLocation::Header {
                name: AUTHORIZATION,
                prefix: "Bearer ".into(),
            },
            TokenLocation::Query("access_token".into()),
        ];
    }
    Ok(locations)
}

/// No header is set by the proxy in which it looks for a token, or sets another claim.
fn check_headers(authentication: &RequestAuthentication) -> Result<(), FieldError> {
    let providers = &authentication.providers;
    let places = providers.iter().flat_map(|provider| &provider.locations);
    let places: Vec<_> = places
        .filter_map(|place| match place {
            TokenLocation::Header { name, .. } => Some(name),
            _ => None,
        })
        .collect();
    for (index, provider) in providers.iter().enumerate() {
        let mut seen: Vec<&HeaderName> = Vec::new();
        for own in provider.own_headers() {
            let is_place = places.iter().any(|place| is_same_header(place, own));
            if is_place || seen.iter().any(|other| is_same_header(other, own)) {
                let message = format!("header `{own}` has a token or another claim already");
                let field = format!("spec.providers[{index}].outputClaimToHeaders");
                return Err(FieldError::new(field, message));
            }
            seen.push(own);
        }
    }
    Ok(())
}

/// A header that the proxy sets, and nobody else.
fn own_header(field: &str, name: &str) -> Result<HeaderName, FieldError> {
    let header = header(field, name)?;
    let is_forwarded = ["x-forwarded-", "proxy-", "x-weft-"];
    let is_reserved = is_forwarded
        .iter()
        .any(|start| header.as_str().starts_with(start));
    match is_reserved || OF_OTHERS.iter().any(|other| is_same_header(other, &header)) {
        true => {
            let message = format!("`{header}` means something else already; take another one");
            Err(FieldError::new(field, message))
        }
        false => Ok(header),
    }
}

fn header(field: &str, name: &str) -> Result<HeaderName, FieldError> {
    let parsed = HeaderName::from_bytes(name.as_bytes());
    parsed.map_err(|_| FieldError::new(field, format!("`{name}` is no name of a header")))
}

fn named(field: &str, text: &String) -> Result<Arc<str>, FieldError> {
    match text.is_empty() {
        true => Err(FieldError::new(field, "it is empty")),
        false => Ok((**text).into()),
    }
}

/// All of a list, or the first mistake. An empty one would mean all, which nobody means who makes
/// lists.
fn list<S, T>(
    path: &str,
    list: Option<&Vec<S>>,
    read: impl Fn(&str, &S) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    match list {
        Some(list) if list.is_empty() => return Err(says_nothing(path)),
        Some(list) if list.len() > JwtProvider::MOST_PARTS => {
            let message = format!(
                "{} of them, and {} is the most",
                list.len(),
                JwtProvider::MOST_PARTS
            );
            return Err(FieldError::new(path, message));
        }
        _ => {}
    }
    let list = list.into_iter().flatten().enumerate();
    list.map(|(index, item)| read(&format!("{path}[{index}]"), item))
        .collect()
}

fn says_nothing(path: &str) -> FieldError {
    FieldError::new(path, "the list is empty; leave it out to mean all")
}
