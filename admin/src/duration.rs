//! Times on command lines.

use std::time::Duration;

/// A time such as `500ms`, `30s`, `2m` or `1h`.
///
/// # Errors
/// What to write instead.
pub fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    let parsed = units.iter().find_map(|(unit, milliseconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*milliseconds)
    });
    let parsed = parsed.map(Duration::from_millis);
    parsed.ok_or_else(|| "use a whole number and a unit: 500ms, 30s, 2m or 1h".into())
}

/// A time that something may take, or none: `0` and `off` set no limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TimeLimit(pub Option<Duration>);

/// A time limit, as [`duration`] reads times; `0` or `off` for none.
///
/// # Errors
/// What to write instead.
pub fn time_limit(text: &str) -> Result<TimeLimit, String> {
    if matches!(text, "0" | "off") {
        return Ok(TimeLimit(None));
    }
    let time = duration(text).map_err(|error| format!("{error}; or off for no limit"))?;
    Ok(TimeLimit(Some(time).filter(|time| !time.is_zero())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_no_time_is_none() {
        assert_eq!(
            time_limit("2m"),
            Ok(TimeLimit(Some(Duration::from_secs(120))))
        );
        for none in ["0", "0s", "off"] {
            assert_eq!(time_limit(none), Ok(TimeLimit(None)), "{none}");
        }
        assert!(time_limit("60").is_err_and(|error| error.ends_with("or off for no limit")));
    }

    #[test]
    fn times_need_a_number_and_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "30", "s", "-1s", "1.5s", "1d", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
