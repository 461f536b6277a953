//! What breaks a rule today. Every entry must be about something that still does: once it
//! doesn't, the test asks to delete the entry. None is ever added.

/// How many files of a crate are in circles of modules: by its root.
pub(crate) const CIRCLES: &[(&str, usize)] = &[("control-plane/src/lib.rs", 41)];

/// Files with more lines before their tests than is allowed.
pub(crate) const LONG_FILES: &[&str] = &[
    "control-plane/src/api/traffic_policy.rs",
    "control-plane/src/index.rs",
];

/// Functions with more lines than is allowed: by file and name.
pub(crate) const LONG_FUNCTIONS: &[(&str, &str)] = &[
    ("control-plane/src/manifest.rs", "parse_document"),
    (
        "control-plane/src/manifest/external_service.rs",
        "what_could_not_be_followed_is_refused_by_its_field",
    ),
    ("control-plane/src/manifest/pod.rs", "read"),
    (
        "control-plane/src/manifest/traffic_policy/tests.rs",
        "everything_that_can_be_said_is_understood",
    ),
    (
        "control-plane/src/manifest/traffic_policy/tests.rs",
        "what_can_not_be_followed_is_named_by_its_field",
    ),
    ("control-plane/src/run.rs", "serve"),
];

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
