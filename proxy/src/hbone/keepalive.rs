//! Finding out that a tunnel's other end is gone, when nothing says so.

use std::time::Duration;

use h2::{Ping, PingPong};

/// Time between two pings (ztunnel: 10 s).
const INTERVAL: Duration = Duration::from_secs(10);
/// Time that an answer may take (ztunnel: 20 s).
const TIMEOUT: Duration = Duration::from_secs(20);

/// Pings (RFC 9113 section 6.7) until an answer is late or the connection ends.
/// Resolves when the connection is to be given up.
pub(crate) async fn watch(mut ping: PingPong) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        match tokio::time::timeout(TIMEOUT, ping.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}
