//! The two halves of a connection that are carried at the same time.

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::error::RelayError;
use crate::telemetry::CloseReason;

/// One half of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Half {
    /// From downstream to upstream.
    Sent,
    /// Back.
    Received,
}

/// Runs both halves to their ends; a break of either ends both, once the other has passed on
/// what has arrived: a peer may answer and cut at once. They take turns in going
/// first: the runtime's budget for a task may be spent by whoever does.
///
/// # Errors
/// The end that broke, and how.
pub(super) async fn run_both(
    mut poll: impl FnMut(Half, &mut Context<'_>) -> Poll<Result<(), RelayError>>,
) -> Result<(), (CloseReason, RelayError)> {
    let mut running = (Some(Half::Received), Some(Half::Sent));
    poll_fn(|context| {
        running = (running.1, running.0);
        let mut broken = None;
        for half in [&mut running.0, &mut running.1] {
            let Some(running) = *half else { continue };
            match poll(running, context) {
                Poll::Ready(Ok(())) => *half = None,
                Poll::Ready(Err(error)) => {
                    *half = None;
                    broken = Some((close_reason(running, &error), error));
                    break;
                }
                Poll::Pending => {}
            }
        }
        if let Some(broken) = broken {
            for other in [running.0, running.1].into_iter().flatten() {
                let _ = poll(other, context);
            }
            return Poll::Ready(Err(broken));
        }
        match running {
            (None, None) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    })
    .await
}

/// The end that broke.
fn close_reason(half: Half, error: &RelayError) -> CloseReason {
    match (half, error) {
        (Half::Sent, RelayError::Read(_)) | (Half::Received, RelayError::Write(_)) => {
            CloseReason::DownstreamReset
        }
        (Half::Sent, RelayError::Write(_)) | (Half::Received, RelayError::Read(_)) => {
            CloseReason::UpstreamReset
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn halves_take_turns_and_a_finished_one_is_left_alone() {
        let mut polled = Vec::new();
        let result = run_both(|half, context| {
            polled.push(half);
            context.waker().wake_by_ref();
            let left = match half {
                Half::Sent => 4,
                Half::Received => 2,
            };
            match polled.iter().filter(|other| **other == half).count() < left {
                true => Poll::Pending,
                false => Poll::Ready(Ok(())),
            }
        });
        result.await.unwrap();
        use Half::{Received, Sent};
        assert_eq!(polled, [Sent, Received, Received, Sent, Sent, Sent]);
    }

    #[tokio::test]
    async fn what_has_arrived_is_passed_on_before_a_break_ends_both() {
        for broken in [Half::Sent, Half::Received] {
            let mut passed_on = 0;
            let result = run_both(|half, _| match half == broken {
                true => Poll::Ready(Err(RelayError::Write(
                    std::io::ErrorKind::BrokenPipe.into(),
                ))),
                false => {
                    passed_on += 1;
                    Poll::Pending
                }
            });
            assert!(result.await.is_err());
            assert!(passed_on > 0, "{broken:?}");
        }
    }

    #[tokio::test]
    async fn a_break_names_the_end_that_broke() {
        let error = || std::io::ErrorKind::BrokenPipe.into();
        for (broken, is_read, expected) in [
            (Half::Sent, true, CloseReason::DownstreamReset),
            (Half::Sent, false, CloseReason::UpstreamReset),
            (Half::Received, true, CloseReason::UpstreamReset),
            (Half::Received, false, CloseReason::DownstreamReset),
        ] {
            let result = run_both(|half, _| match (half == broken, is_read) {
                (false, _) => Poll::Pending,
                (true, true) => Poll::Ready(Err(RelayError::Read(error()))),
                (true, false) => Poll::Ready(Err(RelayError::Write(error()))),
            });
            assert_eq!(result.await.unwrap_err().0, expected);
        }
    }
}
