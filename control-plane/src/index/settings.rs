//! What holds for a pod: what it asks for, else its namespace, else the mesh; and never less than
//! the MeshConfig's floor.

use weft_model::access_log::AccessLogSettings;
use weft_model::authorization_policy::DefaultAuthorization;
use weft_model::egress::EgressMode;
use weft_model::idle::IdleLimits;
use weft_model::mtls::{MtlsMode, PortModes};
use weft_model::node_access::NodeAccessMode;
use weft_model::workload::CaptureExclusions;

use super::objects::Objects;
use super::sidecars::{MeshSidecars, counts, refusal};
use crate::kinds::{
    FieldError, MeshConfigObject, NamespaceFloor, NamespaceObject, PodSidecar, PodWishes,
    ProxyMode, SidecarWishes,
};

/// Everybody who has a say in what holds for a pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) pod: &'a PodWishes,
    pub(super) namespace_name: &'a str,
    pub(super) namespace: Option<&'a NamespaceObject>,
    pub(super) config: Option<&'a MeshConfigObject>,
    /// Its node has captured it.
    pub(super) is_captured: bool,
    /// The proxy that it brings along.
    pub(super) sidecar: &'a PodSidecar,
    /// Those that this mesh injects.
    pub(super) sidecars: &'a MeshSidecars,
}

impl<'a> Asked<'a> {
    /// A pod that brings no proxy along and isn't captured, with what is known of its namespace
    /// and the mesh.
    pub(super) fn of(pod: &'a PodWishes, namespace: &'a str, objects: &'a Objects) -> Self {
        Self {
            pod,
            namespace_name: namespace,
            namespace: objects.namespace(namespace),
            config: objects.mesh_config(),
            is_captured: false,
            sidecar: &PodSidecar::None,
            sidecars: &objects.sidecars,
        }
    }

    /// The same of a pod that brings that one along.
    pub(super) fn with_sidecar(self, sidecar: &'a PodSidecar) -> Self {
        Self { sidecar, ..self }
    }
}

/// What holds for a pod.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    /// It is to be in the mesh.
    pub(super) is_in: bool,
    pub(super) mtls_mode: MtlsMode,
    pub(super) port_modes: PortModes,
    pub(super) node_access: NodeAccessMode,
    pub(super) egress_mode: EgressMode,
    pub(super) idle_limits: IdleLimits,
    pub(super) access_log: AccessLogSettings,
    pub(super) exclusions: CaptureExclusions,
    pub(super) default_authorization: DefaultAuthorization,
    /// The proxy that it or its namespace asks for.
    pub(super) mode: Option<ProxyMode>,
    /// What it asks of its sidecar, where it has one.
    pub(super) sidecar: SidecarWishes,
    /// Its proxy is the sidecar that it brings along.
    pub(super) is_sidecar: bool,
    /// It can't leave the mesh.
    pub(super) forbids_opt_out: bool,
    /// What it asks for without effect.
    pub(super) refused: Vec<FieldError>,
}

impl Asked<'_> {
    /// What may reach a pod that no ALLOW policy selects.
    fn default_authorization(&self, floor: &NamespaceFloor) -> DefaultAuthorization {
        let of_namespace = self
            .namespace
            .map(|namespace| namespace.default_authorization);
        let of_mesh = self.config.map(|config| config.default_authorization);
        let asked = of_namespace.flatten().or(of_mesh.flatten());
        asked.unwrap_or_default().max(floor.default_authorization)
    }
}

/// The floor of a namespace, which may be one that isn't known.
pub(super) fn floor(
    name: &str,
    namespace: Option<&NamespaceObject>,
    config: Option<&MeshConfigObject>,
) -> NamespaceFloor {
    let Some(config) = config else {
        return NamespaceFloor::default();
    };
    match namespace {
        Some(namespace) => config.floor.of_namespace(name, &namespace.labels),
        None => config.floor.of_namespace(name, &Default::default()),
    }
}

impl Settings {
    /// The decision.
    pub(super) fn new(asked: Asked<'_>) -> Self {
        let Asked {
            pod,
            namespace,
            config,
            ..
        } = asked;
        let floor = floor(asked.namespace_name, namespace, config);
        let is_namespace_in = is_namespace_in(namespace, &floor);
        let is_in = is_in(&asked, &floor, is_namespace_in);
        let mtls_mode = pod
            .mtls_mode
            .or_else(|| namespace.and_then(|namespace| namespace.mtls_mode))
            .or_else(|| config.and_then(|config| config.mtls_mode))
            .unwrap_or_default();
        let node_access = pod
            .node_access
            .or_else(|| namespace.and_then(|namespace| namespace.node_access))
            .filter(|asked| floor.allows_node_access(*asked))
            .or_else(|| config.and_then(|config| config.node_access))
            .unwrap_or_default();
        let egress_mode = namespace
            .and_then(|namespace| namespace.egress_mode)
            .or_else(|| config.and_then(|config| config.egress_mode))
            .unwrap_or_default()
            .max(floor.egress_mode);
        let limits = namespace.map(|namespace| namespace.idle_limits);
        let idle_limits = pod
            .idle_limits
            .or(limits.unwrap_or_default())
            .or(config.map(|config| config.idle_limits).unwrap_or_default());
        // Whoever isn't in asks for nothing.
        let is_sidecar = counts(asked.sidecar, asked.sidecars, &floor, egress_mode);
        let mut refused = match is_in {
            true => floor.refused_of_pod(pod, egress_mode, is_namespace_in),
            false => Vec::new(),
        };
        refused.extend(refusal(asked.sidecar).filter(|_| is_in && !is_sidecar));
        Self {
            is_in,
            mtls_mode: mtls_mode.max(floor.mtls_mode),
            port_modes: pod.port_modes.at_least(floor.mtls_mode),
            node_access,
            egress_mode,
            idle_limits,
            access_log: access_log(is_in, namespace, config),
            exclusions: floor.allowed_exclusions(&pod.exclusions, egress_mode),
            default_authorization: asked.default_authorization(&floor),
            mode: floor.allowed_mode(
                pod.mode
                    .or_else(|| namespace.and_then(|namespace| namespace.mode)),
            ),
            sidecar: floor.allowed_of_sidecar(&pod.sidecar),
            is_sidecar,
            forbids_opt_out: floor.forbids_opt_out,
            refused,
        }
    }
}

/// The pods of a namespace are in the mesh unless they say otherwise.
fn is_namespace_in(namespace: Option<&NamespaceObject>, floor: &NamespaceFloor) -> bool {
    floor.is_enrolled || namespace.and_then(|namespace| namespace.mesh) == Some(true)
}

/// The pod is to be in the mesh.
fn is_in(asked: &Asked<'_>, floor: &NamespaceFloor, is_namespace_in: bool) -> bool {
    let Asked { pod, namespace, .. } = asked;
    let of_namespace = match is_namespace_in {
        true => Some(true),
        false => namespace.and_then(|namespace| namespace.mesh),
    };
    let opts_out = pod.mesh == Some(false);
    let opted_in = match opts_out && floor.forbids_opt_out && is_namespace_in {
        true => of_namespace,
        false => pod.mesh.or(of_namespace),
    };
    // Of a choice that was never readable we know how it was followed.
    let is_unreadable =
        pod.is_mesh_unreadable || namespace.is_some_and(|namespace| namespace.is_mesh_unreadable);
    opted_in.unwrap_or(is_unreadable && asked.is_captured)
}

/// A namespace's choices for the access log, and the mesh's for what it leaves open; whoever isn't
/// in needs none.
fn access_log(
    is_in: bool,
    namespace: Option<&NamespaceObject>,
    config: Option<&MeshConfigObject>,
) -> AccessLogSettings {
    let settings = namespace.map(|namespace| namespace.access_log.clone());
    let settings = settings.unwrap_or_default();
    match config {
        _ if !is_in => AccessLogSettings::default(),
        Some(config) => settings.or(&config.access_log),
        None => settings,
    }
}
