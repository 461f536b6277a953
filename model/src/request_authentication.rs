//! RequestAuthentications: who issues the tokens (JWT, RFC 7519) that requests to a workload bring,
//! how they are verified, and what becomes of their claims. What a token has to be is decided here;
//! whoever asks reads the token, verifies its signature and enforces.
//!
//! * [`provider`]: an issuer, where its tokens are, what they need
//! * [`key`]: public keys and algorithms of signatures
//! * [`claims`]: what a token says
//! * [`refusal`]: why a token is refused

pub mod claims;
pub mod key;
pub mod provider;
pub mod refusal;

pub use claims::{ClaimPath, ClaimValue, Claims};
pub use key::{JsonWebKey, PublicKey, SignatureAlgorithm};
pub use provider::{
    ClaimHeader, JwtProvider, LEEWAY, RequestAuthentication, TokenLocation, check_times,
    is_same_header,
};
pub use refusal::TokenRefusal;

#[cfg(test)]
mod tests;
