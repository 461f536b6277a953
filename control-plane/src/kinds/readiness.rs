//! Whether an endpoint takes connections, as Kubernetes says of pods and of slices.

/// An endpoint's share of a Service's new connections, from best to worst.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Readiness {
    /// Like any other.
    Ready,
    /// Some where no endpoint is ready: it is on its way out and still serves (KEP-1669).
    ServesWhileTerminating,
    /// None.
    NotReady,
}

impl Readiness {
    /// Of an endpoint that serves or not, and is on its way out or not.
    pub(crate) fn new(is_serving: bool, is_terminating: bool) -> Self {
        match (is_serving, is_terminating) {
            (true, false) => Self::Ready,
            (true, true) => Self::ServesWhileTerminating,
            (false, _) => Self::NotReady,
        }
    }
}
