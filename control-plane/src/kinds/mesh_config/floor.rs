//! The floor of a MeshConfig: what labels and annotations of namespaces and pods can't go below,
//! whoever may write them.

use std::ops::RangeInclusive;

use weft_model::address::AddressBlock;
use weft_model::authorization_policy::DefaultAuthorization;
use weft_model::egress::EgressMode;
use weft_model::mtls::MtlsMode;
use weft_model::node_access::NodeAccessMode;
use weft_model::workload::CaptureExclusions;

use super::namespace_selector::{EnrolledNamespaces, NamespaceSelector};
use super::schema::{
    ExclusionsSpec, FloorExceptionSpec, FloorSpec, NamespaceSelectorSpec, OptOutSpec,
};
use crate::kinds::annotations::{self, Texts};
use crate::kinds::field_error::FieldError;
use crate::kinds::{NamespaceObject, PodWishes, ProxyMode, SidecarCapture, SidecarWishes};

/// The floor of all namespaces.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Floor {
    enrolled: Option<NamespaceSelector>,
    rules: Rules,
    exceptions: Vec<(NamespaceSelector, Rules)>,
}

/// What a floor says, as far as it says something.
#[derive(Clone, Debug, Default, PartialEq)]
struct Rules {
    mtls_mode: Option<MtlsMode>,
    egress_mode: Option<EgressMode>,
    opt_out: Option<OptOutSpec>,
    exclusions: Option<AllowedExclusions>,
    default_authorization: Option<DefaultAuthorization>,
}

/// Outbound traffic that pods may exclude from capture.
#[derive(Clone, Debug, Default, PartialEq)]
struct AllowedExclusions {
    ports: Vec<RangeInclusive<u16>>,
    blocks: Vec<AddressBlock>,
}

/// The floor of one namespace.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NamespaceFloor {
    /// Its pods are in the mesh, whatever its label says.
    pub(crate) is_enrolled: bool,
    /// The weakest mTLS mode.
    pub(crate) mtls_mode: MtlsMode,
    /// The weakest egress mode.
    pub(crate) egress_mode: EgressMode,
    /// Its pods can't leave the mesh.
    pub(crate) forbids_opt_out: bool,
    exclusions: Option<AllowedExclusions>,
    /// The most open default authorization.
    pub(crate) default_authorization: DefaultAuthorization,
}

impl Default for NamespaceFloor {
    /// No floor.
    fn default() -> Self {
        Floor::default().of_namespace("", &Texts::new())
    }
}

impl Floor {
    /// Reads it.
    pub(super) fn parse(spec: FloorSpec) -> Result<Self, FieldError> {
        let enrolled = spec.enrolled_namespaces.as_ref();
        let enrolled = enrolled
            .map(|spec| NamespaceSelector::parse("spec.floor.enrolledNamespaces", spec))
            .transpose()?;
        let exceptions = spec.exceptions.iter().enumerate();
        let exceptions = exceptions.map(|(index, spec)| {
            let path = format!("spec.floor.exceptions[{index}]");
            let namespaces = format!("{path}.namespaces");
            let namespaces = NamespaceSelector::parse(&namespaces, &spec.namespaces)?;
            Ok((namespaces, Rules::parse(&path, spec)?))
        });
        let exceptions = exceptions.collect::<Result<_, FieldError>>()?;
        let everywhere = FloorExceptionSpec {
            namespaces: NamespaceSelectorSpec::default(),
            mtls_mode: spec.mtls_mode,
            egress_mode: spec.egress_mode,
            opt_out: spec.opt_out,
            exclusions: spec.exclusions,
            default_authorization: spec.default_authorization,
        };
        Ok(Self {
            enrolled,
            rules: Rules::parse("spec.floor", &everywhere)?,
            exceptions,
        })
    }

    /// The namespaces that it enrols: any of these.
    pub(crate) fn enrolled(&self) -> Vec<EnrolledNamespaces> {
        let enrolled = self.enrolled.as_ref();
        enrolled
            .map(NamespaceSelector::expressions)
            .unwrap_or_default()
    }

    /// Nothing goes below the strictest modes.
    pub(super) fn strictest() -> Self {
        Self {
            rules: Rules {
                mtls_mode: Some(MtlsMode::Strict),
                egress_mode: Some(EgressMode::RegisteredOnly),
                opt_out: Some(OptOutSpec::Forbidden),
                exclusions: Some(AllowedExclusions::default()),
                default_authorization: Some(DefaultAuthorization::Deny),
            },
            ..Self::default()
        }
    }

    /// The floor of a namespace with these labels.
    pub(crate) fn of_namespace(&self, name: &str, labels: &Texts) -> NamespaceFloor {
        let mut exceptions = self.exceptions.iter();
        let exception = exceptions.find(|(namespaces, _)| namespaces.matches(name, labels));
        let rules = exception.map(|(_, rules)| rules);
        let own = rules.unwrap_or(&self.rules);
        let exclusions = own.exclusions.as_ref().or(self.rules.exclusions.as_ref());
        let opt_out = own.opt_out.or(self.rules.opt_out);
        let default_authorization = own.default_authorization;
        let default_authorization = default_authorization.or(self.rules.default_authorization);
        NamespaceFloor {
            is_enrolled: (self.enrolled.as_ref())
                .is_some_and(|namespaces| namespaces.matches(name, labels)),
            mtls_mode: (own.mtls_mode.or(self.rules.mtls_mode)).unwrap_or(MtlsMode::Disabled),
            egress_mode: (own.egress_mode.or(self.rules.egress_mode)).unwrap_or_default(),
            forbids_opt_out: opt_out == Some(OptOutSpec::Forbidden),
            exclusions: exclusions.cloned(),
            default_authorization: default_authorization.unwrap_or_default(),
        }
    }
}

impl Rules {
    fn parse(path: &str, spec: &FloorExceptionSpec) -> Result<Self, FieldError> {
        let exclusions = spec.exclusions.as_ref();
        let exclusions =
            exclusions.map(|spec| AllowedExclusions::parse(&format!("{path}.exclusions"), spec));
        Ok(Self {
            mtls_mode: spec.mtls_mode.map(MtlsMode::from),
            egress_mode: spec.egress_mode.map(EgressMode::from),
            opt_out: spec.opt_out,
            exclusions: exclusions.transpose()?,
            default_authorization: spec.default_authorization.map(DefaultAuthorization::from),
        })
    }
}

impl AllowedExclusions {
    fn parse(path: &str, spec: &ExclusionsSpec) -> Result<Self, FieldError> {
        let ports = spec.ports.iter().enumerate().map(|(index, text)| {
            let range = port_range(text);
            range.ok_or_else(|| {
                let message = format!("`{text}` is neither a port nor a range such as 8000-8999");
                FieldError::new(format!("{path}.ports[{index}]"), message)
            })
        });
        let blocks = spec.cidrs.iter().enumerate().map(|(index, text)| {
            let block = text.parse::<AddressBlock>();
            block.map_err(|error| FieldError::new(format!("{path}.cidrs[{index}]"), error))
        });
        Ok(Self {
            ports: ports.collect::<Result<_, _>>()?,
            blocks: blocks.collect::<Result<_, _>>()?,
        })
    }

    fn has_port(&self, port: u16) -> bool {
        self.ports.iter().any(|range| range.contains(&port))
    }

    fn has_block(&self, block: &AddressBlock) -> bool {
        self.blocks.iter().any(|known| known.contains_block(block))
    }
}

fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
    (0 < first && first <= last).then_some(first..=last)
}

impl NamespaceFloor {
    /// The part of a pod's exclusions that is followed where that egress mode holds.
    pub(crate) fn allowed_exclusions(
        &self,
        exclusions: &CaptureExclusions,
        egress_mode: EgressMode,
    ) -> CaptureExclusions {
        let allowed = match (&self.exclusions, egress_mode) {
            (None, EgressMode::AllowAny) => return exclusions.clone(),
            // They would lead around it.
            (None, EgressMode::RegisteredOnly) => return CaptureExclusions::default(),
            (Some(allowed), _) => allowed,
        };
        let ports = exclusions.ports.iter().copied();
        let blocks = exclusions.blocks.iter().copied();
        CaptureExclusions {
            ports: ports.filter(|port| allowed.has_port(*port)).collect(),
            blocks: blocks.filter(|block| allowed.has_block(block)).collect(),
        }
    }

    /// The wishes of a pod that have no effect, of a namespace that is in the mesh or not, where
    /// that egress mode holds.
    pub(crate) fn refused_of_pod(
        &self,
        wishes: &PodWishes,
        egress_mode: EgressMode,
        is_namespace_in: bool,
    ) -> Vec<FieldError> {
        let mut refused = Vec::new();
        if self.forbids_opt_out && is_namespace_in && wishes.mesh == Some(false) {
            let message = "its namespace is in the mesh, and the MeshConfig's spec.floor.optOut \
                           lets no pod of it leave: no effect";
            refused.push((annotations::MESH, message.to_owned()));
        }
        if let Some(mode) = wishes.mtls_mode.filter(|mode| *mode < self.mtls_mode) {
            refused.push((annotations::MTLS_MODE, self.below("mtlsMode", mode)));
        }
        let below = wishes.port_modes.below(self.mtls_mode);
        if !below.is_empty() {
            refused.push((annotations::PORT_MODES, self.below("mtlsMode", below)));
        }
        refused.extend(self.refused_node_access(wishes.node_access));
        refused.extend(self.refused_of_sidecar(&wishes.sidecar));
        refused.extend(self.refused_mode(wishes.mode));
        let allowed = self.allowed_exclusions(&wishes.exclusions, egress_mode);
        let CaptureExclusions { ports, blocks } = &wishes.exclusions;
        let ports = ports.iter().filter(|port| !allowed.ports.contains(port));
        let ports: Vec<_> = ports.map(ToString::to_string).collect();
        let blocks = blocks
            .iter()
            .filter(|block| !allowed.blocks.contains(block));
        let blocks: Vec<_> = blocks.map(ToString::to_string).collect();
        for (name, list) in [
            (annotations::EXCLUDE_PORTS, ports),
            (annotations::EXCLUDE_BLOCKS, blocks),
        ] {
            if !list.is_empty() {
                let why = match &self.exclusions {
                    Some(_) => "not among those that the MeshConfig's spec.floor.exclusions allows",
                    None => {
                        "egress mode RegisteredOnly holds, and the MeshConfig's \
                         spec.floor.exclusions allows none"
                    }
                };
                let message = format!("{}: {why}: no effect", list.join(", "));
                refused.push((name, message));
            }
        }
        errors("annotations", refused)
    }

    /// The wishes of a namespace that have no effect.
    pub(crate) fn refused_of_namespace(&self, namespace: &NamespaceObject) -> Vec<FieldError> {
        let mut refused = Vec::new();
        let below = namespace.mtls_mode.filter(|mode| *mode < self.mtls_mode);
        if let Some(mode) = below {
            refused.push((annotations::MTLS_MODE, self.below("mtlsMode", mode)));
        }
        refused.extend(self.refused_node_access(namespace.node_access));
        let below = namespace
            .egress_mode
            .filter(|mode| *mode < self.egress_mode);
        if let Some(mode) = below {
            refused.push((annotations::EGRESS_MODE, self.below("egressMode", mode)));
        }
        let asked = namespace.default_authorization;
        if let Some(below) = asked.filter(|asked| *asked < self.default_authorization) {
            let message = self.below("defaultAuthorization", below);
            refused.push((annotations::DEFAULT_AUTHORIZATION, message));
        }
        let mut errors = errors("annotations", refused);
        let refused = self.refused_mode(namespace.mode);
        errors.extend(
            refused.map(|(name, message)| {
                FieldError::new(annotations::field("labels", name), message)
            }),
        );
        if self.is_enrolled && namespace.mesh == Some(false) {
            let message = "the MeshConfig's spec.floor.enrolledNamespaces has it: no effect";
            let field = annotations::field("labels", annotations::MESH);
            errors.push(FieldError::new(field, message));
        }
        errors
    }

    /// Plaintext of whatever runs on the node is less than mutual TLS from everybody: where that
    /// is the floor, only the MeshConfig itself opens pods to their nodes.
    pub(crate) fn allows_node_access(&self, asked: NodeAccessMode) -> bool {
        asked == NodeAccessMode::Probes || self.mtls_mode != MtlsMode::Strict
    }

    fn refused_node_access(&self, asked: Option<NodeAccessMode>) -> Option<(&'static str, String)> {
        let refused = asked.filter(|asked| !self.allows_node_access(*asked))?;
        let message =
            format!("`{refused}` is below the MeshConfig's spec.floor.mtlsMode: no effect");
        Some((annotations::NODE_ACCESS, message))
    }

    /// The part of what a pod asks of its sidecar that is followed. Whoever can't leave the mesh
    /// can't have another program for its proxy either, nor ports past it; nor can the latter
    /// where everybody speaks mutual TLS.
    pub(crate) fn allowed_of_sidecar(&self, wishes: &SidecarWishes) -> SidecarWishes {
        let mut allowed = wishes.clone();
        if self.forbids_opt_out {
            allowed.image = None;
            allowed.capture = SidecarCapture::default();
        }
        if self.forbids_opt_out || self.mtls_mode == MtlsMode::Strict {
            allowed.excluded_inbound_ports.clear();
            allowed.excluded_inbound_blocks.clear();
        }
        allowed
    }

    /// The mode that counts of the one that is asked for. Who may not leave the mesh may not keep
    /// to agents either, where one can't capture.
    pub(crate) fn allowed_mode(&self, asked: Option<ProxyMode>) -> Option<ProxyMode> {
        asked.filter(|mode| !self.forbids_opt_out || *mode != ProxyMode::Node)
    }

    fn refused_mode(&self, asked: Option<ProxyMode>) -> Option<(&'static str, String)> {
        (self.allowed_mode(asked) != asked).then(|| {
            let message = "the MeshConfig's spec.floor.optOut lets no pod go without a proxy on \
                           nodes that can't capture: no effect";
            (annotations::MODE, message.to_owned())
        })
    }

    fn refused_of_sidecar(&self, wishes: &SidecarWishes) -> Vec<(&'static str, String)> {
        let allowed = self.allowed_of_sidecar(wishes);
        let mut refused = Vec::new();
        if allowed.image != wishes.image {
            let message = "the MeshConfig's spec.floor.optOut lets no pod choose its proxy's \
                           program: no effect";
            refused.push((annotations::SIDECAR_IMAGE, message.to_owned()));
        }
        if allowed.capture != wishes.capture {
            let message = "the MeshConfig's spec.floor.optOut lets no pod's proxy have more rights \
                           than it needs: no effect";
            refused.push((annotations::SIDECAR_CAPTURE, message.to_owned()));
        }
        if allowed.excluded_inbound_ports != wishes.excluded_inbound_ports {
            let message = "the MeshConfig's spec.floor (mtlsMode or optOut) lets no port of a pod \
                           be reached past its proxy: no effect";
            refused.push((annotations::EXCLUDE_INBOUND_PORTS, message.to_owned()));
        }
        if allowed.excluded_inbound_blocks != wishes.excluded_inbound_blocks {
            let message = "the MeshConfig's spec.floor (mtlsMode or optOut) lets nobody reach a \
                           pod past its proxy: no effect";
            refused.push((annotations::EXCLUDE_INBOUND_BLOCKS, message.to_owned()));
        }
        refused
    }

    fn below(&self, field: &str, mode: impl std::fmt::Display) -> String {
        format!("`{mode}` is below the MeshConfig's spec.floor.{field}: no effect")
    }
}

fn errors(place: &str, refused: Vec<(&str, String)>) -> Vec<FieldError> {
    let refused = refused.into_iter();
    let errors =
        refused.map(|(name, message)| FieldError::new(annotations::field(place, name), message));
    errors.collect()
}
