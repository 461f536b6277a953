//! What all sidecars of a mesh have in common.

use crate::index::{AdmittedPod, MeshSidecars};
use crate::kinds::{NATIVE_SIDECARS, ProxyMode, SidecarSource, repository};

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
    pub(crate) shape: InjectedShape,
}

/// The shape of sidecars in their pods.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum InjectedShape {
    /// An init container that goes on running (KEP-753).
    Native,
    /// Native, but in pods that may land on a node whose kubelet doesn't know that.
    OfKubelets,
    /// A container beside the application's.
    Classic,
}

/// Minor versions by which a kubelet may be older than its API server
/// (<https://kubernetes.io/releases/version-skew-policy/>).
const SKEW: u32 = 3;

impl InjectedShape {
    /// The one for an API server of Kubernetes 1 with that minor version.
    pub(crate) fn of_api_server(minor: u32) -> Self {
        match minor {
            ..NATIVE_SIDECARS => Self::Classic,
            minor if minor < NATIVE_SIDECARS + SKEW => Self::OfKubelets,
            _ => Self::Native,
        }
    }

    /// A pod's sidecar is native.
    pub(super) fn is_native(self, pod: &AdmittedPod) -> bool {
        match self {
            Self::Native => true,
            Self::OfKubelets => !pod.may_meet_old_kubelet,
            Self::Classic => false,
        }
    }
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
            shape: InjectedShape::Native,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_follows_from_the_version_of_the_api_server() {
        for (minor, expected) in [
            (0, InjectedShape::Classic),
            (28, InjectedShape::Classic),
            (29, InjectedShape::OfKubelets),
            (31, InjectedShape::OfKubelets),
            (32, InjectedShape::Native),
            (36, InjectedShape::Native),
        ] {
            assert_eq!(InjectedShape::of_api_server(minor), expected, "1.{minor}");
        }
    }
}
