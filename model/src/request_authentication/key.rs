//! Public keys, and the algorithms that a token may be signed by. There is none for a secret that
//! both sides know (`HS256`), and none for no signature (`none`): a public key is never taken for
//! a secret.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// An algorithm of signatures (RFC 7518 section 3.1, RFC 8037).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl SignatureAlgorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// Its name in a token's header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no algorithm that a token may be signed by.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` is no algorithm that tokens may be signed by: RS256, RS384, RS512, PS256, PS384, PS512, \
     ES256, ES384 or EdDSA"
)]
pub struct UnknownAlgorithm(String);

impl FromStr for SignatureAlgorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|known| known.as_str() == text);
        found.ok_or_else(|| UnknownAlgorithm(text.to_owned()))
    }
}

/// A public key.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum PublicKey {
    /// Of RSA: big-endian numbers without leading zeros.
    Rsa {
        /// Its modulus.
        modulus: Box<[u8]>,
        /// Its exponent.
        exponent: Box<[u8]>,
    },
    /// A point of P-256, uncompressed (SEC 1 section 2.3.3): 65 bytes.
    P256(Box<[u8]>),
    /// A point of P-384, uncompressed: 97 bytes.
    P384(Box<[u8]>),
    /// Of Ed25519: 32 bytes.
    Ed25519(Box<[u8]>),
}

impl PublicKey {
    /// Whether it verifies signatures of an algorithm.
    pub fn fits(&self, algorithm: SignatureAlgorithm) -> bool {
        use SignatureAlgorithm as A;
        match algorithm {
            A::Rs256 | A::Rs384 | A::Rs512 | A::Ps256 | A::Ps384 | A::Ps512 => {
                matches!(self, Self::Rsa { .. })
            }
            A::Es256 => matches!(self, Self::P256(_)),
            A::Es384 => matches!(self, Self::P384(_)),
            A::EdDsa => matches!(self, Self::Ed25519(_)),
        }
    }

    /// Whether it is of the size that its type has; one of RSA has 2048 to 4096 bits, and
    /// an exponent of 4 bytes at most: what verifying costs grows with both.
    pub fn is_well_formed(&self) -> bool {
        let is_point =
            |bytes: &[u8], length: usize| bytes.len() == length && bytes.first() == Some(&4);
        match self {
            Self::Rsa { modulus, exponent } => {
                let has_size = (256..=512).contains(&modulus.len());
                let starts = |bytes: &[u8]| bytes.first().is_some_and(|first| *first != 0);
                has_size && starts(modulus) && starts(exponent) && exponent.len() <= 4
            }
            Self::P256(point) => is_point(point, 65),
            Self::P384(point) => is_point(point, 97),
            Self::Ed25519(key) => key.len() == 32,
        }
    }
}

/// One key of a JSON Web Key Set (RFC 7517).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct JsonWebKey {
    /// Its name (`kid`).
    pub id: Option<Arc<str>>,
    /// The one algorithm that it is for (`alg`); any that fits it when `None`.
    pub algorithm: Option<SignatureAlgorithm>,
    /// The key.
    pub key: PublicKey,
}

impl JsonWebKey {
    /// Whether it may have signed a token with that `kid`, by that algorithm.
    pub fn is_for(&self, id: Option<&str>, algorithm: SignatureAlgorithm) -> bool {
        let has_id = match (&self.id, id) {
            (Some(own), Some(id)) => **own == *id,
            (None, _) | (_, None) => true,
        };
        let is_meant = self.algorithm.is_none_or(|own| own == algorithm);
        has_id && is_meant && self.key.fits(algorithm)
    }
}
