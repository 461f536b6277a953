use proptest::prelude::*;

use super::*;

/// A record with these values.
#[derive(Debug, Default)]
struct Seen {
    status: Option<u64>,
    duration: Option<u64>,
    flags: &'static str,
    path: Option<String>,
}

impl FilteredRecord for Seen {
    fn number(&self, field: NumberField) -> Option<u64> {
        match field {
            NumberField::Status => self.status,
            NumberField::Duration => self.duration,
            _ => None,
        }
    }

    fn text(&self, field: TextField) -> Option<&str> {
        match field {
            TextField::Flags => Some(self.flags),
            TextField::Path => self.path.as_deref(),
            _ => None,
        }
    }
}

fn matches(filter: &str, record: &Seen) -> bool {
    Filter::parse(filter).unwrap().matches(record)
}

#[test]
fn expressions_bind_as_they_are_documented() {
    let record = Seen {
        status: Some(503),
        duration: Some(1500),
        flags: "CONNECT",
        path: Some("/api/\"quoted\"".into()),
    };
    for (filter, expected) in [
        ("status >= 500 or duration > 1s or flags != \"\"", true),
        ("status == 503", true),
        ("status<503", false),
        ("status <= 503 and status >= 503 and status != 504", true),
        ("duration > 1ms and duration < 2ms", true),
        ("duration >= 1500us", true),
        ("duration > 1m", false),
        // `and` binds closer than `or`, `not` closer than both.
        ("status == 503 or status == 1 and status == 2", true),
        ("(status == 503 or status == 1) and status == 2", false),
        ("not status == 1 and status == 503", true),
        ("not (status == 503)", false),
        (
            "path starts_with \"/api/\" and path contains \"\\\"quoted\"",
            true,
        ),
        ("flags == \"CONNECT\"", true),
        // What it doesn't have.
        ("grpc_status == 0", false),
        ("grpc_status != 0", true),
        ("method == \"GET\"", false),
        ("method != \"GET\"", true),
    ] {
        assert_eq!(matches(filter, &record), expected, "{filter}");
    }
}

#[test]
fn a_text_that_is_no_filter_is_refused_with_its_place() {
    for (filter, error) in [
        ("", "at character 1: expected a field"),
        ("status", "at character 7: expected a comparison"),
        ("status >> 500", "at character 9: expected a number"),
        ("status >= ", "at character 11: expected a number"),
        ("duration > 1", "at character 13: expected a unit"),
        ("duration > 99999999999999999999s", "expected a number"),
        (
            "duration > 9999999999999999999m",
            "expected a smaller number",
        ),
        ("colour == 1", "at character 1: expected a field"),
        (
            "status == 1 status == 2",
            "at character 13: expected `and`, `or`, or the end",
        ),
        ("(status == 1", "at character 13: expected `)`"),
        ("flags == \"open", "expected a closing"),
        ("flags == open", "at character 10: expected a text"),
        ("status contains 5", "at character 8: expected a comparison"),
    ] {
        let refused = Filter::parse(filter).unwrap_err().to_string();
        assert!(refused.contains(error), "{filter}: {refused}");
    }
    let long = format!("path == \"{}\"", "a".repeat(LONGEST));
    assert_eq!(Filter::parse(&long), Err(FilterError::TooLong));
    let deep = format!("{}status == 1{}", "(".repeat(400), ")".repeat(400));
    let refused = Filter::parse(&deep).unwrap_err().to_string();
    assert!(refused.contains("fewer parentheses"), "{refused}");
}

/// An expression, and whether a record with status 200 fulfils it.
fn expression() -> impl Strategy<Value = (String, bool)> {
    let number = (0..400_u64, 0..6_usize).prop_map(|(value, sign)| {
        let (sign, holds) = [
            ("==", 200 == value),
            ("!=", 200 != value),
            ("<", 200 < value),
            ("<=", 200 <= value),
            (">", 200 > value),
            (">=", 200 >= value),
        ][sign];
        (format!("status {sign} {value}"), holds)
    });
    number.prop_recursive(4, 20, 2, |inner| {
        let (a, b) = (inner.clone(), inner.clone());
        prop_oneof![
            (a, b).prop_map(|(a, b)| (format!("({}) and ({})", a.0, b.0), a.1 && b.1)),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| (format!("({}) or ({})", a.0, b.0), a.1 || b.1)),
            inner.prop_map(|a| (format!("not ({})", a.0), !a.1)),
        ]
    })
}

proptest! {
    #[test]
    fn any_expression_says_what_its_parts_say((filter, expected) in expression()) {
        prop_assume!(filter.len() <= LONGEST);
        let record = Seen { status: Some(200), ..Seen::default() };
        prop_assert_eq!(matches(&filter, &record), expected, "{}", filter);
    }

    #[test]
    fn any_text_is_a_filter_or_none(text in "[a-z_.\"\\\\ ()<>=!0-9é]{0,60}") {
        if let Ok(filter) = Filter::parse(&text) {
            prop_assert_eq!(filter.to_string(), text);
            let _ = filter.matches(&Seen::default());
        }
    }

    #[test]
    fn any_quoted_text_is_taken_as_it_is(text in "\\PC{0,40}") {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        let record = Seen { path: Some(text), ..Seen::default() };
        let filter = format!("path == \"{quoted}\"");
        prop_assert!(matches(&filter, &record), "{}", filter);
    }
}
