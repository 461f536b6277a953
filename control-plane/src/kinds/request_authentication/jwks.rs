//! JSON Web Key Sets (RFC 7517).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use weft_model::request_authentication::{JsonWebKey, JwtProvider, PublicKey, SignatureAlgorithm};

/// Why a text is no set of keys that tokens could be verified by.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum InvalidKeys {
    /// It is no JSON, or has no list of keys.
    #[error("it is no JSON Web Key Set: an object with a list `keys`")]
    NoKeySet,
    /// A secret, or a private key. Whoever reads it could issue tokens.
    #[error("key {0} (from 0) is secret or private; take it out of use, and give the public key")]
    Secret(usize),
    /// None of its keys is of use.
    #[error(
        "none of its keys verifies tokens: of RSA with 2048 to 4096 bits, EC on P-256 or P-384, or \
         Ed25519, and not for encryption or another algorithm"
    )]
    NoKey,
    /// More than are looked at.
    #[error("it has {0} keys that verify tokens, and {most} is the most", most = JwtProvider::MOST_KEYS)]
    TooMany(usize),
}

/// The keys of a set that verify tokens. Others in it are for somebody else.
///
/// # Errors
/// When there is none, or one that nobody else should have.
pub(crate) fn parse(text: &str) -> Result<Vec<JsonWebKey>, InvalidKeys> {
    let set: Value = serde_json::from_str(text).map_err(|_| InvalidKeys::NoKeySet)?;
    let keys = set.get("keys").and_then(Value::as_array);
    let keys = keys.ok_or(InvalidKeys::NoKeySet)?;
    let is_secret = |key: &Value| ["d", "k"].iter().any(|name| key.get(name).is_some());
    if let Some(index) = keys.iter().position(is_secret) {
        return Err(InvalidKeys::Secret(index));
    }
    let keys = keys.iter().filter_map(Value::as_object);
    let keys: Vec<_> = keys.filter_map(key).collect();
    match keys.len() {
        0 => Err(InvalidKeys::NoKey),
        count if count > JwtProvider::MOST_KEYS => Err(InvalidKeys::TooMany(count)),
        _ => Ok(keys),
    }
}

fn key(members: &Map<String, Value>) -> Option<JsonWebKey> {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let algorithm = match members.get("alg") {
        None => None,
        Some(name) => Some(name.as_str()?.parse::<SignatureAlgorithm>().ok()?),
    };
    let number = |name: &str| {
        let bytes = URL_SAFE_NO_PAD
            .decode(text(name)?.trim_end_matches('='))
            .ok()?;
        let start = bytes.iter().position(|byte| *byte != 0)?;
        Some(bytes.get(start..)?.to_vec())
    };
    let point = |length: usize| {
        let (x, y) = (padded(number("x")?, length)?, padded(number("y")?, length)?);
        Some([vec![4], x, y].concat().into_boxed_slice())
    };
    let key = match (text("kty")?, text("crv")) {
        ("RSA", _) => PublicKey::Rsa {
            modulus: number("n")?.into(),
            exponent: number("e")?.into(),
        },
        ("EC", Some("P-256")) => PublicKey::P256(point(32)?),
        ("EC", Some("P-384")) => PublicKey::P384(point(48)?),
        ("OKP", Some("Ed25519")) => {
            let bytes = URL_SAFE_NO_PAD.decode(text("x")?.trim_end_matches('='));
            PublicKey::Ed25519(bytes.ok()?.into())
        }
        _ => return None,
    };
    let is_usable = key.is_well_formed() && algorithm.is_none_or(|algorithm| key.fits(algorithm));
    is_usable.then(|| JsonWebKey {
        id: text("kid").map(Into::into),
        algorithm,
        key,
    })
}

/// A number in that many bytes.
fn padded(number: Vec<u8>, length: usize) -> Option<Vec<u8>> {
    let zeros = length.checked_sub(number.len())?;
    Some([vec![0; zeros], number].concat())
}
