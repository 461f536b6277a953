//! The share of an endpoint that is new: it grows, so that caches fill and connections
//! open before the whole load comes.

use std::time::Duration;

/// What an endpoint gets at once. Nothing at all would be never to begin.
const LEAST: f64 = 0.1;

/// The weight of an endpoint that has been there for `since`, above 0 and up to 1.
pub fn slow_start_weight(window: Duration, since: Duration) -> f64 {
    if since >= window {
        return 1.0;
    }
    (since.as_secs_f64() / window.as_secs_f64()).max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_secs(30);

    #[test]
    fn it_grows_from_a_tenth_to_the_whole() {
        assert!((slow_start_weight(WINDOW, Duration::ZERO) - 0.1).abs() < f64::EPSILON);
        assert!((slow_start_weight(WINDOW, WINDOW / 2) - 0.5).abs() < f64::EPSILON);
        assert!((slow_start_weight(WINDOW, WINDOW) - 1.0).abs() < f64::EPSILON);
        assert!((slow_start_weight(Duration::ZERO, Duration::ZERO) - 1.0).abs() < f64::EPSILON);
    }

    proptest! {
        #[test]
        fn it_never_falls(window in 0u64..100, a in 0u64..200, b in 0u64..200) {
            let window = Duration::from_secs(window);
            let [earlier, later] = [a.min(b), a.max(b)].map(|s| slow_start_weight(window, Duration::from_secs(s)));
            prop_assert!(earlier <= later && earlier > 0.0 && later <= 1.0);
        }
    }
}
