//! Cookies of clients: the one that was sent is found, among any others.
#![no_main]

use http::{HeaderMap, HeaderValue, header};
use libfuzzer_sys::fuzz_target;
use weft_proxy::cookie_value;

fuzz_target!(|input: (&[u8], &str)| {
    let (others, name) = input;
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(others) {
        headers.append(header::COOKIE, value);
    }
    if let Some(value) = cookie_value(&headers, name) {
        assert!(others.windows(value.len().max(1)).any(|part| part == value.as_bytes()) || value.is_empty());
    }
    let ours = HeaderValue::from_static("weft-session=0123456789abcdef");
    let headers = HeaderMap::from_iter([(header::COOKIE, ours)]);
    let found = cookie_value(&headers, "weft-session");
    assert_eq!(found.as_deref(), Some("0123456789abcdef"));
});
