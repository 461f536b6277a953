//! Issuers of tokens: where their tokens are, and what a token of theirs needs.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::claims::{ClaimPath, ClaimValue, Claims};
use super::key::{JsonWebKey, SignatureAlgorithm};
use super::refusal::TokenRefusal;

/// The difference of clocks that a token's times are read with.
pub const LEEWAY: Duration = Duration::from_secs(60);

/// The tokens that requests to a workload may bring.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestAuthentication {
    /// The workload's ports whose requests it is about; all when empty.
    pub ports: Vec<u16>,
    /// The issuers.
    pub providers: Vec<Arc<JwtProvider>>,
}

impl RequestAuthentication {
    /// The most issuers of one.
    pub const MOST_PROVIDERS: usize = 16;

    /// Keeps the keys of before where they are of the same issuer and the same address, and whoever
    /// tells of it now has none from there: a control plane that has just started.
    pub fn keep_keys(&mut self, before: &Self) {
        for provider in &mut self.providers {
            if !provider.awaits_keys() {
                continue;
            }
            let is_same = |known: &&Arc<JwtProvider>| {
                known.issuer == provider.issuer && known.key_source == provider.key_source
            };
            let mut known = before.providers.iter().filter(is_same);
            if let Some(known) = known.find(|known| !known.keys.is_empty()) {
                let keys = known.keys.clone();
                Arc::make_mut(provider).keys = keys;
            }
        }
    }

    /// Whether it is about the requests of a port.
    pub fn is_for(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.contains(&port)
    }
}

/// An issuer of tokens.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct JwtProvider {
    /// What the claim `iss` of its tokens is.
    pub issuer: Arc<str>,
    /// Of which the claim `aud` has one; any, or none, when empty.
    pub audiences: Vec<Arc<str>>,
    /// The algorithms that its tokens may be signed by; all that there are when empty.
    pub algorithms: Vec<SignatureAlgorithm>,
    /// Its keys. While there are none, its tokens are refused.
    pub keys: Vec<JsonWebKey>,
    /// Where the control plane fetches them; `None` where they were given. With one and without
    /// keys, nobody has fetched any yet.
    pub key_source: Option<Arc<str>>,
    /// The places in a request where its tokens are.
    pub locations: Vec<TokenLocation>,
    /// Whether the workload gets the token.
    pub forwards_token: bool,
    /// Headers in which the workload gets claims. Nobody else sets them.
    pub claim_headers: Vec<ClaimHeader>,
    /// Header in which the workload gets the payload, in base64url.
    pub payload_header: Option<HeaderName>,
}

/// A place in a request where a token may be.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum TokenLocation {
    /// A header.
    Header {
        /// Its name.
        name: HeaderName,
        /// What is ahead of the token there; in whatever case.
        prefix: Arc<str>,
    },
    /// The cookie of that name.
    Cookie(Arc<str>),
    /// The parameter of that name in the query.
    Query(Arc<str>),
}

/// A header with a claim.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ClaimHeader {
    /// Its name.
    pub name: HeaderName,
    /// The claim.
    pub claim: ClaimPath,
}

impl JwtProvider {
    /// The most keys of one issuer: of a token that names none, each may have to be tried.
    pub const MOST_KEYS: usize = 32;
    /// The most places, audiences or headers of one issuer.
    pub const MOST_PARTS: usize = 16;

    /// Whether its keys are those of an address that nobody has got any from yet.
    pub fn awaits_keys(&self) -> bool {
        self.key_source.is_some() && self.keys.is_empty()
    }

    /// Whether its tokens may be signed by an algorithm.
    pub fn allows(&self, algorithm: SignatureAlgorithm) -> bool {
        self.algorithms.is_empty() || self.algorithms.contains(&algorithm)
    }

    /// Headers that nobody but the proxy sets.
    pub fn own_headers(&self) -> impl Iterator<Item = &HeaderName> {
        let of_claims = self.claim_headers.iter().map(|header| &header.name);
        of_claims.chain(&self.payload_header)
    }

    /// Whether a token whose signature is its own is valid now, in seconds since 1970.
    ///
    /// # Errors
    /// Why it isn't.
    pub fn check(&self, claims: &Claims, now: u64) -> Result<(), TokenRefusal> {
        match claims.text("iss") {
            Some(issuer) if *issuer == *self.issuer => {}
            _ => return Err(TokenRefusal::Issuer),
        }
        check_times(claims, now)?;
        let audiences = audiences(claims)?;
        let is_for_us = |audience: &&str| self.audiences.iter().any(|own| **own == **audience);
        match self.audiences.is_empty() || audiences.iter().any(is_for_us) {
            true => Ok(()),
            false => Err(TokenRefusal::Audience),
        }
    }
}

/// Whether a token's time has come, and isn't over (RFC 7519 sections 4.1.4 to 4.1.6).
///
/// # Errors
/// Why not.
pub fn check_times(claims: &Claims, now: u64) -> Result<(), TokenRefusal> {
    // Seconds of any time that matters here are exact in it.
    #[allow(
        clippy::cast_precision_loss,
        reason = "it is exact for 285 million years"
    )]
    let (now, leeway) = (now as f64, LEEWAY.as_secs_f64());
    let expiry = time(claims, "exp")?.ok_or(TokenRefusal::NoExpiry)?;
    if now >= expiry + leeway {
        return Err(TokenRefusal::Expired);
    }
    for name in ["nbf", "iat"] {
        if time(claims, name)?.is_some_and(|time| time > now + leeway) {
            return Err(TokenRefusal::NotYetValid);
        }
    }
    Ok(())
}

fn time(claims: &Claims, name: &str) -> Result<Option<f64>, TokenRefusal> {
    match claims.member(name) {
        None => Ok(None),
        #[allow(clippy::cast_precision_loss, reason = "as above")]
        Some(ClaimValue::Integer(time)) => Ok(Some(*time as f64)),
        Some(ClaimValue::Number(time)) if time.is_finite() => Ok(Some(*time)),
        Some(_) => Err(TokenRefusal::Malformed),
    }
}

fn audiences(claims: &Claims) -> Result<Vec<&str>, TokenRefusal> {
    match claims.member("aud") {
        None => Ok(Vec::new()),
        Some(ClaimValue::List(values)) => values.iter().map(audience).collect(),
        Some(value) => Ok(vec![audience(value)?]),
    }
}

fn audience(value: &ClaimValue) -> Result<&str, TokenRefusal> {
    match value {
        ClaimValue::Text(text) => Ok(text),
        _ => Err(TokenRefusal::Malformed),
    }
}

/// Whether servers may take one header for the other: to many, all that is no letter or digit is
/// the same (CGI, RFC 3875 section 4.1.18, and what follows it).
pub fn is_same_header(one: &HeaderName, other: &HeaderName) -> bool {
    let (one, other) = (one.as_str().as_bytes(), other.as_str().as_bytes());
    let is_same = |(one, other): (&u8, &u8)| {
        one == other || !(one.is_ascii_alphanumeric() || other.is_ascii_alphanumeric())
    };
    one.len() == other.len() && one.iter().zip(other).all(is_same)
}
