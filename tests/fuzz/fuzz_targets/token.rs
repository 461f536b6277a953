//! Tokens (JWT) as requests bring them: none brings their reader down, and one that is read is read
//! the same once more.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|token: &[u8]| {
    if let Ok(claims) = weft_proxy::read_token(token) {
        assert_eq!(weft_proxy::read_token(token).as_ref(), Ok(&claims));
        assert!(claims.principal().is_none_or(|principal| principal.contains('/')));
    }
});
