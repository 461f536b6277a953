//! Sessions that stay with one endpoint (GEP-1619): the endpoint's token travels in a
//! cookie or a field.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use weft_model::hash::stable_hash;
use weft_model::mesh::Candidate;
use weft_model::route::{SessionCarrier, SessionPersistence};

use crate::http::cookie_value;

/// The token that a request carries.
pub(super) fn token(session: &SessionPersistence, headers: &HeaderMap) -> Option<String> {
    match &session.carrier {
        SessionCarrier::Cookie { .. } => cookie_value(headers, &session.name),
        SessionCarrier::Header => {
            let value = headers.get(&*session.name)?.to_str().ok()?;
            Some(value.trim().to_owned())
        }
    }
}

/// A cookie that a client is given.
#[derive(Clone, Debug)]
pub(super) struct Cookie {
    pub(super) name: Arc<str>,
    pub(super) value: String,
    /// Its `Max-Age`; as long as the client runs when `None`.
    pub(super) lifetime: Option<Duration>,
}

impl Cookie {
    /// Gives it with a response (RFC 6265 section 4.1).
    pub(super) fn set(&self, headers: &mut HeaderMap) {
        let mut cookie = format!("{}={}; Path=/; HttpOnly", self.name, self.value);
        if let Some(lifetime) = self.lifetime {
            cookie.push_str(&format!("; Max-Age={}", lifetime.as_secs()));
        }
        if let Ok(value) = HeaderValue::try_from(cookie) {
            headers.append(SET_COOKIE, value);
        }
    }
}

/// The endpoint that a token stands for, as long as it is one.
pub(super) fn endpoint(token: &str, candidates: &[Candidate]) -> Option<SocketAddr> {
    let mut candidates = candidates.iter();
    let found = candidates.find(|candidate| token_of(candidate) == token)?;
    Some(found.address)
}

/// Tells the client its token, unless it knows it.
pub(super) fn remember(
    session: &SessionPersistence,
    candidate: &Candidate,
    bound: Option<SocketAddr>,
    headers: &mut HeaderMap,
) {
    if bound == Some(candidate.address) {
        return;
    }
    let token = token_of(candidate);
    match &session.carrier {
        SessionCarrier::Cookie { lifetime } => Cookie {
            name: Arc::clone(&session.name),
            value: token,
            lifetime: *lifetime,
        }
        .set(headers),
        SessionCarrier::Header => {
            let name = HeaderName::try_from(&*session.name);
            if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(token)) {
                headers.insert(name, value);
            }
        }
    }
}

/// What stands for an endpoint: the pod and the address, without telling either. Whoever
/// makes one up reaches an endpoint that is open to it anyway.
fn token_of(candidate: &Candidate) -> String {
    let pod = candidate.workload().map(|pod| pod.uid.to_string());
    let text = format!("{} {}", pod.unwrap_or_default(), candidate.address);
    format!("{:016x}", stable_hash(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;

    use super::*;

    fn candidate(address: &str) -> Candidate {
        Candidate::outside_mesh(address.parse().unwrap())
    }

    fn session(carrier: SessionCarrier) -> SessionPersistence {
        let name = "basket".into();
        SessionPersistence { name, carrier }
    }

    #[test]
    fn what_a_client_is_told_leads_back_to_the_same_endpoint() {
        let all = [candidate("10.0.0.1:80"), candidate("10.0.0.2:80")];
        for carrier in [
            SessionCarrier::Cookie { lifetime: None },
            SessionCarrier::Header,
        ] {
            let session = session(carrier);
            let mut told = HeaderMap::new();
            remember(&session, &all[1], None, &mut told);
            let mut request = HeaderMap::new();
            match told.get(SET_COOKIE) {
                Some(cookie) => {
                    let pair = cookie.to_str().unwrap().split(';').next().unwrap();
                    let line = format!("a=b; {pair}; c=d");
                    request.insert(COOKIE, line.parse().unwrap());
                }
                None => {
                    request.insert("basket", told["basket"].clone());
                }
            }
            let token = token(&session, &request).unwrap();
            assert_eq!(endpoint(&token, &all), Some(all[1].address));
            assert_eq!(endpoint(&token, &all[..1]), None, "it is gone");
            assert_eq!(endpoint("made-up", &all), None);
            let mut again = HeaderMap::new();
            remember(&session, &all[1], Some(all[1].address), &mut again);
            assert!(again.is_empty(), "the client knows");
        }
    }
}
