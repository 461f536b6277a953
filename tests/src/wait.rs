//! Waiting for a state: poll with a deadline, never sleep and hope.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Asks again and again until the answer is `Ok`.
///
/// # Errors
/// The last answer's reason, when `limit` is over before that.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> std::result::Result<T, String>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let last = match ask() {
            Ok(answer) => return Ok(answer),
            Err(last) => last,
        };
        if Instant::now() >= deadline {
            return Err(Error::Deadline {
                what: what.to_owned(),
                seconds: limit.as_secs(),
                last,
            });
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Asks again and again until the condition holds.
///
/// # Errors
/// When `limit` is over before that.
pub fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
    wait_for(what, limit, || {
        holds().then_some(()).ok_or_else(|| "not so yet".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_with_the_first_good_answer() {
        let mut left = 3;
        let answer = wait_for("a number", Duration::from_secs(5), || {
            left -= 1;
            if left == 0 {
                Ok(7)
            } else {
                Err(format!("{left} left"))
            }
        });
        assert_eq!(answer.unwrap(), 7);
    }

    #[test]
    fn a_missed_deadline_names_what_was_awaited_and_the_last_state() {
        let answer = wait_for::<()>("the moon", Duration::ZERO, || Err("still sun".into()));
        let error = answer.unwrap_err().to_string();
        assert!(
            error.contains("the moon") && error.contains("still sun"),
            "{error}"
        );
    }
}
