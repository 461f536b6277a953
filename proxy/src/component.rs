//! The part of the mesh that a proxy runs in: the one label by which the telemetry of an agent and
//! of a sidecar differs.

/// The program that serves a pod.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Component {
    /// The agent of its node.
    #[default]
    NodeAgent,
    /// Its own sidecar.
    Sidecar,
}

impl Component {
    /// The value of the label `component`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NodeAgent => "node-agent",
            Self::Sidecar => "sidecar",
        }
    }
}
