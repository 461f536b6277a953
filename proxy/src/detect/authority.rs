//! The host that a client asks for, by TLS' server name or by HTTP's authority.

use std::time::Duration;

use tokio::time::timeout;
use weft_model::detect::authority::requested_authority;
use weft_model::detect::client_hello::MAX_CLIENT_HELLO_LENGTH;
use weft_model::host::RequestedHost;

use super::error::DetectError;
use super::prefixed::PrefixedStream;

/// Listens to a client, for as long as `limit`, for the host that it asks for; `None` when
/// it asks for none, ends, or says nothing in that time.
///
/// # Errors
/// When the connection breaks.
pub(crate) async fn read_requested_host(
    stream: &mut PrefixedStream,
    limit: Duration,
) -> Result<Option<RequestedHost>, DetectError> {
    match timeout(
        limit,
        stream.read_until(MAX_CLIENT_HELLO_LENGTH, requested_authority),
    )
    .await
    {
        Ok(requested) => Ok(requested?.flatten()),
        Err(_) => Ok(None),
    }
}
