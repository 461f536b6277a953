//! Namespaces: what they ask for all of their pods.

use k8s_openapi::api::core::v1::Namespace;
use weft_model::NamespacedName;
use weft_model::access_log::AccessLogSettings;
use weft_model::authorization_policy::DefaultAuthorization;
use weft_model::egress::EgressMode;
use weft_model::idle::IdleLimits;
use weft_model::mtls::MtlsMode;
use weft_model::node_access::NodeAccessMode;

use super::annotations::{self, Texts, or_note};
use super::document;
use super::field_error::FieldError;
use super::kind::{Kind, KindInfo, Provider};
use super::kind_object::{Form, KindObject, Read};
use super::proxy_mode::ProxyMode;

/// The label that every namespace has: its name.
pub(crate) const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The label of the Pod Security level that is enforced
/// (<https://kubernetes.io/docs/concepts/security/pod-security-admission/>).
const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";

/// A namespace, as far as the mesh cares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NamespaceObject {
    pub(crate) name: String,
    /// Its UID, where it has one.
    pub(crate) uid: Option<String>,
    /// Its labels, [`NAMESPACE_NAME`] among them.
    pub(crate) labels: Texts,
    /// Its pods are in, or out, unless they say otherwise.
    pub(crate) mesh: Option<bool>,
    /// The choice is there and can't be read.
    pub(crate) is_mesh_unreadable: bool,
    pub(crate) mtls_mode: Option<MtlsMode>,
    pub(crate) node_access: Option<NodeAccessMode>,
    pub(crate) egress_mode: Option<EgressMode>,
    pub(crate) idle_limits: IdleLimits,
    pub(crate) default_authorization: Option<DefaultAuthorization>,
    pub(crate) access_log: AccessLogSettings,
    /// The proxy of its pods, unless they say otherwise.
    pub(crate) mode: Option<ProxyMode>,
}

impl KindObject for NamespaceObject {
    const KINDS: &'static [Kind] = &[Kind::new(&KindInfo {
        name: "Namespace",
        group: "",
        versions: &["v1"],
        plural: "namespaces",
        provider: Provider::Kubernetes,
        fallback: "it counts as if it weren't there (but an mTLS mode as strict, a node access as probes, an egress mode as RegisteredOnly, a default authorization as Deny, and what can't be read of `weft.dev/mesh` leaves a pod where it is)",
    })];

    type Document = Namespace;

    fn name(&self) -> NamespacedName {
        NamespacedName::new("", &self.name)
    }

    fn keep_last_good(&mut self, before: &Self) {
        if self.is_mesh_unreadable {
            self.mesh = before.mesh;
        }
    }

    fn read(_: Kind, namespace: Namespace, _: Form) -> Read<Self> {
        Self::with_problems(&namespace).unwrap_or_else(|error| Err(error).into())
    }
}

impl NamespaceObject {
    /// The capability that redirects connections isn't refused to all of its pods.
    pub(crate) fn takes_sidecars(&self) -> bool {
        let level = self.labels.get(POD_SECURITY).map(String::as_str);
        !matches!(level, Some("baseline" | "restricted"))
    }

    fn with_problems(namespace: &Namespace) -> Result<Read<Self>, FieldError> {
        let metadata = &namespace.metadata;
        let mut problems = annotations::OF_NAMESPACES.without_effect(metadata);
        let none = Texts::new();
        let labels = metadata.labels.as_ref().unwrap_or(&none);
        let annotations = metadata.annotations.as_ref().unwrap_or(&none);
        let mesh = annotations::mesh("labels", labels);
        let mode = annotations::mode("labels", labels);
        let mtls_mode = annotations::mtls_mode(annotations);
        let node_access = annotations::node_access(annotations);
        let egress_mode = annotations::egress_mode(annotations);
        let idle_limits = annotations::idle_limits(annotations);
        let default_authorization = annotations::default_authorization(annotations);
        let access_log = annotations::access_log(annotations);
        let name = document::name(metadata)?.to_owned();
        let mut labels = labels.clone();
        // An API server has seen to it already.
        labels.insert(NAMESPACE_NAME.to_owned(), name.clone());
        let namespace = Self {
            uid: metadata.uid.clone(),
            name,
            labels,
            is_mesh_unreadable: mesh.is_err(),
            mesh: or_note(&mut problems, None, mesh),
            // Whoever wrote one didn't mean "accept anything".
            mtls_mode: or_note(&mut problems, Some(MtlsMode::Strict), mtls_mode),
            node_access: or_note(&mut problems, Some(NodeAccessMode::Probes), node_access),
            egress_mode: or_note(&mut problems, Some(EgressMode::RegisteredOnly), egress_mode),
            idle_limits: or_note(&mut problems, IdleLimits::default(), idle_limits),
            default_authorization: or_note(
                &mut problems,
                Some(DefaultAuthorization::Deny),
                default_authorization,
            ),
            access_log: or_note(&mut problems, AccessLogSettings::default(), access_log),
            mode: or_note(&mut problems, None, mode),
        };
        Ok(Read::with_problems(namespace, problems))
    }
}
