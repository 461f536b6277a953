//! Whether a key has signed a token.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use weft_model::request_authentication::{PublicKey, SignatureAlgorithm};

/// Whether a key has signed a message by an algorithm, which has to be one of its type's. ECDSA's
/// signatures are both numbers side by side (RFC 7518 section 3.4), never ASN.1.
pub(super) fn is_signed_by(
    key: &PublicKey,
    algorithm: SignatureAlgorithm,
    message: &[u8],
    signature: &[u8],
) -> bool {
    use SignatureAlgorithm as A;
    let rsa = |parameters: &RsaParameters| match key {
        PublicKey::Rsa { modulus, exponent } => {
            let key = RsaPublicKeyComponents {
                n: modulus,
                e: exponent,
            };
            key.verify(parameters, message, signature).is_ok()
        }
        _ => false,
    };
    let other = |algorithm: &'static dyn VerificationAlgorithm, bytes: &[u8]| {
        let key = UnparsedPublicKey::new(algorithm, bytes);
        key.verify(message, signature).is_ok()
    };
    match (algorithm, key) {
        (A::Rs256, _) => rsa(&RSA_PKCS1_2048_8192_SHA256),
        (A::Rs384, _) => rsa(&RSA_PKCS1_2048_8192_SHA384),
        (A::Rs512, _) => rsa(&RSA_PKCS1_2048_8192_SHA512),
        (A::Ps256, _) => rsa(&RSA_PSS_2048_8192_SHA256),
        (A::Ps384, _) => rsa(&RSA_PSS_2048_8192_SHA384),
        (A::Ps512, _) => rsa(&RSA_PSS_2048_8192_SHA512),
        (A::Es256, PublicKey::P256(point)) => other(&ECDSA_P256_SHA256_FIXED, point),
        (A::Es384, PublicKey::P384(point)) => other(&ECDSA_P384_SHA384_FIXED, point),
        (A::EdDsa, PublicKey::Ed25519(bytes)) => other(&ED25519, bytes),
        (A::Es256 | A::Es384 | A::EdDsa, _) => false,
    }
}
