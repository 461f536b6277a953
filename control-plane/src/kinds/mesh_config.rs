//! MeshConfig: what holds for the whole mesh.

mod floor;
mod namespace_selector;
mod schema;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;
use weft_model::access_log::AccessLogSettings;
use weft_model::authorization_policy::DefaultAuthorization;
use weft_model::egress::EgressMode;
use weft_model::idle::IdleLimits;
use weft_model::mtls::MtlsMode;
use weft_model::node_access::NodeAccessMode;
use weft_model::route::path::PathNormalization;
use weft_model::{NamespacedName, TrustDomain};

use super::document;
use super::field_error::FieldError;
use super::kind::{Kind, KindInfo, Provider};
use super::kind_object::{Form, KindObject, Read};
use floor::Floor;
pub(crate) use floor::NamespaceFloor;
pub(crate) use namespace_selector::EnrolledNamespaces;
use schema::{MeshConfig, MeshConfigSpec, MtlsSpec};

/// Settings of the whole mesh.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MeshConfigObject {
    pub(crate) trust_domain: Option<TrustDomain>,
    pub(crate) mtls_mode: Option<MtlsMode>,
    pub(crate) node_access: Option<NodeAccessMode>,
    pub(crate) egress_mode: Option<EgressMode>,
    pub(crate) idle_limits: IdleLimits,
    /// What annotations of pods and namespaces don't go below.
    pub(crate) floor: Floor,
    pub(crate) path_normalization: Option<PathNormalization>,
    pub(crate) default_authorization: Option<DefaultAuthorization>,
    pub(crate) access_log: AccessLogSettings,
}

impl KindObject for MeshConfigObject {
    const KINDS: &'static [Kind] = &[Kind::new(&KindInfo {
        name: "MeshConfig",
        group: "weft.dev",
        versions: &["v1alpha1"],
        plural: "meshconfigs",
        provider: Provider::Weft,
        fallback: "what was accepted last stays in force; if nothing was, all workloads are strict and RegisteredOnly, and only ALLOW policies let anything in",
    })];

    type Document = DynamicObject;

    fn name(&self) -> NamespacedName {
        the_only_one()
    }

    fn name_of(_: &ObjectMeta) -> NamespacedName {
        the_only_one()
    }

    fn read(_: Kind, config: DynamicObject, _: Form) -> Read<Self> {
        let read = document::spec(&config).and_then(|spec| Self::parse(spec.unwrap_or_default()));
        match read {
            Ok(read) => Read::with_problems(read, Vec::new()),
            Err(problem) => Read {
                substitute: Some(Self::in_place_of(&config.data)),
                ..Read::unreadable(problem)
            },
        }
    }

    fn substitute(document: &Value) -> Option<Self> {
        Some(Self::in_place_of(document))
    }

    fn definition() -> Option<CustomResourceDefinition> {
        Some(MeshConfig::crd())
    }
}

/// The place in an object of the spec that was accepted last.
const LAST_ACCEPTED: &str = "/status/lastAcceptedSpec";

/// There is one, whatever its name.
fn the_only_one() -> NamespacedName {
    NamespacedName::new("", "default")
}

impl MeshConfigObject {
    /// In place of an object that can't be read, by a control plane that never read a good
    /// state of it: the one that its status says was accepted last, as every replica has it;
    /// else the strictest that there is, under the trust domain that it names.
    fn in_place_of(config: &Value) -> Self {
        let accepted = config.pointer(LAST_ACCEPTED).and_then(Value::as_str);
        let accepted = accepted.and_then(|text| serde_json::from_str(text).ok());
        let accepted = accepted.and_then(|spec| Self::parse(spec).ok());
        let trust_domain = config.pointer("/spec/trustDomain").and_then(Value::as_str);
        accepted.unwrap_or_else(|| Self {
            trust_domain: trust_domain.and_then(|text| text.parse().ok()),
            mtls_mode: Some(MtlsMode::Strict),
            node_access: None,
            egress_mode: Some(EgressMode::RegisteredOnly),
            idle_limits: IdleLimits::default(),
            floor: Floor::strictest(),
            path_normalization: None,
            default_authorization: Some(DefaultAuthorization::Deny),
            access_log: AccessLogSettings::default(),
        })
    }

    fn parse(spec: MeshConfigSpec) -> Result<Self, FieldError> {
        let MeshConfigSpec {
            trust_domain,
            mtls: MtlsSpec { mode, node_access },
            egress,
            connections,
            floor,
            requests,
            authorization,
            access_log,
        } = spec;
        let trust_domain = trust_domain.map(|text| text.parse()).transpose();
        Ok(Self {
            trust_domain: trust_domain
                .map_err(|error| FieldError::new("spec.trustDomain", error))?,
            mtls_mode: mode.map(MtlsMode::from),
            node_access: node_access.map(NodeAccessMode::from),
            egress_mode: egress.mode.map(EgressMode::from),
            idle_limits: connections.limits("spec.connections")?,
            floor: Floor::parse(floor)?,
            path_normalization: requests.path_normalization.map(PathNormalization::from),
            default_authorization: authorization.default.map(DefaultAuthorization::from),
            access_log: access_log.settings("spec.accessLog")?,
        })
    }
}

#[cfg(test)]
mod tests;
