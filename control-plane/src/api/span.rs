//! Lengths of time as the Gateway API writes them (GEP-2257): `1h`, `2m30s`, `500ms`.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A length of time as it is written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Span(String);

/// A text that is no length of time.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` is no duration: up to four numbers of up to five digits, each with h, m, s or ms, such as 1m30s"
)]
pub(crate) struct InvalidSpan(String);

/// What the schema lets through.
const PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

impl Span {
    /// How long it is.
    pub(crate) fn duration(&self) -> Result<Duration, InvalidSpan> {
        let invalid = || InvalidSpan(self.0.clone());
        let mut rest = self.0.as_str();
        let mut total = Duration::ZERO;
        let mut parts = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit());
            let (number, after) = rest.split_at(digits.ok_or_else(invalid)?);
            let unit = after.find(|c: char| !c.is_ascii_alphabetic());
            let (unit, after) = after.split_at(unit.unwrap_or(after.len()));
            let millis = match unit {
                "h" => 3_600_000,
                "m" => 60_000,
                "s" => 1000,
                "ms" => 1,
                _ => return Err(invalid()),
            };
            let number = Some(number).filter(|number| number.len() <= 5);
            let number = number.and_then(|number| number.parse::<u64>().ok());
            total += Duration::from_millis(number.ok_or_else(invalid)? * millis);
            parts += 1;
            rest = after;
        }
        match parts {
            1..=4 => Ok(total),
            _ => Err(invalid()),
        }
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
    use super::*;

    #[test]
    fn durations_are_read_as_the_gateway_api_writes_them() {
        let read = |text: &str| Span(text.to_owned()).duration();
        for (text, millis) in [
            ("0s", 0),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("10s30m1h", 5_410_000),
            ("99999h", 99_999 * 3_600_000),
        ] {
            assert_eq!(read(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "1",
            "s",
            "1d",
            "1.5s",
            "-1s",
            "1 s",
            "100000s",
            "1s1s1s1s1s",
            "1h1",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
