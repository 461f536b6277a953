//! Finding out that the other end of a connection is gone, when nothing says so.

use std::time::Duration;

use h2::{Ping, PingPong};

/// Time between two pings (ztunnel: 10 s).
const INTERVAL: Duration = Duration::from_secs(10);
/// Time that an answer may take (ztunnel: 20 s).
const TIMEOUT: Duration = Duration::from_secs(20);

/// Pings (RFC 9113 section 6.7) until an answer is late or the connection ends.
/// Resolves when the connection is to be given up; never without a `ping`.
pub(super) async fn until_unanswered(ping: Option<PingPong>) {
    let Some(mut ping) = ping else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(INTERVAL).await;
        match tokio::time::timeout(TIMEOUT, ping.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}
