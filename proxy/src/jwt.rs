//! Tokens of requests (JWT, RFC 7519, signed as RFC 7515 has it). The model says what a token
//! needs; here it is found, read, and its signature verified.
//!
//! * [`authenticate`]: one request, from its head to what its token says
//! * [`locate`]: the places in a request where tokens are
//! * [`token`], [`json`]: a token as text; nothing of it is believed yet
//! * [`signature`]: whether a key has signed it
//! * [`cache`]: tokens that were verified
//! * [`rewrite`]: the request as the application gets it

mod authenticate;
mod cache;
mod json;
mod locate;
mod rewrite;
mod signature;
mod token;

pub(crate) use authenticate::{TokenVerifier, now};
pub(crate) use token::read_claims;
pub use token::read_token;

#[cfg(test)]
mod tests;
