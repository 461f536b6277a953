//! Sliding windows: two counts over the time that has just passed.

use std::time::{Duration, Instant};

/// Number of parts of a window. What is counted is forgotten part by part, so a count is of
/// a window that is up to a tenth shorter than it should be, never longer.
const PARTS: u64 = 10;

/// Two counts over a sliding window. Its length is given with each call, so that it may
/// change; it begins anew then.
#[derive(Clone, Debug, Default)]
pub struct SlidingWindow {
    began: Option<Instant>,
    length: Duration,
    newest: u64,
    parts: [[u32; 2]; PARTS as usize],
}

impl SlidingWindow {
    /// Adds to both counts.
    pub fn add(&mut self, counts: [u32; 2], length: Duration, now: Instant) {
        self.advance(length, now);
        if let Some(part) = self.part(self.newest) {
            for (sum, count) in part.iter_mut().zip(counts) {
                *sum = sum.saturating_add(count);
            }
        }
    }

    /// Both counts over the window that ends now.
    pub fn sums(&mut self, length: Duration, now: Instant) -> [u32; 2] {
        self.advance(length, now);
        let add =
            |[a, b]: [u32; 2], [c, d]: &[u32; 2]| [a.saturating_add(*c), b.saturating_add(*d)];
        self.parts.iter().fold([0; 2], add)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Forgets what has left the window. A `now` before that of an earlier call counts
    /// as the earlier one's.
    fn advance(&mut self, length: Duration, now: Instant) {
        let began = match self.began {
            Some(began) if self.length == length => began,
            _ => {
                *self = Self {
                    began: Some(now),
                    length,
                    ..Self::default()
                };
                return;
            }
        };
        let part = (length.as_nanos() / u128::from(PARTS)).max(1);
        let passed = now.saturating_duration_since(began).as_nanos() / part;
        let number = u64::try_from(passed).unwrap_or(u64::MAX);
        let over = number.saturating_sub(self.newest).min(PARTS);
        for past in 0..over {
            if let Some(part) = self.part(number - past) {
                *part = [0; 2];
            }
        }
        self.newest = self.newest.max(number);
    }

    fn part(&mut self, number: u64) -> Option<&mut [u32; 2]> {
        let index = usize::try_from(number % PARTS).ok()?;
        self.parts.get_mut(index)
    }
}

/// Whether failures make up `ratio` (0 to 1) of the outcomes or more, among at least
/// `minimum` of them.
pub(crate) fn exceeds_failure_ratio(
    [successes, failures]: [u32; 2],
    ratio: f64,
    minimum: u32,
) -> bool {
    let all = successes.saturating_add(failures);
    all > 0 && all >= minimum && f64::from(failures) >= ratio * f64::from(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LENGTH: Duration = Duration::from_secs(10);

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let (mut window, began) = (SlidingWindow::default(), Instant::now());
        window.add([3, 1], LENGTH, began);
        window.add([1, 1], LENGTH, began + Duration::from_secs(5));
        assert_eq!(window.sums(LENGTH, began + Duration::from_secs(9)), [4, 2]);
        assert_eq!(window.sums(LENGTH, began + Duration::from_secs(10)), [1, 1]);
        assert_eq!(window.sums(LENGTH, began + Duration::from_secs(99)), [0, 0]);
    }

    #[test]
    fn a_window_of_another_length_begins_anew() {
        let (mut window, began) = (SlidingWindow::default(), Instant::now());
        window.add([3, 1], LENGTH, began);
        assert_eq!(window.sums(LENGTH * 2, began), [0, 0]);
        window.add([3, 1], LENGTH * 2, began);
        window.clear();
        assert_eq!(window.sums(LENGTH * 2, began), [0, 0]);
    }

    proptest! {
        /// Against the list of everything that was ever counted.
        #[test]
        fn a_sum_is_of_the_window_less_a_part_of_it(
            steps in prop::collection::vec((0u64..3_000, 0u32..5, 0u32..5), 1..60),
        ) {
            let (mut window, began) = (SlidingWindow::default(), Instant::now());
            let mut all: Vec<(u64, [u32; 2])> = Vec::new();
            let mut now = 0;
            for (wait, a, b) in steps {
                now += wait;
                let at = began + Duration::from_millis(now);
                window.add([a, b], LENGTH, at);
                all.push((now, [a, b]));
                let sum = |from: u64, column: usize| -> u32 {
                    all.iter().filter(|(t, _)| *t > from || from == 0).map(|(_, c)| c[column]).sum()
                };
                let sums = window.sums(LENGTH, at);
                for (column, found) in sums.into_iter().enumerate() {
                    prop_assert!(found <= sum(now.saturating_sub(10_000), column));
                    prop_assert!(found >= sum(now.saturating_sub(9_000), column));
                }
            }
        }
    }
}
