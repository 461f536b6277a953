//! The request that opens a tunnel, and what a received one says.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use weft_model::address::{canonical, canonical_ip};

/// Why a request is not a tunnel.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidTunnelRequest {
    /// Another method than CONNECT.
    #[error("method {0}; a tunnel is opened with CONNECT")]
    Method(Method),
    /// An authority that is not `ip:port`.
    #[error("authority `{0}` is not an IP address with a port")]
    Authority(String),
}

/// The destination that a CONNECT request names (RFC 9113 section 8.5).
///
/// # Errors
/// When it isn't CONNECT or its authority isn't `ip:port` or `[ip]:port`.
pub fn destination(method: &Method, uri: &Uri) -> Result<SocketAddr, InvalidTunnelRequest> {
    if method != Method::CONNECT {
        return Err(InvalidTunnelRequest::Method(method.clone()));
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    match authority.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => Err(InvalidTunnelRequest::Authority(
            authority.chars().take(128).collect(),
        )),
    }
}

/// The request that opens a tunnel to `destination` for a connection of `client`.
///
/// # Errors
/// Never for addresses; the type is the builder's.
pub(crate) fn connect_request(
    destination: SocketAddr,
    client: SocketAddr,
) -> Result<Request<()>, http::Error> {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(destination.to_string())
        .body(())?;
    let forwarded = HeaderValue::try_from(format!("for=\"{client}\""))?;
    request
        .headers_mut()
        .insert(http::header::FORWARDED, forwarded);
    Ok(request)
}

/// The client behind a tunnel as its `forwarded` header (RFC 7239) tells, when it is
/// on the address that the tunnel itself came from: a peer can vouch for its port
/// only, so nobody can pretend to be someone else.
pub fn forwarded_client(headers: &HeaderMap, peer: IpAddr) -> Option<SocketAddr> {
    let header = headers.get(http::header::FORWARDED)?.to_str().ok()?;
    let element = header.split(',').next()?;
    let pair = element
        .split(';')
        .find_map(|pair| pair.trim().strip_prefix("for="))?;
    let client: SocketAddr = pair.trim_matches('"').parse().ok()?;
    let client = canonical(client);
    (client.ip() == canonical_ip(peer)).then_some(client)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(authority: &str) -> Result<SocketAddr, InvalidTunnelRequest> {
        destination(&Method::CONNECT, &authority.parse().unwrap())
    }

    #[test]
    fn an_authority_is_an_address_with_a_port() {
        assert_eq!(parse("10.0.0.1:80"), Ok("10.0.0.1:80".parse().unwrap()));
        assert_eq!(parse("[fd00::1]:80"), Ok("[fd00::1]:80".parse().unwrap()));
        for authority in ["10.0.0.1", "web.default:80", "10.0.0.1:0", "u@10.0.0.1:80"] {
            assert!(parse(authority).is_err(), "{authority}");
        }
    }

    #[test]
    fn other_methods_open_nothing() {
        let uri = "10.0.0.1:80".parse().unwrap();
        let refused = destination(&Method::GET, &uri);
        assert_eq!(refused, Err(InvalidTunnelRequest::Method(Method::GET)));
    }

    #[test]
    fn a_peer_cannot_pretend_to_be_at_another_address() {
        let client: SocketAddr = "10.0.0.1:4242".parse().unwrap();
        let request = connect_request("10.0.0.2:80".parse().unwrap(), client).unwrap();
        assert_eq!(
            forwarded_client(request.headers(), client.ip()),
            Some(client)
        );
        let elsewhere = "10.0.0.9".parse().unwrap();
        assert_eq!(forwarded_client(request.headers(), elsewhere), None);
    }

    proptest! {
        #[test]
        fn no_header_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let headers = HeaderMap::from_iter([(http::header::FORWARDED, value)]);
                let _ = forwarded_client(&headers, "10.0.0.1".parse().unwrap());
            }
        }

        #[test]
        fn every_address_survives_as_authority(octets: [u8; 16], port in 1u16..) {
            let address = SocketAddr::new(octets.into(), port);
            let request = connect_request(address, address).unwrap();
            prop_assert_eq!(destination(request.method(), request.uri()), Ok(address));
        }
    }
}
