//! A token as text: three parts in base64url, of which nothing is believed yet.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use weft_model::request_authentication::{ClaimValue, Claims, SignatureAlgorithm, TokenRefusal};

use super::json::{Members, read_object};

/// The longest token that is read, in bytes.
pub(super) const LONGEST: usize = 16 * 1024;

/// A token whose signature nobody has verified.
#[derive(Debug)]
pub(super) struct UnverifiedToken<'a> {
    pub(super) algorithm: SignatureAlgorithm,
    /// The key that it names.
    pub(super) key_id: Option<Box<str>>,
    pub(super) claims: Claims,
    /// What is signed.
    pub(super) message: &'a [u8],
    pub(super) signature: Vec<u8>,
}

impl<'a> UnverifiedToken<'a> {
    /// Reads a token. Keys that it brings along, and addresses of such (`jwk`, `jku`, `x5u`,
    /// `x5c`), are not looked at.
    ///
    /// # Errors
    /// When it is none that could be verified.
    pub(super) fn read(token: &'a [u8]) -> Result<Self, TokenRefusal> {
        if token.len() > LONGEST {
            return Err(TokenRefusal::TooLarge);
        }
        let mut parts = token.split(|byte| *byte == b'.');
        let [Some(header), Some(payload), Some(signature), None] = [(); 4].map(|()| parts.next())
        else {
            return Err(TokenRefusal::Malformed);
        };
        let message = token.get(..header.len() + 1 + payload.len());
        let message = message.ok_or(TokenRefusal::Malformed)?;
        let (algorithm, key_id) = read_header(object(header)?)?;
        Ok(Self {
            algorithm,
            key_id,
            claims: Claims::new(object(payload)?),
            message,
            signature: decoded(signature)?,
        })
    }
}

fn read_header(members: Members) -> Result<(SignatureAlgorithm, Option<Box<str>>), TokenRefusal> {
    let (mut algorithm, mut key_id) = (None, None);
    for (name, value) in members {
        match (&*name, value) {
            // An unencoded payload (RFC 7797) is understood by nobody here, said to be critical or
            // not.
            ("crit" | "b64", _) => return Err(TokenRefusal::Critical),
            ("alg", ClaimValue::Text(name)) => {
                algorithm = Some(name.parse().map_err(|_| TokenRefusal::Algorithm)?);
            }
            ("kid", ClaimValue::Text(id)) => key_id = Some(id),
            ("alg" | "kid", _) => return Err(TokenRefusal::Malformed),
            _ => {}
        }
    }
    Ok((algorithm.ok_or(TokenRefusal::Algorithm)?, key_id))
}

fn object(part: &[u8]) -> Result<Members, TokenRefusal> {
    read_object(&decoded(part)?).ok_or(TokenRefusal::Malformed)
}

/// Without padding, and with nothing in the bits behind the last byte.
fn decoded(part: &[u8]) -> Result<Vec<u8>, TokenRefusal> {
    let decoded = URL_SAFE_NO_PAD.decode(part);
    decoded.map_err(|_| TokenRefusal::Malformed)
}

/// The payload of a token that was verified, as it stands in it.
pub(super) fn payload(token: &[u8]) -> &[u8] {
    let mut parts = token.split(|byte| *byte == b'.');
    parts.nth(1).unwrap_or_default()
}

/// Claims as they stand in a token's payload.
pub(crate) fn read_claims(payload: &str) -> Option<Claims> {
    read_object(payload.as_bytes()).map(Claims::new)
}

/// Reads a token and believes nothing of it: for the fuzzer, which looks for one that brings the
/// reader down.
///
/// # Errors
/// When it is none that could be verified.
pub fn read_token(token: &[u8]) -> Result<Claims, TokenRefusal> {
    UnverifiedToken::read(token).map(|token| token.claims)
}
