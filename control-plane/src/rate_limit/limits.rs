//! Which limit a descriptor has: configured trees of keys and values, walked as Envoy's
//! own server walks them.

use std::collections::HashMap;

use weft_model::traffic::rate_limit::{Descriptor, RequestLimit};

/// All configured limits, by domain.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Limits(pub(super) HashMap<String, Branches>);

/// Entries that may come next in a descriptor.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Branches {
    /// By key and value.
    exact: HashMap<(String, String), Node>,
    /// By key and a value with `*` in it, in the order they were written.
    patterns: Vec<(String, Pattern, Node)>,
    /// By key alone, for every value that has no branch of its own.
    any: HashMap<String, Node>,
}

/// One pair of a configured descriptor.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Node {
    /// The limit of descriptors that end here.
    pub(super) rule: Option<Rule>,
    /// All values that match its pattern share one count.
    pub(super) shared: bool,
    /// Entries that may come next.
    pub(super) next: Branches,
}

/// A configured limit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    /// `None`: unlimited.
    pub(crate) limit: Option<RequestLimit>,
    /// Its name; empty when it has none.
    pub(crate) name: String,
    /// Names of the rules that don't count where this one holds.
    pub(crate) replaces: Vec<String>,
    /// Counted, but nobody is refused.
    pub(crate) shadow: bool,
}

/// A value in which each `*` stands for anything.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Pattern {
    text: String,
    parts: Vec<String>,
}

/// The limit of one descriptor, and what it is counted under.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found<'a> {
    /// The rule.
    pub(crate) rule: &'a Rule,
    /// The descriptor, with patterns in place of values that share a count.
    pub(crate) counted: Descriptor,
}

impl Limits {
    /// Number of domains that have limits.
    pub(crate) fn domains(&self) -> usize {
        self.0.len()
    }

    /// The limit of a descriptor; `None` where it has none: only a descriptor that ends
    /// where the limit stands has that limit.
    pub(crate) fn find(&self, domain: &str, descriptor: &Descriptor) -> Option<Found<'_>> {
        let mut branches = self.0.get(domain)?;
        let mut counted = Vec::with_capacity(descriptor.entries.len());
        let mut last = None;
        for (key, value) in &descriptor.entries {
            let (node, shared_value) = branches.branch(key, value)?;
            let value = shared_value.unwrap_or(value);
            counted.push((key.clone(), value.to_owned()));
            branches = &node.next;
            last = Some(node);
        }
        let rule = last?.rule.as_ref()?;
        let counted = Descriptor { entries: counted };
        Some(Found { rule, counted })
    }
}

impl Branches {
    /// Adds a branch; `false` when there is one for the same key and value.
    #[must_use]
    pub(super) fn add(&mut self, key: &str, value: &str, node: Node) -> bool {
        if value.contains('*') {
            let known =
                |(k, pattern, _): &(String, Pattern, Node)| k == key && pattern.text == value;
            if self.patterns.iter().any(known) {
                return false;
            }
            self.patterns
                .push((key.to_owned(), Pattern::new(value), node));
            return true;
        }
        if value.is_empty() {
            return self.any.insert(key.to_owned(), node).is_none();
        }
        let pair = (key.to_owned(), value.to_owned());
        self.exact.insert(pair, node).is_none()
    }

    /// The branch of a pair, and the value that it shares a count under, if it does.
    fn branch(&self, key: &str, value: &str) -> Option<(&Node, Option<&str>)> {
        // Looked up by an owned pair: pairs are short, and this is one of many copies.
        if let Some(node) = self.exact.get(&(key.to_owned(), value.to_owned())) {
            return Some((node, None));
        }
        let matching =
            |(k, pattern, _): &&(String, Pattern, Node)| k == key && pattern.matches(value);
        if let Some((_, pattern, node)) = self.patterns.iter().find(matching) {
            return Some((node, node.shared.then_some(&*pattern.text)));
        }
        self.any.get(key).map(|node| (node, None))
    }
}

impl Pattern {
    fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            parts: text.split('*').map(str::to_owned).collect(),
        }
    }

    /// True when the parts are in the value in their order, the first one at its start and
    /// the last one at its end.
    fn matches(&self, value: &str) -> bool {
        let Some((first, rest)) = self.parts.split_first() else {
            return false;
        };
        let Some((last, middle)) = rest.split_last() else {
            return value == first;
        };
        let within = value.strip_prefix(first.as_str());
        let Some(mut left) = within.and_then(|left| left.strip_suffix(last.as_str())) else {
            return false;
        };
        for part in middle {
            match left.split_once(part.as_str()) {
                Some((_, after)) => left = after,
                None => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weft_model::traffic::rate_limit::RateLimitUnit;

    use super::*;
    use crate::rate_limit::file::parse;

    fn descriptor(pairs: &[(&str, &str)]) -> Descriptor {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Descriptor {
            entries: pairs.iter().map(owned).collect(),
        }
    }

    const LIMITS: &str = "
domain: shop
descriptors:
  - key: user
    rate_limit: { unit: second, requests_per_unit: 10 }
  - key: user
    value: ann
    rate_limit: { unit: minute, requests_per_unit: 3 }
    descriptors:
      - key: path
        value: /buy
        rate_limit: { unit: hour, requests_per_unit: 1 }
  - key: path
    value: /files/*
    share_threshold: true
    rate_limit: { unit: day, requests_per_unit: 7 }
  - key: path
    value: /api/*/admin
    rate_limit: { unit: day, requests_per_unit: 8 }
  - key: path
    descriptors:
      - key: method
        rate_limit: { unit: week, requests_per_unit: 9 }
";

    fn found(pairs: &[(&str, &str)]) -> Option<(u32, RateLimitUnit)> {
        let limits = parse(LIMITS).unwrap();
        let found = limits.find("shop", &descriptor(pairs))?;
        let limit = found.rule.limit.unwrap();
        Some((limit.requests, limit.unit))
    }

    #[test]
    fn the_most_specific_branch_is_taken() {
        assert_eq!(found(&[("user", "ann")]), Some((3, RateLimitUnit::Minute)));
        assert_eq!(found(&[("user", "bob")]), Some((10, RateLimitUnit::Second)));
        assert_eq!(found(&[("user", "")]), Some((10, RateLimitUnit::Second)));
        assert_eq!(
            found(&[("path", "/api/1/admin")]),
            Some((8, RateLimitUnit::Day))
        );
        assert_eq!(
            found(&[("user", "ann"), ("path", "/buy")]),
            Some((1, RateLimitUnit::Hour))
        );
        assert_eq!(
            found(&[("path", "/x"), ("method", "GET")]),
            Some((9, RateLimitUnit::Week))
        );
    }

    #[test]
    fn a_descriptor_that_ends_elsewhere_has_no_limit() {
        assert_eq!(found(&[("path", "/x")]), None, "no limit stands there");
        assert_eq!(found(&[("user", "bob"), ("path", "/buy")]), None);
        assert_eq!(found(&[("path", "/buy"), ("user", "ann")]), None, "order");
        assert_eq!(found(&[("other", "x")]), None);
        assert_eq!(found(&[]), None);
        let limits = parse(LIMITS).unwrap();
        assert_eq!(limits.find("other", &descriptor(&[("user", "ann")])), None);
    }

    #[test]
    fn values_share_a_count_only_where_told_to() {
        let limits = parse(LIMITS).unwrap();
        let counted = |value: &str| {
            let descriptor = descriptor(&[("path", value)]);
            limits.find("shop", &descriptor).unwrap().counted
        };
        assert_eq!(counted("/files/a"), counted("/files/b"));
        assert_ne!(counted("/api/1/admin"), counted("/api/2/admin"));
    }

    /// The same question, answered by trying everything.
    fn matches_slowly(pattern: &[u8], value: &[u8]) -> bool {
        match (pattern.split_first(), value.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => (0..=value.len()).any(|n| matches_slowly(rest, &value[n..])),
            (Some((a, pattern)), Some((b, value))) if a == b => matches_slowly(pattern, value),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn patterns_match_as_by_trying_everything(pattern in "[ab*]{0,6}", value in "[ab]{0,8}") {
            let slowly = matches_slowly(pattern.as_bytes(), value.as_bytes());
            prop_assert_eq!(Pattern::new(&pattern).matches(&value), slowly);
        }

        #[test]
        fn no_descriptor_is_too_odd(entries in proptest::collection::vec((".{0,4}", ".{0,4}"), 0..6)) {
            let limits = parse(LIMITS).unwrap();
            let descriptor = Descriptor { entries };
            if let Some(found) = limits.find("shop", &descriptor) {
                prop_assert_eq!(found.counted.entries.len(), descriptor.entries.len());
            }
        }
    }
}
