//! Session persistence: requests of one session reach the same endpoint.

use std::sync::Arc;
use std::time::Duration;

/// Session persistence of a rule (GEP-1619).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionPersistence {
    /// Name of the cookie or of the header.
    pub name: Arc<str>,
    /// Carrier of the session's token.
    pub carrier: SessionCarrier,
}

/// Carrier of a session's token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SessionCarrier {
    /// A cookie.
    Cookie {
        /// `Max-Age` of the cookie; until the client ends when `None`.
        lifetime: Option<Duration>,
    },
    /// A header.
    Header,
}
