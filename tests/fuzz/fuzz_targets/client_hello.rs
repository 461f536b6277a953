//! The first bytes of connections that a TLSRoute is for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_model::detect::client_hello::{MAX_CLIENT_HELLO_LENGTH, parse};

fuzz_target!(|bytes: &[u8]| {
    let decided = parse(bytes);
    if bytes.len() >= MAX_CLIENT_HELLO_LENGTH {
        assert_ne!(decided, Ok(None), "for ever undecided");
    }
    if let Ok(Some(hello)) = &decided {
        let name = hello.server_name.as_deref().unwrap_or("none");
        assert!(!name.is_empty() && name.is_ascii());
    }
    // What was told of the first bytes stays true when more follow.
    for cut in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
        match parse(&bytes[..cut]) {
            Ok(None) => {}
            early => assert_eq!(early, decided),
        }
    }
});
