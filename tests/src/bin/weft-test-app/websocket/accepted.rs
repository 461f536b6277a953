//! What a server makes of a client's key.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What the key is joined with before it is hashed (section 1.3).
const ACCEPT: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a server answers to a key (section 4.2.2).
pub(super) fn accepted(key: &[u8]) -> String {
    let hash = digest(
        &SHA1_FOR_LEGACY_USE_ONLY,
        &[key, ACCEPT.as_bytes()].concat(),
    );
    STANDARD.encode(hash)
}
