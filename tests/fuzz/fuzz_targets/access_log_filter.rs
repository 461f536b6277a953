//! Filters of the access log: any text is one or none, and one looks at any record.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_model::access_log::filter::{Filter, FilteredRecord, NumberField, TextField};

struct Record<'a>(Option<u64>, Option<&'a str>);

impl FilteredRecord for Record<'_> {
    fn number(&self, _: NumberField) -> Option<u64> {
        self.0
    }

    fn text(&self, _: TextField) -> Option<&str> {
        self.1
    }
}

fuzz_target!(|input: (&str, Option<u64>, Option<&str>)| {
    let (text, number, value) = input;
    if let Ok(filter) = Filter::parse(text) {
        assert_eq!(filter.to_string(), text);
        let record = Record(number, value);
        assert_eq!(filter.matches(&record), filter.matches(&record));
    }
});
