//! ReferenceGrants of the Gateway API, as far as they let routes send to Services of their
//! namespace (GEP-709). What they let Gateways do is somebody else's.

use std::sync::Arc;

use kube::api::DynamicObject;
use serde::Deserialize;
use weft_model::NamespacedName;
use weft_model::route::{RouteKey, RouteKind};

use super::document;
use super::field_error::FieldError;
use super::kind::{Kind, KindInfo, Provider};
use super::kind_object::{Form, KindObject, Read};

/// A ReferenceGrant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReferenceGrantObject {
    pub(crate) key: NamespacedName,
    /// The routes that may send, by their kind and namespace.
    from: Vec<(RouteKind, Arc<str>)>,
    /// Names of the Services of its namespace; `None` for all.
    to: Vec<Option<Arc<str>>>,
}

/// `spec`. What a later version knows besides lets nobody do more.
#[derive(Debug, Deserialize)]
struct Spec {
    from: Vec<Referrer>,
    to: Vec<Referent>,
}

#[derive(Debug, Deserialize)]
struct Referrer {
    group: String,
    kind: String,
    namespace: String,
}

#[derive(Debug, Deserialize)]
struct Referent {
    group: String,
    kind: String,
    name: Option<String>,
}

impl KindObject for ReferenceGrantObject {
    const KINDS: &'static [Kind] = &[Kind::new(&KindInfo {
        name: "ReferenceGrant",
        group: "gateway.networking.k8s.io",
        versions: &["v1", "v1beta1"],
        plural: "referencegrants",
        provider: Provider::GatewayApi,
        fallback: "it permits nothing",
    })];

    type Document = DynamicObject;

    fn name(&self) -> NamespacedName {
        self.key.clone()
    }

    /// One that can't be read permits nothing: what it permitted before may have been taken back.
    fn read(_: Kind, grant: DynamicObject, form: Form) -> Read<Self> {
        let key = match form {
            // One that gets its name from the API server has none yet.
            Form::Admission => Ok(NamespacedName::new("", "new")),
            Form::Manifest | Form::Live => document::namespaced_name(&grant.metadata),
        };
        let key = match key {
            Ok(key) => key,
            Err(problem) => return Err(problem).into(),
        };
        match document::required_spec(&grant).and_then(|spec| Self::parse(key.clone(), spec)) {
            Ok(grant) => Ok(grant).into(),
            Err(problem) => {
                let (from, to) = (Vec::new(), Vec::new());
                Read::with_problems(Self { key, from, to }, vec![problem])
            }
        }
    }
}

impl ReferenceGrantObject {
    fn parse(key: NamespacedName, spec: Spec) -> Result<Self, FieldError> {
        let from = spec
            .from
            .into_iter()
            .enumerate()
            .filter_map(|(index, from)| {
                let mut kinds = RouteKind::ALL.into_iter();
                let kind = kinds.find(|kind| {
                    let kind = Kind::from(*kind);
                    kind.group == from.group && kind.name == from.kind
                })?;
                let field = || format!("spec.from[{index}].namespace");
                Some(named(&from.namespace, field).map(|namespace| (kind, namespace)))
            });
        let to = spec.to.into_iter().enumerate().filter_map(|(index, to)| {
            let is_service = to.group.is_empty() && to.kind == "Service";
            let field = || format!("spec.to[{index}].name");
            let name = to.name.as_deref();
            is_service.then(|| name.map(|name| named(name, field)).transpose())
        });
        Ok(Self {
            key,
            from: from.collect::<Result<_, _>>()?,
            to: to.collect::<Result<_, _>>()?,
        })
    }

    /// Routes of that kind and namespace may send to some Service of the grant's.
    pub(crate) fn is_for(&self, route: &RouteKey) -> bool {
        let mut from = self.from.iter();
        from.any(|(kind, namespace)| *kind == route.kind && *namespace == route.name.namespace)
    }

    /// A route may send to that Service of the grant's namespace.
    pub(crate) fn permits(&self, route: &RouteKey, service: &str) -> bool {
        let mut to = self.to.iter();
        let is_meant = |name: &Option<Arc<str>>| name.as_deref().is_none_or(|name| name == service);
        self.is_for(route) && to.any(is_meant)
    }
}

fn named(name: &str, field: impl Fn() -> String) -> Result<Arc<str>, FieldError> {
    match name {
        "" => Err(FieldError::new(field(), "it is empty")),
        name => Ok(name.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::tests::read_live;

    fn read(spec: Value) -> Read<ReferenceGrantObject> {
        let metadata = json!({ "name": "grant", "namespace": "bank" });
        read_live(
            ReferenceGrantObject::KIND,
            json!({ "metadata": metadata, "spec": spec }),
        )
    }

    fn from(kind: &str, namespace: &str) -> Value {
        json!({ "group": "gateway.networking.k8s.io", "kind": kind, "namespace": namespace })
    }

    fn route(kind: RouteKind, namespace: &str) -> RouteKey {
        let name = NamespacedName::new(namespace, "web");
        RouteKey { kind, name }
    }

    #[test]
    fn a_grant_is_for_the_kinds_and_namespaces_and_services_that_it_names() {
        let service = json!({ "group": "", "kind": "Service", "name": "ledger" });
        let spec = json!({
            "from": [from("HTTPRoute", "shop"), from("TCPRoute", "store")],
            "to": [service, { "group": "", "kind": "Secret" }, { "group": "a.b", "kind": "Service" }],
        });
        let grant = read(spec).object.unwrap();
        let http = route(RouteKind::Http, "shop");
        assert!(grant.permits(&http, "ledger"));
        assert!(!grant.permits(&http, "vault"));
        for other in [
            route(RouteKind::Grpc, "shop"),
            route(RouteKind::Http, "store"),
            route(RouteKind::Tcp, "shop"),
        ] {
            assert!(!grant.permits(&other, "ledger"), "{other}");
        }
        assert!(grant.permits(&route(RouteKind::Tcp, "store"), "ledger"));
        let every = json!({
            "from": [from("HTTPRoute", "shop")], "to": [{ "group": "", "kind": "Service" }],
        });
        assert!(read(every).object.unwrap().permits(&http, "vault"));
    }

    #[test]
    fn a_grant_that_is_for_others_permits_no_route_and_is_no_mistake() {
        let gateway = json!({
            "from": [from("Gateway", "shop"), { "group": "", "kind": "HTTPRoute", "namespace": "shop" }],
            "to": [{ "group": "", "kind": "Service" }],
        });
        let read = read(gateway);
        assert_eq!(read.problems, []);
        let grant = read.object.unwrap();
        assert!(!grant.permits(&route(RouteKind::Http, "shop"), "ledger"));
    }

    #[test]
    fn a_grant_that_can_not_be_read_permits_nothing_and_takes_nothing_from_before() {
        let all = json!([{ "group": "", "kind": "Service" }]);
        for (spec, field) in [
            (json!(null), "spec"),
            (json!({ "from": [from("HTTPRoute", "shop")] }), "spec"),
            (json!({ "from": "shop", "to": all }), "spec.from"),
            (
                json!({ "from": [from("HTTPRoute", "")], "to": all }),
                "spec.from[0].namespace",
            ),
            (
                json!({
                    "from": [from("HTTPRoute", "shop")],
                    "to": [{ "group": "", "kind": "Service", "name": "" }],
                }),
                "spec.to[0].name",
            ),
        ] {
            let read = read(spec);
            let [problem] = read.problems.as_slice() else {
                panic!("{:?}", read.problems)
            };
            assert_eq!(problem.field, field);
            // It counts in place of the one before.
            let grant = read.object.unwrap();
            assert!(!grant.permits(&route(RouteKind::Http, "shop"), "ledger"));
        }
    }
}
