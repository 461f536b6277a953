//! RequestAuthentications on the wire, as they stand in AuthorizationPolicies of their action.
//!
//! A key or an algorithm that this version doesn't know is left away: fewer tokens are valid, then.
//! Anything else that it doesn't know makes it unreadable, and the policy one that denies.

use std::sync::Arc;

use http::HeaderName;
use weft_model::request_authentication::{
    ClaimHeader, ClaimPath, JsonWebKey, JwtProvider, PublicKey, RequestAuthentication,
    SignatureAlgorithm, TokenLocation,
};

use crate::address::parse_port;
use crate::v1;
use crate::v1::json_web_key::Key;
use crate::v1::token_location::Location;

/// The reason why a message is not a RequestAuthentication.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidAuthentication {
    /// A port that is none.
    #[error("{0} is no port")]
    Port(u32),
    /// No issuer is named.
    #[error("a provider without issuer")]
    NoIssuer,
    /// None of the algorithms is known: none would mean all.
    #[error("no algorithm of issuer {0} is known")]
    Algorithms(String),
    /// A place where tokens may be that isn't known: a token there would be overlooked.
    #[error("a place of the tokens of issuer {0} isn't known")]
    Location(String),
    /// A header that would not be kept from clients.
    #[error("a header for claims of issuer {0} can't be read")]
    Header(String),
}

impl TryFrom<v1::RequestAuthentication> for RequestAuthentication {
    type Error = InvalidAuthentication;

    fn try_from(message: v1::RequestAuthentication) -> Result<Self, Self::Error> {
        let port = |port| parse_port(port).ok_or(InvalidAuthentication::Port(port));
        let providers = message.providers.into_iter();
        let providers = providers.map(|message| provider(message).map(Arc::new));
        Ok(Self {
            ports: message
                .ports
                .into_iter()
                .map(port)
                .collect::<Result<_, _>>()?,
            providers: providers.collect::<Result<_, _>>()?,
        })
    }
}

fn provider(message: v1::JwtProvider) -> Result<JwtProvider, InvalidAuthentication> {
    let issuer = message.issuer;
    if issuer.is_empty() {
        return Err(InvalidAuthentication::NoIssuer);
    }
    let named = message.algorithms.len();
    let known = message.algorithms.iter();
    let algorithms: Vec<_> = known.filter_map(|name| name.parse().ok()).collect();
    if algorithms.is_empty() && named > 0 {
        return Err(InvalidAuthentication::Algorithms(issuer));
    }
    let locations: Option<Vec<_>> = message.locations.into_iter().map(location).collect();
    let Some(locations) = locations else {
        return Err(InvalidAuthentication::Location(issuer));
    };
    let claim_headers: Option<Vec<_>> = message
        .claim_headers
        .into_iter()
        .map(claim_header)
        .collect();
    let payload_header = match message.payload_header.is_empty() {
        true => Some(None),
        false => message.payload_header.parse().ok().map(Some),
    };
    let Some((claim_headers, payload_header)) = claim_headers.zip(payload_header) else {
        return Err(InvalidAuthentication::Header(issuer));
    };
    let had_keys = !message.keys.is_empty();
    let keys: Vec<_> = message.keys.into_iter().filter_map(key).collect();
    // Keys that this version doesn't know were fetched all the same.
    let awaits_or_has = !(had_keys && keys.is_empty());
    let key_source = Some(message.key_source).filter(|source| !source.is_empty());
    let key_source = key_source.filter(|_| awaits_or_has);
    Ok(JwtProvider {
        issuer: issuer.into(),
        audiences: message.audiences.into_iter().map(Into::into).collect(),
        algorithms,
        keys,
        key_source: key_source.map(Into::into),
        locations,
        forwards_token: message.forward_token,
        claim_headers,
        payload_header,
    })
}

/// None when it isn't known, or can't verify anything.
fn key(message: v1::JsonWebKey) -> Option<JsonWebKey> {
    let algorithm = match &*message.algorithm {
        "" => None,
        name => Some(name.parse::<SignatureAlgorithm>().ok()?),
    };
    let key = match message.key? {
        Key::Rsa(key) => PublicKey::Rsa {
            modulus: key.modulus.into(),
            exponent: key.exponent.into(),
        },
        Key::P256(point) => PublicKey::P256(point.into()),
        Key::P384(point) => PublicKey::P384(point.into()),
        Key::Ed25519(key) => PublicKey::Ed25519(key.into()),
    };
    key.is_well_formed().then(|| JsonWebKey {
        id: (!message.id.is_empty()).then(|| message.id.into()),
        algorithm,
        key,
    })
}

fn location(message: v1::TokenLocation) -> Option<TokenLocation> {
    let name = |name: String| (!name.is_empty()).then(|| Arc::from(name));
    Some(match message.location? {
        Location::Header(header) => TokenLocation::Header {
            name: header.name.parse().ok()?,
            prefix: header.prefix.into(),
        },
        Location::Cookie(cookie) => TokenLocation::Cookie(name(cookie)?),
        Location::Query(parameter) => TokenLocation::Query(name(parameter)?),
    })
}

fn claim_header(message: v1::ClaimHeader) -> Option<ClaimHeader> {
    Some(ClaimHeader {
        name: message.name.parse::<HeaderName>().ok()?,
        claim: ClaimPath::new(message.claim).ok()?,
    })
}

impl From<&RequestAuthentication> for v1::RequestAuthentication {
    fn from(authentication: &RequestAuthentication) -> Self {
        let providers = authentication.providers.iter();
        Self {
            ports: authentication
                .ports
                .iter()
                .map(|port| u32::from(*port))
                .collect(),
            providers: providers.map(|provider| (&**provider).into()).collect(),
        }
    }
}

impl From<&JwtProvider> for v1::JwtProvider {
    fn from(provider: &JwtProvider) -> Self {
        let payload_header = provider.payload_header.as_ref();
        Self {
            issuer: provider.issuer.to_string(),
            audiences: provider.audiences.iter().map(ToString::to_string).collect(),
            algorithms: provider
                .algorithms
                .iter()
                .map(ToString::to_string)
                .collect(),
            keys: provider.keys.iter().map(Into::into).collect(),
            locations: provider.locations.iter().map(Into::into).collect(),
            forward_token: provider.forwards_token,
            claim_headers: provider.claim_headers.iter().map(Into::into).collect(),
            payload_header: payload_header.map(ToString::to_string).unwrap_or_default(),
            key_source: provider
                .key_source
                .as_deref()
                .unwrap_or_default()
                .to_owned(),
        }
    }
}

impl From<&JsonWebKey> for v1::JsonWebKey {
    fn from(key: &JsonWebKey) -> Self {
        let algorithm = key.algorithm.map(|algorithm| algorithm.to_string());
        Self {
            id: key.id.as_deref().unwrap_or_default().to_owned(),
            algorithm: algorithm.unwrap_or_default(),
            key: Some(match &key.key {
                PublicKey::Rsa { modulus, exponent } => Key::Rsa(v1::RsaPublicKey {
                    modulus: modulus.to_vec(),
                    exponent: exponent.to_vec(),
                }),
                PublicKey::P256(point) => Key::P256(point.to_vec()),
                PublicKey::P384(point) => Key::P384(point.to_vec()),
                PublicKey::Ed25519(key) => Key::Ed25519(key.to_vec()),
            }),
        }
    }
}

impl From<&TokenLocation> for v1::TokenLocation {
    fn from(location: &TokenLocation) -> Self {
        let location = match location {
            TokenLocation::Header { name, prefix } => Location::Header(v1::HeaderLocation {
                name: name.to_string(),
                prefix: prefix.to_string(),
            }),
            TokenLocation::Cookie(name) => Location::Cookie(name.to_string()),
            TokenLocation::Query(name) => Location::Query(name.to_string()),
        };
        Self {
            location: Some(location),
        }
    }
}

impl From<&ClaimHeader> for v1::ClaimHeader {
    fn from(header: &ClaimHeader) -> Self {
        let names = header.claim.names().iter();
        Self {
            name: header.name.to_string(),
            claim: names.map(ToString::to_string).collect(),
        }
    }
}
