//! Targets of backends and of mirrors.

use std::sync::Arc;

use crate::name::NamespacedName;

/// Target of a backend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BackendTarget {
    /// A port of a Service. Routes that are attached to it play no part.
    Service {
        /// Namespace and name of the Service.
        service: NamespacedName,
        /// Port of the Service.
        port: u16,
    },
    /// No target: its share of the requests fails.
    Invalid {
        /// What is wrong with the reference.
        reason: Arc<str>,
    },
}
