//! Lengths of time as the Gateway API writes them (GEP-2257): `1h`, `2m30s`, `500ms`.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The most digits of one part, and the most parts.
const DIGITS: usize = 5;
const PARTS: usize = 4;

/// The duration that a text such as `1h30m` or `500ms` is.
///
/// # Errors
/// When it isn't one.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let invalid = || format!("`{text}` is not a duration such as `500ms`, `10s` or `1h30m`");
    let mut rest = text;
    let mut sum = Duration::ZERO;
    for _ in 0..PARTS {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let number: u64 = match number.parse() {
            Ok(number) if digits <= DIGITS => number,
            _ => return Err(invalid()),
        };
        let letters = after.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, after) = after.split_at(letters);
        sum += match unit {
            "h" => Duration::from_secs(number * 3600),
            "m" => Duration::from_secs(number * 60),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            _ => return Err(invalid()),
        };
        rest = after;
        if rest.is_empty() {
            return Ok(sum);
        }
    }
    Err(invalid())
}

/// A length of time as it is written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Span(String);

/// What the schema lets through.
const PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

impl Span {
    /// Its length.
    ///
    /// # Errors
    /// When the text is no length of time.
    pub(crate) fn duration(&self) -> Result<Duration, String> {
        parse(&self.0)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_gep_2257_says() {
        for (text, milliseconds) in [
            ("0s", 0),
            ("0h0m0s", 0),
            ("1h", 3_600_000),
            ("00060m", 3_600_000),
            ("500ms", 500),
            ("10s30m1h", 5_410_000),
            ("100ms200ms300ms", 600),
        ] {
            assert_eq!(
                parse(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "1",
            "1m1",
            "1d",
            "1.5s",
            "-1s",
            "1h2m3s4ms5h",
            "100000s",
            "1 s",
            "s",
            "1S",
            "١s",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn parts_add_up(parts in prop::collection::vec((0u64..100_000, 0usize..4), 1..=PARTS)) {
            let units = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
            let text = parts.iter().map(|(n, unit)| format!("{n}{}", units[*unit].0));
            let sum = parts.iter().map(|(n, unit)| n * units[*unit].1).sum();
            prop_assert_eq!(parse(&text.collect::<String>()), Ok(Duration::from_millis(sum)));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
