//! Objects of an API server that can't be read (any more).

use serde_json::{Value, json};
use weft_model::egress::EgressMode;

use super::*;
use crate::kinds::tests::read_live;
use crate::kinds::{
    KindObject, ListedKind, MeshConfigObject, NamespaceObject, Read, RouteObject,
    TrafficPolicyObject,
};
use crate::source::Unreadable;

/// What a watch tells of an object, as the API server has it.
fn told<T: ListedKind>(kind: Kind, document: &Value) -> Event {
    let Read {
        object, substitute, ..
    } = read_live::<T>(kind, document.clone());
    match object {
        Some(object) => Event::Applied(Origin::new(), object.into()),
        None => Event::Unreadable(Origin::new(), unreadable::<T>(kind, document, substitute)),
    }
}

fn unreadable<T: ListedKind>(kind: Kind, document: &Value, substitute: Option<T>) -> Unreadable {
    let metadata = &document["metadata"];
    let name = T::name_of(&serde_json::from_value(metadata.clone()).unwrap());
    Unreadable {
        key: ObjectKey { kind, name },
        uid: metadata["uid"].as_str().map(str::to_owned),
        substitute: substitute.map(Into::into),
    }
}

impl Bed {
    fn tell<T: ListedKind>(&mut self, document: &Value) {
        self.index.handle_event(told::<T>(T::KIND, document));
        self.settle();
    }

    /// Modes and trust domain of the only pod.
    fn settings(&self) -> (MtlsMode, EgressMode, String) {
        let pod = self.workloads().remove(0);
        let trust_domain = pod.identity.trust_domain().to_string();
        (pod.mtls_mode, pod.egress_mode, trust_domain)
    }
}

fn config(spec: &Value, status: &Value) -> Value {
    json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig",
        "metadata": { "name": "default" }, "spec": spec, "status": status,
    })
}

/// Of a newer version.
fn newer(status: &Value) -> Value {
    let spec = json!({ "trustDomain": "example.org", "future": {} });
    config(&spec, status)
}

fn one_pod() -> Bed {
    bed(&[("pod.yaml", &pod("a", "10.0.0.1", ENABLED))])
}

const STRICT: (MtlsMode, EgressMode, &str) =
    (MtlsMode::Strict, EgressMode::AllowAny, "example.org");

#[test]
fn a_mesh_config_that_can_not_be_read_any_more_stays_in_force() {
    let mut bed = one_pod();
    let spec = json!({ "trustDomain": "example.org", "mtls": { "mode": "strict" } });
    let good = config(&spec, &Value::Null);
    let (mode, egress, domain) = STRICT;
    let strict = (mode, egress, domain.to_owned());
    bed.tell::<MeshConfigObject>(&good);
    assert_eq!(bed.settings(), strict);
    bed.tell::<MeshConfigObject>(&newer(&Value::Null));
    assert_eq!(bed.settings(), strict);
    // Nor does a list that it is in take it away.
    let kind = MeshConfigObject::KIND;
    let what = unreadable::<MeshConfigObject>(kind, &newer(&Value::Null), None);
    let listed = Event::Replaced(kind, vec![], vec![what]);
    bed.index.handle_event(listed);
    bed.settle();
    assert_eq!(bed.settings(), strict);
    // Deleted on purpose: the defaults hold.
    let listed = Event::Replaced(kind, vec![], vec![]);
    bed.index.handle_event(listed);
    bed.settle();
    let (mode, egress, domain) = bed.settings();
    assert_eq!(
        (mode, egress, &*domain),
        (MtlsMode::Permissive, EgressMode::AllowAny, "cluster.local")
    );
}

#[test]
fn without_a_mesh_config_that_was_ever_read_workloads_are_as_strict_as_can_be() {
    let mut bed = one_pod();
    bed.tell::<MeshConfigObject>(&newer(&Value::Null));
    let strictest = (
        MtlsMode::Strict,
        EgressMode::RegisteredOnly,
        "example.org".to_owned(),
    );
    assert_eq!(bed.settings(), strictest);
    let mended = config(&json!({ "trustDomain": "example.org" }), &Value::Null);
    bed.tell::<MeshConfigObject>(&mended);
    let (mode, ..) = bed.settings();
    assert_eq!(mode, MtlsMode::Permissive);
}

#[test]
fn a_control_plane_that_starts_takes_the_mesh_config_that_was_accepted_last() {
    let mut bed = one_pod();
    let accepted = r#"{"trustDomain":"example.org","mtls":{"mode":"strict"}}"#;
    bed.tell::<MeshConfigObject>(&newer(&json!({ "lastAcceptedSpec": accepted })));
    let (mode, egress, domain) = STRICT;
    assert_eq!(bed.settings(), (mode, egress, domain.to_owned()));
}

#[test]
fn a_policy_and_a_route_that_can_not_be_followed_any_more_stay_what_they_were() {
    let mut bed = bed(&[("web.yaml", SERVICE)]);
    let policy = |timeout: &str| {
        json!({
            "metadata": { "name": "web", "namespace": "shop" },
            "spec": {
                "targetRef": { "kind": "Service", "name": "web" },
                "timeouts": { "request": timeout },
            },
        })
    };
    let route = |timeout: &str| {
        json!({
            "metadata": { "name": "web", "namespace": "shop" },
            "spec": {
                "parentRefs": [{ "group": "", "kind": "Service", "name": "web" }],
                "rules": [{ "timeouts": { "request": timeout } }],
            },
        })
    };
    bed.tell::<TrafficPolicyObject>(&policy("2s"));
    let http = Kind::from(weft_model::route::RouteKind::Http);
    bed.index
        .handle_event(told::<RouteObject>(http, &route("2s")));
    bed.settle();
    let before = bed.changes();
    assert!(
        before
            .iter()
            .any(|change| matches!(change, Change::Route(_)))
            && before
                .iter()
                .any(|change| matches!(change, Change::TrafficPolicy(_))),
        "{before:?}"
    );
    for _ in 0..2 {
        bed.tell::<TrafficPolicyObject>(&policy("soon"));
        bed.index
            .handle_event(told::<RouteObject>(http, &route("soon")));
        bed.settle();
        assert_eq!(bed.changes(), before);
    }
    let name = NamespacedName::new("shop", "web");
    let status = &bed.index.policy_statuses()[&name];
    assert!(!status.accepted, "{status:?}");
    assert!(
        status.message.contains("spec.timeouts.request")
            && status
                .message
                .contains("what it said before stays in force"),
        "{status:?}"
    );
}

#[test]
fn a_pod_that_can_not_be_read_is_not_taken_for_the_one_before_it_of_its_name() {
    let mut bed = Bed::default();
    let pod = |uid: &str, address: &str| {
        json!({
            "metadata": { "name": "web", "namespace": "shop", "uid": uid },
            "spec": { "nodeName": "node-1", "serviceAccountName": "web", "containers": [] },
            "status": { "podIPs": [{ "ip": address }] },
        })
    };
    bed.tell::<PodObject>(&pod("u-1", "10.0.0.1"));
    bed.tell::<PodObject>(&pod("u-1", "nowhere"));
    assert_eq!(bed.workloads().len(), 1);
    bed.tell::<PodObject>(&pod("u-2", "nowhere"));
    assert_eq!(bed.workloads().len(), 0);
}

#[test]
fn nobody_leaves_the_mesh_by_a_choice_that_can_not_be_read() {
    let mut bed = bed(&[("pod.yaml", &pod("a", "10.0.0.1", ""))]);
    let namespace =
        |mesh: &str| json!({ "metadata": { "name": "shop", "labels": { "weft.dev/mesh": mesh } } });
    let is_in = |bed: &Bed| bed.workloads()[0].enrolment.is_enrolled();
    bed.tell::<NamespaceObject>(&namespace("enable"));
    assert!(!is_in(&bed), "it was never in");
    bed.tell::<NamespaceObject>(&namespace("enabled"));
    bed.tell::<NamespaceObject>(&namespace("enable"));
    assert!(is_in(&bed));
    bed.tell::<NamespaceObject>(&namespace("disabled"));
    assert!(!is_in(&bed));
}
