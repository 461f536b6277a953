//! One descriptor's hits, and the key that they are counted under.

use aws_lc_rs::digest::{SHA256, digest};
use weft_model::traffic::rate_limit::{Descriptor, RateLimitUnit};

/// Longest key that is kept as it is, in bytes; of a longer one, a part and its hash.
const LONGEST_KEY: usize = 200;
/// Bytes of a longer key that stay readable.
const READABLE: usize = 100;

/// Something to count.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Hit {
    /// The namespace whose policy asks; empty where nobody says.
    pub(super) tenant: String,
    /// The name of what is counted, with the unit, but not the window.
    pub(super) key: String,
    /// The length of its windows.
    pub(super) unit: RateLimitUnit,
    /// Hits to add; 0 only asks.
    pub(super) hits: u32,
}

/// The key that a descriptor is counted under: different for all that differ, and never long.
pub(super) fn key(domain: &str, descriptor: &Descriptor, unit: RateLimitUnit) -> String {
    let mut key = String::new();
    let mut add = |text: &str| {
        // With its length, so that no text runs into the next one.
        key += &text.len().to_string();
        key.push(':');
        key += text;
        key.push(',');
    };
    add(domain);
    add(unit.as_str());
    for (name, value) in &descriptor.entries {
        add(name);
        add(value);
    }
    if key.len() <= LONGEST_KEY {
        return key;
    }
    let hash = digest(&SHA256, key.as_bytes());
    let end = (0..=READABLE).rev().find(|end| key.is_char_boundary(*end));
    key.truncate(end.unwrap_or_default());
    // A whole key ends with a comma, so that this is none.
    key.push('~');
    for byte in hash.as_ref() {
        key += &format!("{byte:02x}");
    }
    key
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn descriptor(entries: &[(String, String)]) -> Descriptor {
        Descriptor {
            entries: entries.to_vec(),
        }
    }

    #[test]
    fn a_long_key_is_cut_and_still_its_own() {
        let long = |last: &str| {
            let value = "ä".repeat(9000) + last;
            key(
                "shop",
                &descriptor(&[("path".into(), value)]),
                RateLimitUnit::Day,
            )
        };
        assert!(long("a").len() <= LONGEST_KEY);
        assert!(long("a").starts_with("4:shop,3:day,4:path,"));
        assert_eq!(long("a"), long("a"));
        assert_ne!(long("a"), long("b"));
    }

    proptest! {
        #[test]
        fn different_things_have_different_keys(all in proptest::collection::vec(("[a:,1]{0,3}", proptest::collection::vec(("[a:,1]{0,3}", "[a:,1]{0,3}"), 0..3), 0..7_usize), 0..40)) {
            let mut known = HashMap::new();
            for (domain, entries, unit) in all {
                let key = key(&domain, &descriptor(&entries), RateLimitUnit::ALL[unit]);
                let this = (domain, entries, unit);
                prop_assert_eq!(known.entry(key).or_insert_with(|| this.clone()), &this);
            }
        }
    }
}
