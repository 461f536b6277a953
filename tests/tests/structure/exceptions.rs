//! What breaks a rule today. Every entry must be about something that still does: once it
//! doesn't, the test asks to delete the entry. None is ever added.

/// How many files of a crate are in circles of modules: by its root.
pub(crate) const CIRCLES: &[(&str, usize)] = &[("node-agent/src/lib.rs", 8)];

/// Files with more lines before their tests than is allowed.
pub(crate) const LONG_FILES: &[&str] = &[];

/// Functions with more lines than is allowed: by file and name.
pub(crate) const LONG_FUNCTIONS: &[(&str, &str)] = &[(
    "proto/src/traffic_policy/tests.rs",
    "what_means_nothing_is_refused_by_the_name_of_its_field",
)];

/// What `model` names although it should not: by file and name.
pub(crate) const IMPURE: &[(&str, &str)] = &[];

/// Imports against a rule: by importing file and imported one.
pub(crate) const IMPORTS: &[(&str, &str)] = &[];

/// Asserts that what breaks a rule is what is known to.
pub(crate) fn assert_known<T: Clone + Ord + std::fmt::Debug>(
    broken: impl IntoIterator<Item = T>,
    known: impl IntoIterator<Item = T>,
    list: &str,
    advice: &str,
) {
    let mut broken: Vec<_> = broken.into_iter().collect();
    let mut known: Vec<_> = known.into_iter().collect();
    broken.sort();
    broken.dedup();
    known.sort();
    let new: Vec<_> = broken.iter().filter(|one| !known.contains(one)).collect();
    assert!(new.is_empty(), "{advice}:\n{new:#?}");
    let gone: Vec<_> = known.iter().filter(|one| !broken.contains(one)).collect();
    assert!(
        gone.is_empty(),
        "this is as it should be now: delete it from exceptions::{list}:\n{gone:#?}"
    );
}
