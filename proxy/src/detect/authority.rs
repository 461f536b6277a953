//! The name that a client asks for: TLS' server name, or HTTP's host.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use weft_model::client_hello::LONGEST;
use weft_model::external::NamedBy;
use weft_model::greeting::asked_for;

use super::error::DetectError;
use super::prefixed::PrefixedStream;

/// Listens to a client, for as long as `limit`, for the name that it asks for; `None` when
/// it names nobody, ends, or says nothing in that time.
///
/// # Errors
/// When the connection breaks.
pub(crate) async fn requested_authority(
    stream: &mut PrefixedStream,
    limit: Duration,
) -> Result<Option<(NamedBy, Arc<str>)>, DetectError> {
    match timeout(limit, stream.read_until(LONGEST, asked_for)).await {
        Ok(requested) => Ok(requested?.flatten()),
        Err(_) => Ok(None),
    }
}
