//! Where the suite comes from.

/// Its Go module.
pub(super) const MODULE: &str = "sigs.k8s.io/gateway-api/conformance";
