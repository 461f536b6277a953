//! How many lines of the access log a pod may still have in the present second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Lines that were written in the present second.
#[derive(Debug, Default)]
pub(super) struct LineBudget(AtomicU64);

impl LineBudget {
    /// Takes one of so many lines of a second, unless none is left.
    pub(super) fn take(&self, limit: u32, now: Duration) -> bool {
        // The second in the upper half, its lines in the lower.
        let second = now.as_secs() << 32;
        let take = |spent: u64| {
            let lines = match spent & !u64::from(u32::MAX) == second {
                true => spent & u64::from(u32::MAX),
                false => 0,
            };
            (lines < limit.into()).then_some(second | (lines + 1))
        };
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_lines_and_the_next_has_them_again() {
        let budget = LineBudget::default();
        let lines = |milliseconds: u64| {
            let now = Duration::from_millis(milliseconds);
            (0..9).filter(|_| budget.take(3, now)).count()
        };
        assert_eq!(
            (lines(0), lines(999), lines(1000), lines(5500)),
            (3, 0, 3, 3)
        );
        assert!(!budget.take(0, Duration::from_secs(9)));
    }
}
