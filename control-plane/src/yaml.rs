//! YAML as Kubernetes' own tools read it.

/// YAML 1.2: a node may be named `n` without being
/// taken for `false`. The size of a file is bounded by whoever reads it.
pub(crate) fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_documents: 100_000,
            max_nodes: 10_000_000,
            max_events: 30_000_000,
        },
    }
}
