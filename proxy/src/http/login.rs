//! Logins of connections: NTLM and Negotiate (RFC 4559 section 6) tell a server once whose
//! requests a connection carries. From then on the client's connection and that to the server
//! belong together: nobody else's requests travel there.

use std::sync::{Arc, Mutex};

use http::header::{AUTHORIZATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, StatusCode};

use crate::sync::lock;

/// Schemes whose credentials count for the connection.
const SCHEMES: [&[u8]; 2] = [b"ntlm", b"negotiate"];
/// Says that further requests of the connection need no credentials.
const PERSISTENT_AUTH: HeaderName = HeaderName::from_static("persistent-auth");

/// Whether a request logs its connection in.
pub(crate) fn logs_in(headers: &HeaderMap) -> bool {
    let credentials = [AUTHORIZATION, PROXY_AUTHORIZATION];
    let mut credentials = credentials.iter().filter_map(|name| headers.get(name));
    credentials.any(|value| names_scheme(value.as_bytes()))
}

/// Whether a response asks for a login of the connection, or says that there is one.
pub(crate) fn concerns_login(status: StatusCode, headers: &HeaderMap) -> bool {
    let name = match status {
        StatusCode::UNAUTHORIZED => WWW_AUTHENTICATE,
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => PROXY_AUTHENTICATE,
        _ => return headers.contains_key(PERSISTENT_AUTH),
    };
    let challenges = headers.get_all(name).into_iter();
    let mut challenges = challenges.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    challenges.any(names_scheme)
}

fn names_scheme(value: &[u8]) -> bool {
    let scheme = value.trim_ascii().split(u8::is_ascii_whitespace).next();
    scheme.is_some_and(|scheme| {
        SCHEMES
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
    })
}

/// The connections to servers, each a `C`, that belong to one client's connection and end with
/// it.
#[derive(Debug)]
pub(crate) struct Bound<C>(Arc<Mutex<State<C>>>);

#[derive(Debug)]
struct State<C> {
    is_bound: bool,
    /// Connections that wait for the client's next request.
    idle: Vec<C>,
}

impl<C> Clone for Bound<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C> Default for Bound<C> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            is_bound: false,
            idle: Vec::new(),
        })))
    }
}

impl<C> Bound<C> {
    /// From now on the client's connections to servers are its own.
    pub(crate) fn bind(&self) {
        lock(&self.0).is_bound = true;
    }

    /// Whether they are.
    pub(crate) fn is_bound(&self) -> bool {
        lock(&self.0).is_bound
    }

    /// Keeps a connection for the client's next request.
    pub(super) fn keep(&self, connection: C) {
        lock(&self.0).idle.push(connection);
    }

    /// The first one of these that is wanted.
    pub(super) fn take(&self, mut is_wanted: impl FnMut(&C) -> bool) -> Option<C> {
        let mut state = lock(&self.0);
        let at = state.idle.iter().position(&mut is_wanted)?;
        Some(state.idle.swap_remove(at))
    }

    /// Whether there is one of that kind.
    pub(crate) fn any(&self, is_wanted: impl FnMut(&C) -> bool) -> bool {
        lock(&self.0).idle.iter().any(is_wanted)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        [(name, HeaderValue::from_static(value))]
            .into_iter()
            .collect()
    }

    #[test]
    fn a_login_of_the_connection_is_told_from_that_of_a_request() {
        for (value, logs) in [
            ("NTLM TlRMTVNTUAAB", true),
            ("negotiate YII", true),
            ("Basic dXNlcg==", false),
            ("Bearer ntlm", false),
            ("NTLMv9", false),
        ] {
            assert_eq!(logs_in(&headers(AUTHORIZATION, value)), logs, "{value}");
        }
        let asks = |status: u16, headers: &HeaderMap| {
            concerns_login(StatusCode::from_u16(status).unwrap(), headers)
        };
        let challenge = headers(WWW_AUTHENTICATE, "Basic realm=\"a\", NTLM");
        assert!(asks(401, &challenge));
        assert!(!asks(200, &challenge));
        assert!(!asks(401, &headers(WWW_AUTHENTICATE, "Basic realm=\"a\"")));
        assert!(asks(407, &headers(PROXY_AUTHENTICATE, "Negotiate")));
        assert!(asks(200, &headers(PERSISTENT_AUTH, "true")));
    }
}
