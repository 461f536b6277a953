//! Sidecars that pods bring along, and those that count.
//!
//! Whoever may make pods may call a container `weft-proxy`, so that the node's agent leaves the pod
//! alone. Where the floor lets no pod leave the mesh, only what Weft's own webhook would have
//! written counts, with no more past it than the floor allows.

use weft_model::egress::EgressMode;

use crate::kinds::{FieldError, NamespaceFloor, PROXY_CONTAINER, PodSidecar, SidecarSource};

/// The sidecars that a mesh injects, and those that it injected before; any when empty, as in a
/// directory.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct MeshSidecars(pub(crate) Vec<SidecarSource>);

/// The pod's proxy is the sidecar that it brings along.
pub(super) fn counts(
    sidecar: &PodSidecar,
    of_mesh: &MeshSidecars,
    floor: &NamespaceFloor,
    egress_mode: EgressMode,
) -> bool {
    match sidecar {
        PodSidecar::None => false,
        PodSidecar::ByHand(_) => !floor.forbids_opt_out,
        PodSidecar::Injected(_) if !floor.forbids_opt_out => true,
        PodSidecar::Injected(injected) => {
            let allowed = floor.allowed_exclusions(&injected.exclusions, egress_mode);
            of_mesh.made(&injected.source)
                && allowed == injected.exclusions
                && injected.excluded_inbound_ports.is_empty()
                && injected.excluded_inbound_blocks.is_empty()
        }
    }
}

/// The reason that a pod's sidecar doesn't count.
pub(super) fn refusal(sidecar: &PodSidecar) -> Option<FieldError> {
    let message = "the MeshConfig's spec.floor.optOut lets only a sidecar that Weft injects take \
                   the place of the node's agent, without exclusions that the floor doesn't allow: \
                   no effect";
    let field = format!("spec.containers[{PROXY_CONTAINER}]");
    match sidecar {
        PodSidecar::None => None,
        PodSidecar::ByHand(problem) => {
            let message = format!("{message} ({}: {})", problem.field, problem.message);
            Some(FieldError::new(field, message))
        }
        PodSidecar::Injected(injected) => {
            let SidecarSource {
                repository,
                control_plane,
                ..
            } = &injected.source;
            let message = format!("{message} (image {repository}, control plane {control_plane})");
            Some(FieldError::new(field, message))
        }
    }
}

impl MeshSidecars {
    fn made(&self, source: &SidecarSource) -> bool {
        self.0.is_empty() || self.0.contains(source)
    }
}
