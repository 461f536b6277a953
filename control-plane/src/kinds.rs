//! The kinds of objects that the mesh cares about. Each has a file that knows everything
//! about it: how it is called, how it is read, what can be wrong with it, and its schema
//! where it is Weft's own. `kinds!` below is the only list of them; sources, the index's
//! tables, the admission webhook and `deploy/crds` follow from it.
//!
//! * [`kind`], [`kind_object`]: what there is to know about a kind
//! * [`field_error`]: what is wrong with an object
//! * [`document`], [`address`], [`annotations`], [`duration`], [`idle`], [`label_selector`],
//!   [`proxy_mode`]: what several kinds are read by
//! * [`sidecar_wishes`]: what a pod asks of its sidecar
//! * [`definitions`]: the schemas as an API server takes them

mod access_log;
mod address;
mod annotations;
mod authorization_policy;
mod definitions;
pub(crate) mod document;
pub(crate) mod duration;
mod endpoint_slice;
mod external_service;
mod field_error;
mod idle;
mod kind;
mod kind_object;
mod label_selector;
mod mesh_config;
mod namespace;
mod network_policy;
mod node;
mod pod;
mod proxy_mode;
mod readiness;
mod reference_grant;
mod request_authentication;
mod route;
mod runtime_class;
mod service;
mod service_account;
mod sidecar_wishes;
mod traffic_policy;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};

pub(crate) use authorization_policy::{AuthorizationPolicyObject, PolicyTarget};
use document::typed;
pub(crate) use endpoint_slice::SliceObject;
pub(crate) use external_service::ExternalServiceObject;
pub(crate) use field_error::FieldError;
pub(crate) use kind::{ACCEPTED, Kind, ObjectKey, Provider};
pub(crate) use kind_object::{ApiType, Form, KindObject, Read};
pub(crate) use mesh_config::{EnrolledNamespaces, MeshConfigObject, NamespaceFloor};
pub(crate) use namespace::{NAMESPACE_NAME, NamespaceObject};
pub(crate) use network_policy::{NetworkPolicyObject, PeerSelector};
pub(crate) use node::{EBPF, NATIVE_SIDECARS, NodeObject};
pub(crate) use pod::{
    CAPTURED_CONDITION, CREDENTIALS, CREDENTIALS_VOLUME, INIT_CONTAINER, NOT_IN_MESH, PROGRAM,
    PROXY_CONTAINER, PROXY_USER, PodObject, PodSidecar, PodWishes, SidecarSource,
    containers_of_proxy_user, repository,
};
pub(crate) use proxy_mode::ProxyMode;
pub(crate) use readiness::Readiness;
pub(crate) use reference_grant::ReferenceGrantObject;
pub(crate) use request_authentication::{
    InvalidKeys, KeySource, RequestAuthenticationObject, is_key_address, parse_keys,
};
pub(crate) use route::{
    InvalidReference, ReferenceProblem, RouteContent, RouteObject, targets_mut,
};
pub(crate) use runtime_class::RuntimeClassObject;
pub(crate) use service::ServiceObject;
pub(crate) use service_account::ServiceAccountObject;
pub(crate) use sidecar_wishes::{SidecarCapture, SidecarWishes};
pub(crate) use traffic_policy::TrafficPolicyObject;

/// A type of objects that is listed.
pub(crate) trait ListedKind: KindObject + Into<Object> {
    /// The object, when it is of this type.
    fn of(object: &Object) -> Option<&Self>;
}

/// Something to do with a kind, whatever its type.
pub(crate) trait KindVisitor {
    /// Its outcome.
    type Output;

    /// Does it.
    fn visit<T: ListedKind>(self, kind: Kind) -> Self::Output;
}

macro_rules! kinds {
    ($($name:ident($object:ty),)*) => {
        /// One object that the mesh cares about.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(
            clippy::large_enum_variant,
            reason = "there are few of the large ones, each on its way into the index"
        )]
        pub(crate) enum Object {
            $($name($object),)*
        }

        impl Object {
            /// Its key.
            pub(crate) fn key(&self) -> ObjectKey {
                let (kind, name) = match self {
                    $(Self::$name(object) => (object.kind(), object.name()),)*
                };
                ObjectKey { kind, name }
            }

            /// Takes over what can't be read in it from what it was before.
            pub(crate) fn keep_last_good(&mut self, before: &Self) {
                match (self, before) {
                    $((Self::$name(now), Self::$name(before)) => now.keep_last_good(before),)*
                    _ => {}
                }
            }
        }

        $(
            impl From<$object> for Object {
                fn from(object: $object) -> Self {
                    Self::$name(object)
                }
            }

            impl ListedKind for $object {
                fn of(object: &Object) -> Option<&Self> {
                    match object {
                        Object::$name(object) => Some(object),
                        _ => None,
                    }
                }
            }
        )*

        /// Every kind.
        pub(crate) fn all() -> impl Iterator<Item = Kind> {
            let types = [$(<$object as KindObject>::KINDS),*];
            types.into_iter().flatten().copied()
        }

        /// The schemas of Weft's own kinds, a YAML document each.
        ///
        /// # Errors
        /// When one can't be written as YAML.
        pub(crate) fn definitions() -> Result<String, serde_saphyr::ser::Error> {
            let definitions = [$(<$object as KindObject>::definition()),*];
            definitions::to_yaml(definitions.into_iter().flatten())
        }

        /// Does something with a kind; nothing with one that isn't listed.
        pub(crate) fn visit<V: KindVisitor>(kind: Kind, visitor: V) -> Option<V::Output> {
            $(
                if <$object as KindObject>::KINDS.contains(&kind) {
                    return Some(visitor.visit::<$object>(kind));
                }
            )*
            None
        }
    };
}

kinds! {
    Namespace(NamespaceObject),
    Node(NodeObject),
    RuntimeClass(RuntimeClassObject),
    ServiceAccount(ServiceAccountObject),
    Pod(PodObject),
    Service(ServiceObject),
    EndpointSlice(SliceObject),
    MeshConfig(MeshConfigObject),
    TrafficPolicy(TrafficPolicyObject),
    ExternalService(ExternalServiceObject),
    Route(RouteObject),
    ReferenceGrant(ReferenceGrantObject),
    NetworkPolicy(NetworkPolicyObject),
    AuthorizationPolicy(AuthorizationPolicyObject),
    RequestAuthentication(RequestAuthenticationObject),
}

impl Object {
    /// It as agents are told of it, where it is a policy about who may reach a workload.
    pub(crate) fn authorization_policy(&self) -> Option<&AuthorizationPolicyObject> {
        match self {
            Self::AuthorizationPolicy(policy) => Some(policy),
            Self::RequestAuthentication(object) => Some(&object.policy),
            _ => None,
        }
    }
}

/// The kind of that name, in whatever version.
pub(crate) fn find(group: &str, name: &str) -> Option<Kind> {
    all().find(|kind| kind.group == group && kind.name == name)
}

/// The names of all kinds of a group, where that is the mesh's own.
pub(crate) fn own_names(group: &str) -> Option<Vec<&'static str>> {
    let is_own = group == MeshConfigObject::KIND.group;
    let names = all().filter(|kind| kind.group == group);
    is_own.then(|| names.map(|kind| kind.name).collect())
}

/// Reads an object that somebody wrote down: one mistake spoils it. None when the mesh has
/// no use for it.
///
/// # Errors
/// The first thing that is wrong with it.
pub(crate) fn read_manifest(kind: Kind, document: Value) -> Result<Option<Object>, FieldError> {
    visit(kind, ReadManifest(document)).unwrap_or(Ok(None))
}

/// Everything in an object of a cluster, or on its way there, that the mesh could not
/// follow.
pub(crate) fn problems(kind: Kind, object: &DynamicObject, form: Form) -> Vec<FieldError> {
    visit(kind, FindProblems { object, form }).unwrap_or_default()
}

/// An object on its way into a cluster, as far as it can be read.
pub(crate) fn read_for_admission(kind: Kind, object: &DynamicObject) -> Option<Object> {
    visit(kind, ReadForAdmission(object)).flatten()
}

struct ReadForAdmission<'a>(&'a DynamicObject);

impl KindVisitor for ReadForAdmission<'_> {
    type Output = Option<Object>;

    fn visit<T: ListedKind>(self, kind: Kind) -> Self::Output {
        let document = serde_json::to_value(self.0).ok()?;
        let read = T::read(kind, typed(document).ok()?, Form::Admission);
        read.object.map(Into::into)
    }
}

/// What stands in for an object of a manifest which can't be read and never could, where the mesh
/// would be open without it.
pub(crate) fn substitute(kind: Kind, document: &Value) -> Option<Object> {
    visit(kind, Substitute(document)).flatten()
}

struct Substitute<'a>(&'a Value);

impl KindVisitor for Substitute<'_> {
    type Output = Option<Object>;

    fn visit<T: ListedKind>(self, _: Kind) -> Self::Output {
        T::substitute(self.0).map(Into::into)
    }
}

/// Whether that is the kind of pods.
pub(crate) fn is_pod(group: &str, name: &str) -> bool {
    find(group, name) == Some(PodObject::KIND)
}

/// The gate without which a pod would be ready before it is captured.
pub(crate) fn readiness_gate() -> Value {
    json!({ "conditionType": CAPTURED_CONDITION })
}

/// Probes of an object that is a pod of the mesh by which kubelet would ask somebody else. The pod
/// itself may say whether it is one, or else its namespace has.
pub(crate) fn foreign_probes(
    kind: Kind,
    object: &DynamicObject,
    namespace_is_enrolled: bool,
) -> Vec<FieldError> {
    if kind != PodObject::KIND {
        return Vec::new();
    }
    let pod = serde_json::to_value(object).and_then(serde_json::from_value::<Pod>);
    // What is no pod is refused by the API server.
    let pod = pod.unwrap_or_default();
    pod::foreign_probes(&pod, namespace_is_enrolled)
}

struct ReadManifest(Value);

impl KindVisitor for ReadManifest {
    type Output = Result<Option<Object>, FieldError>;

    fn visit<T: ListedKind>(self, kind: Kind) -> Self::Output {
        let Read {
            object, problems, ..
        } = T::read(kind, typed(self.0)?, Form::Manifest);
        match problems.into_iter().next() {
            Some(problem) => Err(problem),
            None => Ok(object.map(Into::into)),
        }
    }
}

struct FindProblems<'a> {
    object: &'a DynamicObject,
    form: Form,
}

impl KindVisitor for FindProblems<'_> {
    type Output = Vec<FieldError>;

    fn visit<T: ListedKind>(self, kind: Kind) -> Self::Output {
        let value = serde_json::to_value(self.object).unwrap_or_default();
        match typed(value) {
            Ok(document) => T::read(kind, document, self.form).problems,
            // The API server has checked it by its schema; what it knows better than this
            // version isn't wrong.
            Err(error) => {
                let name = self.object.name_any();
                tracing::warn!(%kind, name, %error, "can't read an object");
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
