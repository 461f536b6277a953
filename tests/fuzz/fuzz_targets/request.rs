//! Certification requests: what is taken names exactly one identity.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|der: &[u8]| {
    if let Ok(identity) = weft_control_plane::check_request(der) {
        assert_eq!(identity.to_string().parse(), Ok(identity));
    }
});
