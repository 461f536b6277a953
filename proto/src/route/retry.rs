//! Retries on the wire, of routes and of TrafficPolicies.

use std::time::Duration;

use weft_model::route::Retry;

use crate::route::error::InvalidRoute;
use crate::route::field::{micros, status_field};
use crate::v1;

impl TryFrom<v1::RouteRetry> for Retry {
    type Error = InvalidRoute;

    fn try_from(message: v1::RouteRetry) -> Result<Self, Self::Error> {
        let codes = message.codes.into_iter();
        let codes = codes.map(|code| status_field("retry.codes", code));
        Ok(Self {
            codes: codes.collect::<Result<_, _>>()?,
            attempts: message.attempts,
            backoff: Duration::from_micros(message.backoff_us),
        })
    }
}

impl From<&Retry> for v1::RouteRetry {
    fn from(retry: &Retry) -> Self {
        let codes = retry.codes.iter().map(|code| code.as_u16().into());
        Self {
            codes: codes.collect(),
            attempts: retry.attempts,
            backoff_us: micros(retry.backoff),
        }
    }
}
