//! What all sidecars of a mesh have in common.

use crate::index::MeshSidecars;
use crate::kinds::{ProxyMode, SidecarSource, repository};

/// What all sidecars of a mesh have in common.
#[derive(Clone, Debug)]
pub(crate) struct InjectionOptions {
    pub(crate) image: String,
    /// As of Kubernetes: `Always`, `IfNotPresent` or `Never`.
    pub(crate) image_pull_policy: String,
    /// The address of the control plane, as a pod reaches it.
    pub(crate) control_plane: String,
    /// A name that the control plane's certificate has.
    pub(crate) control_plane_name: String,
    /// The audience that the control plane asks of their tokens.
    pub(crate) token_audience: String,
    /// The ConfigMap with the roots, in the pod's own namespace.
    pub(crate) root_config_map: String,
    /// The control plane's namespace, in which nothing is injected.
    pub(crate) mesh_namespace: String,
    /// The mode of pods that say none, nor their namespaces.
    pub(crate) mode: ProxyMode,
    /// The API server knows init containers that go on running (KEP-753).
    pub(crate) is_native: bool,
}

impl InjectionOptions {
    /// How these sidecars are known again.
    pub(crate) fn source(&self) -> SidecarSource {
        SidecarSource {
            repository: repository(&self.image).to_owned(),
            control_plane: self.control_plane.clone(),
            root_config_map: self.root_config_map.clone(),
        }
    }

    /// These sidecars, and no others.
    pub(crate) fn sidecars(&self) -> MeshSidecars {
        MeshSidecars(vec![self.source()])
    }

    /// Those of a mesh as it is installed, native, with that mode.
    pub(crate) fn with_mode(mode: ProxyMode) -> Self {
        Self {
            image: "weft/sidecar:0.1.0".to_owned(),
            image_pull_policy: "IfNotPresent".to_owned(),
            control_plane: "https://weft-control-plane.weft-system.svc:15010".to_owned(),
            control_plane_name: "weft-control-plane".to_owned(),
            token_audience: "weft-control-plane".to_owned(),
            root_config_map: "weft-root-certificates".to_owned(),
            mesh_namespace: "weft-system".to_owned(),
            mode,
            is_native: true,
        }
    }
}
