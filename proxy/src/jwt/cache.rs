//! Tokens that were verified, by their hash: a client sends the same one with every request, and
//! verifying it costs more than all else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use weft_model::request_authentication::{Claims, JwtProvider, check_times};

/// The most tokens that one pod keeps.
const MOST_TOKENS: usize = 1024;
/// The most that all of them may have been as text, in bytes.
const MOST_BYTES: usize = 1024 * 1024;

/// A token's hash.
pub(super) type TokenHash = [u8; SHA256_OUTPUT_LEN];

/// A token whose signature was verified with the keys of an issuer.
#[derive(Clone, Debug)]
pub(super) struct VerifiedToken {
    /// The issuer as it was then: with other keys it is another `Arc`.
    pub(super) provider: Arc<JwtProvider>,
    pub(super) claims: Arc<Claims>,
}

/// The verified tokens of one pod.
#[derive(Debug, Default)]
pub(super) struct TokenCache(Mutex<Tokens>);

#[derive(Debug, Default)]
struct Tokens {
    by_hash: HashMap<TokenHash, (VerifiedToken, usize)>,
    bytes: usize,
}

/// The hash of a token.
pub(super) fn hash(token: &[u8]) -> TokenHash {
    let digest = digest(&SHA256, token);
    let mut hash = TokenHash::default();
    hash.copy_from_slice(digest.as_ref());
    hash
}

impl TokenCache {
    /// A token that was verified before. Its times, and whether its issuer still counts, are the
    /// caller's to look at.
    pub(super) fn get(&self, hash: &TokenHash) -> Option<VerifiedToken> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.by_hash.get(hash).map(|(token, _)| token.clone())
    }

    /// Keeps a token of that many bytes. Where there are too many, those that have expired go
    /// first, and then all.
    pub(super) fn insert(&self, hash: TokenHash, token: VerifiedToken, bytes: usize, now: u64) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.is_full(bytes) {
            let is_valid = |token: &VerifiedToken| check_times(&token.claims, now).is_ok();
            tokens.by_hash.retain(|_, (token, _)| is_valid(token));
            tokens.bytes = tokens.by_hash.values().map(|(_, bytes)| bytes).sum();
        }
        if tokens.is_full(bytes) {
            *tokens = Tokens::default();
        }
        tokens.bytes += bytes;
        if let Some((_, before)) = tokens.by_hash.insert(hash, (token, bytes)) {
            tokens.bytes -= before;
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.by_hash.len()
    }
}

impl Tokens {
    fn is_full(&self, bytes: usize) -> bool {
        self.by_hash.len() >= MOST_TOKENS || self.bytes + bytes > MOST_BYTES
    }
}
