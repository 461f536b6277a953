//! AuthorizationPolicies among other objects.

use serde_json::json;
use weft_model::authorization_policy::{
    Action, AuthorizationMembership, AuthorizationPolicy, DefaultAuthorization,
};

use super::*;
use crate::kinds::AuthorizationPolicyObject;
use crate::kinds::tests::read_live;

fn policy(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: weft.dev/v1alpha1\nkind: AuthorizationPolicy\n\
         metadata: {{ name: {name}, namespace: {namespace} }}\nspec: {{ {spec} }}\n"
    )
}

fn labelled(name: &str, namespace: &str, app: &str) -> String {
    let address = format!("10.0.{}.{}", namespace.len(), name.len());
    let pod = pod(name, &address, ENABLED);
    pod.replace("namespace: shop", &format!("namespace: {namespace}"))
        .replace("app: web", &format!("app: {app}"))
}

fn membership(bed: &Bed, pod: &str) -> AuthorizationMembership {
    let workloads = bed.workloads();
    let workload = workloads.iter().find(|workload| &*workload.name == pod);
    (*workload.unwrap().authorization).clone()
}

fn names(bed: &Bed, pod: &str) -> Vec<String> {
    let membership = membership(bed, pod);
    let names = membership.policies.iter();
    names.map(ToString::to_string).collect()
}

fn published(bed: &Bed) -> Vec<AuthorizationPolicy> {
    let policies = bed.changes().into_iter().filter_map(|change| match change {
        Change::AuthorizationPolicy(policy) => Some(policy),
        _ => None,
    });
    policies.collect()
}

fn status<'a>(bed: &'a Bed, namespace: &str, name: &str) -> Option<&'a AuthorizationStatus> {
    let name = NamespacedName::new(namespace, name);
    bed.index.authorization_status(&name)
}

const SELECT_WEB: &str = "selector: { matchLabels: { app: web } }";
const OF_SERVICE: &str = "targetRefs: [{ kind: Service, name: web }]";

#[test]
fn a_policy_selects_pods_of_its_namespace_or_of_all_from_the_control_planes() {
    let mut bed = bed(&[
        ("a.yaml", &labelled("web", "shop", "web")),
        ("b.yaml", &labelled("database", "shop", "db")),
        ("c.yaml", &labelled("elsewhere", "other", "web")),
        ("p.yaml", &policy("shop", "labels", SELECT_WEB)),
        ("q.yaml", &policy("shop", "all", "")),
        ("r.yaml", &policy("weft-system", "labels", SELECT_WEB)),
        ("s.yaml", &policy("weft-system", "all", "")),
    ]);
    let of_web = [
        "shop/all",
        "shop/labels",
        "weft-system/all",
        "weft-system/labels",
    ];
    assert_eq!(names(&bed, "web"), of_web);
    assert_eq!(names(&bed, "database"), ["shop/all", "weft-system/all"]);
    let elsewhere = ["weft-system/all", "weft-system/labels"];
    assert_eq!(names(&bed, "elsewhere"), elsewhere);
    assert_eq!(published(&bed).len(), 4);
    assert_eq!(status(&bed, "weft-system", "all").unwrap().workloads, 3);

    bed.apply("b.yaml", &labelled("database", "shop", "web"));
    assert_eq!(names(&bed, "database"), of_web);
    bed.delete("s.yaml", &policy("weft-system", "all", ""));
    bed.apply(
        "p.yaml",
        &policy("shop", "labels", "selector: { matchLabels: { app: x } }"),
    );
    assert_eq!(names(&bed, "web"), ["shop/all", "weft-system/labels"]);
    assert_eq!(status(&bed, "shop", "labels").unwrap().workloads, 0);
    assert_eq!(status(&bed, "weft-system", "all"), None);
    // Nobody asks it of a pod outside the mesh.
    let outside = labelled("web", "shop", "web").replace(ENABLED, "");
    bed.apply("a.yaml", &outside);
    assert_eq!(names(&bed, "web"), [""; 0]);
    assert_eq!(status(&bed, "shop", "all").unwrap().workloads, 1);
}

#[test]
fn a_workload_that_policies_only_watch_is_told_so() {
    let audit = policy("shop", "audit", "action: AUDIT");
    let dry_run = |is_one: bool| {
        let annotations = format!("annotations: {{ weft.dev/dry-run: \"{is_one}\" }}");
        let policy = policy("shop", "deny", "action: DENY, rules: [{}]");
        policy.replace(
            "namespace: shop",
            &format!("namespace: shop, {annotations}"),
        )
    };
    let mut bed = bed(&[("a.yaml", &labelled("web", "shop", "web"))]);
    let told = |bed: &Bed| {
        let membership = membership(bed, "web");
        (membership.is_observed_only, membership.may_deny())
    };
    assert_eq!(told(&bed), (false, false), "none at all");
    bed.apply("p.yaml", &audit);
    bed.apply("q.yaml", &dry_run(true));
    assert_eq!(told(&bed), (true, false));
    bed.apply("q.yaml", &dry_run(false));
    assert_eq!(told(&bed), (false, true));
    bed.apply("q.yaml", &dry_run(true));
    assert_eq!(told(&bed), (true, false));
    bed.apply("p.yaml", &policy("shop", "audit", ""));
    assert_eq!(told(&bed), (false, true));
}

#[test]
fn a_policy_of_a_service_selects_its_pods_as_long_as_there_is_one() {
    let mut bed = bed(&[
        ("a.yaml", &labelled("web", "shop", "web")),
        ("b.yaml", &labelled("database", "shop", "db")),
        ("p.yaml", &policy("shop", "p", OF_SERVICE)),
    ]);
    assert_eq!(names(&bed, "web"), [""; 0]);
    let missing = status(&bed, "shop", "p").unwrap();
    assert_eq!(
        (missing.accepted, missing.reason),
        (false, "TargetNotFound")
    );
    assert!(bed.conflicts()[0].contains("there is no Service shop/web"));

    bed.apply("s.yaml", SERVICE);
    assert_eq!(names(&bed, "web"), ["shop/p"]);
    assert_eq!(names(&bed, "database"), [""; 0]);
    let found = status(&bed, "shop", "p").unwrap();
    assert_eq!((found.accepted, found.workloads), (true, 1));
    assert!(bed.conflicts().is_empty());

    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
        metadata: { name: web-1, namespace: shop, labels: { kubernetes.io/service-name: web } }\n\
        addressType: IPv4\n\
        endpoints: [{ addresses: [10.0.4.8], targetRef: { kind: Pod, name: database, namespace: shop } }]\n";
    bed.apply("slice.yaml", slice);
    assert_eq!(names(&bed, "database"), ["shop/p"]);
    bed.delete("slice.yaml", slice);
    assert_eq!(names(&bed, "database"), [""; 0]);
    bed.delete("s.yaml", SERVICE);
    assert_eq!(names(&bed, "web"), [""; 0]);
}

#[test]
fn defaults_are_the_meshs_or_the_namespaces_and_never_more_open_than_the_floor() {
    let config = |spec: &str| {
        format!(
            "---\napiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {{ name: default }}\n\
             spec: {{ {spec} }}\n"
        )
    };
    let namespace = |default: &str| {
        format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{ name: shop, annotations: {{ {default} }} }}\n"
        )
    };
    let mut bed = bed(&[("a.yaml", &labelled("web", "shop", "web"))]);
    let default = |bed: &Bed| membership(bed, "web").default;
    assert_eq!(default(&bed), DefaultAuthorization::AllowAll);
    bed.apply("m.yaml", &config("authorization: { default: Deny }"));
    assert_eq!(default(&bed), DefaultAuthorization::Deny);
    let own = namespace("weft.dev/default-authorization: Authenticated");
    bed.apply("n.yaml", &own);
    assert_eq!(default(&bed), DefaultAuthorization::Authenticated);
    let floor = "floor: { defaultAuthorization: SameNamespace }";
    bed.apply("m.yaml", &config(floor));
    assert_eq!(default(&bed), DefaultAuthorization::SameNamespace);
    let told = bed.conflicts();
    let below = "`Authenticated` is below the MeshConfig's spec.floor.defaultAuthorization";
    assert!(told.iter().any(|text| text.contains(below)), "{told:?}");
    let excepted = "floor: { defaultAuthorization: SameNamespace, exceptions: \
        [{ namespaces: { names: [shop] }, defaultAuthorization: AllowAll }] }";
    bed.apply("m.yaml", &config(excepted));
    assert_eq!(default(&bed), DefaultAuthorization::Authenticated);
    bed.apply("n.yaml", &namespace(""));
    assert_eq!(default(&bed), DefaultAuthorization::AllowAll);
}

const TCP: &str = "---\napiVersion: v1\nkind: Service\nmetadata: { name: db, namespace: shop }\n\
    spec: { clusterIP: 10.96.0.2, selector: { app: web }, \
    ports: [{ name: tcp-db, port: 5432 }, { name: http, port: 80, targetPort: http }] }\n";

#[test]
fn a_rule_that_looks_at_requests_on_a_port_that_carries_none_is_told_with_its_field() {
    let problem = |spec: &str| {
        let bed = bed(&[
            ("a.yaml", &labelled("web", "shop", "web")),
            ("b.yaml", TCP),
            ("p.yaml", &policy("shop", "p", spec)),
        ]);
        let told = bed.conflicts();
        assert!(status(&bed, "shop", "p").unwrap().accepted);
        told.into_iter().next()
    };
    let get = |ports: &str| format!("{{ to: [{{ {ports} methods: [GET] }}] }}");
    for (spec, field) in [
        (
            format!("rules: [{{}}, {}]", get("ports: [8080, 5432],")),
            Some("spec.rules[1].to[0]"),
        ),
        (format!("rules: [{}]", get("ports: [8080],")), None),
        (format!("rules: [{}]", get("")), None),
        (
            format!("action: DENY, rules: [{}]", get("")),
            Some("spec.rules[0].to[0]"),
        ),
        (
            format!("action: DENY, rules: [{}]", get("notPorts: [5432],")),
            None,
        ),
        (
            "action: DENY, rules: [{ when: [{ header: a, values: [b] }] }]".to_owned(),
            Some("spec.rules[0].when"),
        ),
        (
            "action: DENY, rules: [{ to: [{ ports: [5432] }] }]".to_owned(),
            None,
        ),
        (
            format!(
                "action: DENY, selector: {{ matchLabels: {{ app: x }} }}, rules: [{}]",
                get("")
            ),
            None,
        ),
    ] {
        let problem = problem(&spec);
        assert_eq!(problem.is_some(), field.is_some(), "{spec}: {problem:?}");
        if let (Some(problem), Some(field)) = (problem, field) {
            assert!(problem.starts_with("p.yaml: AuthorizationPolicy shop/p: in force, but "));
            assert!(problem.contains(field), "{problem}");
            assert!(
                problem.contains("port 5432 of pod shop/web carries no HTTP"),
                "{problem}"
            );
            assert!(problem.contains("Service shop/db"), "{problem}");
        }
    }
}

#[test]
fn a_service_that_comes_later_and_declares_no_http_is_told_to_the_author() {
    let rule = "action: DENY, rules: [{ to: [{ methods: [GET] }] }]";
    let mut bed = bed(&[
        ("a.yaml", &labelled("web", "shop", "web")),
        ("p.yaml", &policy("shop", "p", rule)),
        ("q.yaml", &policy("weft-system", "q", rule)),
    ]);
    bed.index.changed_authorization_statuses();
    assert!(bed.conflicts().is_empty());
    bed.apply("b.yaml", TCP);
    assert_eq!(bed.conflicts().len(), 2);
    assert_eq!(bed.index.changed_authorization_statuses().len(), 2);
    bed.delete("b.yaml", TCP);
    assert!(bed.conflicts().is_empty());
}

#[test]
fn one_that_can_not_be_read_is_told_and_denies() {
    let mut bed = bed(&[("a.yaml", &labelled("web", "shop", "web"))]);
    let object = json!({
        "metadata": { "name": "bad", "namespace": "shop" },
        "spec": { "rules": [{ "from": [{ "principals": ["a*b"] }] }] },
    });
    let kind = AuthorizationPolicyObject::KIND;
    let read = read_live::<AuthorizationPolicyObject>(kind, object);
    let object = Object::from(read.object.unwrap());
    bed.index
        .handle_event(Event::Applied(Origin::new(), object));
    bed.settle();
    assert_eq!(names(&bed, "web"), ["shop/bad"]);
    assert_eq!(published(&bed)[0].action, Action::Deny);
    let status = status(&bed, "shop", "bad").unwrap();
    assert_eq!((status.accepted, status.reason), (false, "Invalid"));
    assert!(
        status.message.contains("until it is right"),
        "{}",
        status.message
    );
}

/// An agent is there for the pods of all tenants of its node.
#[test]
fn policies_beyond_the_share_of_a_namespace_are_its_newest_and_deny() {
    let values: Vec<_> = (0..2000).map(|n| format!("n{n:0>59}")).collect();
    let rule = json!({ "from": [{ "namespaces": values }] });
    let object = |n: usize, action: &str| {
        let object = json!({
            "metadata": {
                "name": format!("p-{n}"), "namespace": "shop",
                "creationTimestamp": format!("2026-01-01T00:{:02}:{:02}Z", n / 60, n % 60),
            },
            "spec": { "action": action, "rules": [rule] },
        });
        let kind = AuthorizationPolicyObject::KIND;
        let read = read_live::<AuthorizationPolicyObject>(kind, object);
        Object::from(read.object.unwrap())
    };
    let mut bed = bed(&[
        ("a.yaml", &labelled("web", "shop", "web")),
        ("b.yaml", &labelled("elsewhere", "other", "web")),
        ("q.yaml", &policy("other", "q", "")),
    ]);
    // A quarter of a megabyte each.
    for n in 0..40 {
        let action = if n == 39 { "AUDIT" } else { "DENY" };
        let event = Event::Applied(Origin::new(), object(n, action));
        bed.index.handle_event(event);
    }
    bed.settle();
    let reason = |bed: &Bed, n: usize| status(bed, "shop", &format!("p-{n}")).unwrap().reason;
    let accepted = |bed: &Bed| (0..40).filter(|n| reason(bed, *n) == "Accepted").count();
    let count = accepted(&bed);
    assert!((30..35).contains(&count), "{count}");
    assert_eq!(reason(&bed, count - 1), "Accepted");
    assert_eq!(reason(&bed, count), "TooMany");
    assert_eq!(published(&bed).len(), count + 1);
    // One that isn't told of is enough to deny.
    assert_eq!(membership(&bed, "web").policies.len(), count + 1);
    assert_eq!(names(&bed, "elsewhere"), ["other/q"]);
    let key = object(0, "DENY").key();
    bed.index.handle_event(Event::Deleted(Origin::new(), key));
    bed.settle();
    assert_eq!(reason(&bed, count), "Accepted");
    assert_eq!(published(&bed).len(), count + 1);
}
