//! Files of rate limits: taken or refused with a message, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = weft_control_plane::check_limits(text) {
        assert!(!error.is_empty());
    }
});
