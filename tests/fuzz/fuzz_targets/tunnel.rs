//! Tunnel requests and peers' certificates, as they come from the network.
#![no_main]

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, Method, Uri};
use libfuzzer_sys::fuzz_target;
use weft_proxy::tls;
use weft_proxy::tunnel::hbone::request;

fuzz_target!(|bytes: &[u8]| {
    let peer: IpAddr = [10, 0, 0, 1].into();
    if let Ok(uri) = Uri::try_from(bytes) {
        if let Ok(address) = request::destination(&Method::CONNECT, &uri) {
            assert_ne!(address.port(), 0);
        }
    }
    if let Ok(value) = HeaderValue::from_bytes(bytes) {
        let headers = HeaderMap::from_iter([(http::header::FORWARDED, value)]);
        if let Some(client) = request::forwarded_client(&headers, peer) {
            assert_eq!(client.ip(), peer);
        }
    }
    let _ = tls::spiffe_id(&bytes.into());
});
