//! One request, from its head to what its token says.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use weft_model::authorization_policy::AuthorizationPolicies;
use weft_model::request_authentication::{Claims, JwtProvider, TokenRefusal, check_times};

use super::cache::{TokenCache, VerifiedToken, hash};
use super::locate::{FoundToken, find_tokens};
use super::rewrite::rewrite;
use super::signature::is_signed_by;
use super::token::UnverifiedToken;
use crate::key_requests::KeyRequests;
use crate::upstream::{RequestHead, RewrittenHead};

/// The most keys that one token is tried with, whatever issuers there are: anybody can send one that
/// fits none of them.
const MOST_TRIES: usize = JwtProvider::MOST_KEYS;

/// Verifies the tokens of one pod's requests.
#[derive(Debug, Default)]
pub(crate) struct TokenVerifier {
    cache: TokenCache,
    /// Keys that tokens name and that aren't there.
    missing: Arc<KeyRequests>,
}

/// A request whose token, where it has one, was verified.
#[derive(Debug)]
pub(crate) struct AuthenticatedRequest {
    /// What its token says; `None` where it has none.
    pub(crate) claims: Option<Arc<Claims>>,
    /// The request as the application gets it, and as policies see it.
    pub(crate) head: Box<RewrittenHead>,
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map(|since| since.as_secs()).unwrap_or_default()
}

impl TokenVerifier {
    /// One that asks for keys that it misses.
    pub(crate) fn asking(missing: &Arc<KeyRequests>) -> Self {
        Self {
            missing: Arc::clone(missing),
            ..Self::default()
        }
    }

    /// Verifies the token of a request to a port at a time; `None` where nobody asks for it.
    ///
    /// # Errors
    /// Why its token is refused.
    pub(crate) fn authenticate(
        &self,
        policies: &AuthorizationPolicies,
        port: u16,
        head: &RequestHead<'_>,
        now: u64,
    ) -> Result<Option<AuthenticatedRequest>, TokenRefusal> {
        if !policies.verifies_tokens(port) {
            return Ok(None);
        }
        let providers: Vec<_> = policies.token_providers(port).collect();
        let of_issuers: Vec<&JwtProvider> = providers.iter().map(|provider| &***provider).collect();
        let found = find_tokens(&of_issuers, head.headers, head.query);
        let token = match &*found {
            [] => None,
            [token] => Some((token, self.verify(&providers, token, now)?)),
            _ => return Err(TokenRefusal::Several),
        };
        let of_token = token.as_ref().map(|(found, verified)| (*found, verified));
        let head = Box::new(rewrite(&of_issuers, head, of_token));
        let claims = token.map(|(_, verified)| verified.claims);
        Ok(Some(AuthenticatedRequest { claims, head }))
    }

    fn verify(
        &self,
        providers: &[&Arc<JwtProvider>],
        found: &FoundToken<'_>,
        now: u64,
    ) -> Result<VerifiedToken, TokenRefusal> {
        let token = &*found.token;
        if token.len() > super::token::LONGEST {
            return Err(TokenRefusal::TooLarge);
        }
        let is_here = |provider: &JwtProvider| provider.locations.contains(found.location);
        let hash = hash(token);
        if let Some(known) = self.cache.get(&hash) {
            let mut issuers = providers.iter();
            let counts = issuers.any(|provider| Arc::ptr_eq(provider, &known.provider));
            if counts && is_here(&known.provider) {
                return check_times(&known.claims, now).map(|()| known);
            }
        }
        let unverified = UnverifiedToken::read(token)?;
        let mut refusal = TokenRefusal::Issuer;
        let issuer = unverified.claims.text("iss");
        let of_issuer = |provider: &JwtProvider| Some(&*provider.issuer) == issuer;
        let (mut verifying, mut tries) = (None, MOST_TRIES);
        for provider in providers {
            if !of_issuer(provider) || !is_here(provider) {
                continue;
            }
            match verify_with(provider, &unverified, now, &mut tries) {
                Ok(()) => {
                    verifying = Some(Arc::clone(provider));
                    break;
                }
                Err(error) => {
                    // Without a name, it may be of a key that has replaced these.
                    let may_be_newer = error == TokenRefusal::NoKey
                        || (error == TokenRefusal::Signature && unverified.key_id.is_none());
                    if let (true, Some(source)) = (may_be_newer, &provider.key_source) {
                        self.missing.request(source, Instant::now());
                    }
                    if refusal == TokenRefusal::Issuer {
                        refusal = error;
                    }
                }
            }
        }
        let token = VerifiedToken {
            provider: verifying.ok_or(refusal)?,
            claims: Arc::new(unverified.claims),
        };
        let bytes = found.token.len();
        self.cache.insert(hash, token.clone(), bytes, now);
        Ok(token)
    }

    #[cfg(test)]
    pub(super) fn cached(&self) -> usize {
        self.cache.len()
    }
}

/// Whether a token is one of an issuer's, and valid, as far as there are tries left.
fn verify_with(
    provider: &JwtProvider,
    token: &UnverifiedToken<'_>,
    now: u64,
    tries: &mut usize,
) -> Result<(), TokenRefusal> {
    let algorithm = token.algorithm;
    if !provider.allows(algorithm) {
        return Err(TokenRefusal::Algorithm);
    }
    if provider.awaits_keys() {
        return Err(TokenRefusal::KeysPending);
    }
    let id = token.key_id.as_deref();
    let keys = provider.keys.iter();
    let mut keys = keys.filter(|key| key.is_for(id, algorithm)).peekable();
    if keys.peek().is_none() {
        return Err(TokenRefusal::NoKey);
    }
    let is_signed = keys.any(|key| {
        let may_try = *tries > 0;
        *tries = tries.saturating_sub(1);
        may_try && is_signed_by(&key.key, algorithm, token.message, &token.signature)
    });
    match is_signed {
        true => provider.check(&token.claims, now),
        false => Err(TokenRefusal::Signature),
    }
}
