//! Slow start: the share of an endpoint that is new grows, so that caches fill and
//! connections open before the whole load comes.

use std::time::Duration;

/// Share that an endpoint gets at once. Nothing at all would be never to begin.
const INITIAL_WEIGHT: f64 = 0.1;

/// Weight of an endpoint that has been there for `age`, above 0 and up to 1; it is 1 from
/// `window` on.
pub fn slow_start_weight(window: Duration, age: Duration) -> f64 {
    if age >= window {
        return 1.0;
    }
    (age.as_secs_f64() / window.as_secs_f64()).max(INITIAL_WEIGHT)
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
