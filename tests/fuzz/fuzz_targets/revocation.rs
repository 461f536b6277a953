//! Certificate revocation lists: what nobody has signed revokes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|pem: &[u8]| {
    assert!(weft_control_plane::check_revocation_lists(pem, &[]).is_err());
});
