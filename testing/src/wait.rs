//! Waiting for a state: poll with a deadline, never sleep and hope.

use std::time::Duration;

/// The time that anything may take which is expected to happen.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Waits for what is expected to happen.
///
/// # Panics
/// At the deadline.
pub async fn in_time<T>(future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(DEADLINE, future).await;
    done.expect("it did not happen in time")
}

/// Polls until the condition holds.
///
/// # Panics
/// At the deadline, with `what` was waited for.
pub async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let polled = async {
        while !condition() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    let done = tokio::time::timeout(DEADLINE, polled).await;
    done.unwrap_or_else(|_| panic!("never: {what}"));
}
