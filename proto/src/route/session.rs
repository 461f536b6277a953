//! Session persistence on the wire.

use std::time::Duration;

use weft_model::route::{SessionCarrier, SessionPersistence};

use crate::route::error::InvalidRoute;
use crate::route::field::header_name;
use crate::v1;
use crate::v1::session_persistence::Carrier;

impl TryFrom<v1::SessionPersistence> for SessionPersistence {
    type Error = InvalidRoute;

    fn try_from(message: v1::SessionPersistence) -> Result<Self, Self::Error> {
        let carrier = match message.carrier {
            None => return Err(InvalidRoute::Missing("session.carrier")),
            Some(Carrier::Header(v1::SessionHeader {})) => {
                // What can't be a header's name is refused now, not for each request.
                header_name("session.name", &message.name)?;
                SessionCarrier::Header
            }
            Some(Carrier::Cookie(cookie)) => SessionCarrier::Cookie {
                lifetime: cookie.lifetime_seconds.map(Duration::from_secs),
            },
        };
        match message.name.is_empty() {
            true => Err(InvalidRoute::Missing("session.name")),
            false => Ok(Self {
                name: message.name.into(),
                carrier,
            }),
        }
    }
}

impl From<&SessionPersistence> for v1::SessionPersistence {
    fn from(session: &SessionPersistence) -> Self {
        let carrier = match &session.carrier {
            SessionCarrier::Header => Carrier::Header(v1::SessionHeader {}),
            SessionCarrier::Cookie { lifetime } => Carrier::Cookie(v1::SessionCookie {
                lifetime_seconds: lifetime.map(|lifetime| lifetime.as_secs()),
            }),
        };
        Self {
            name: session.name.to_string(),
            carrier: Some(carrier),
        }
    }
}
