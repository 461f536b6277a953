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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// A ping handle of a client's connection, which is driven, and its other end.
    async fn client() -> (Option<PingPong>, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (requests, mut connection) = h2::client::handshake(near).await.unwrap();
        let ping = connection.ping_pong();
        tokio::spawn(async move {
            let _kept = requests;
            let _ = connection.await;
        });
        (ping, far)
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_answers_is_kept() {
        let (ping, far) = client().await;
        tokio::spawn(async move {
            let mut server = h2::server::handshake(far).await.unwrap();
            let _: Option<Result<(_, h2::server::SendResponse<Bytes>), _>> = server.accept().await;
        });
        let an_hour = Duration::from_secs(3600);
        let given_up = tokio::time::timeout(an_hour, until_unanswered(ping)).await;
        assert!(given_up.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_silent_is_given_up_in_time() {
        let (ping, _far) = client().await;
        let soon = INTERVAL + TIMEOUT + Duration::from_secs(1);
        let given_up = tokio::time::timeout(soon, until_unanswered(ping)).await;
        assert!(given_up.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_ends_is_given_up() {
        let (ping, far) = client().await;
        drop(far);
        let given_up = tokio::time::timeout(TIMEOUT, until_unanswered(ping)).await;
        assert!(given_up.is_ok());
    }
}
