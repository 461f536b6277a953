//! Routes among other objects: what agents are told, and what is thought of them.

use std::collections::BTreeMap;

use weft_model::NamespacedName;
use weft_model::route::{BackendTarget, Filter, Route, RouteKey, RouteKind};

use super::*;
use crate::kinds::tests::read_live;
use crate::kinds::{RouteObject, ServiceObject};

/// A Service of namespace shop with ports 80 (named http) and 90.
fn service(name: &str, address: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: shop }}\n\
         spec: {{ clusterIP: {address}, ports: [{{ name: http, port: 80 }}, {{ name: other, port: 90 }}] }}\n"
    )
}

fn web() -> String {
    service("web", "10.96.0.1")
}

/// A route of that kind that is attached to Service web and sends to `backend`.
fn route(kind: &str, name: &str, parent: &str, backend: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("shop", name));
    let backend = match backend.contains("namespace:") {
        true => backend.to_owned(),
        false => format!("namespace: shop, {backend}"),
    };
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\n\
         metadata: {{ name: {name}, namespace: {namespace}, generation: 7 }}\n\
         spec:\n  parentRefs: [{{ group: '', kind: Service, name: web, namespace: shop {parent} }}]\n\
         \x20 rules: [{{ backendRefs: [{{ {backend} }}] }}]\n"
    )
}

fn key(kind: RouteKind, name: &str) -> RouteKey {
    let (namespace, name) = name.split_once('/').unwrap_or(("shop", name));
    let name = NamespacedName::new(namespace, name);
    RouteKey { kind, name }
}

const HTTP: RouteKind = RouteKind::Http;

impl Bed {
    fn routes(&self) -> Vec<Route> {
        let route = |change| match change {
            Change::Route(route) => Some(route),
            _ => None,
        };
        self.changes().into_iter().filter_map(route).collect()
    }

    /// Whether and why a route is accepted by its only parent, and its references too.
    fn conditions(&self, key: &RouteKey) -> [(Option<bool>, &'static str); 2] {
        let status = self.index.route_status(key).unwrap();
        assert_eq!(status.generation, Some(7));
        let [accepted] = status.accepted.as_slice() else {
            panic!("{status:?}")
        };
        [accepted, &status.resolved].map(|condition| (condition.status, condition.reason))
    }

    fn accepted(&self, key: &RouteKey) -> (Option<bool>, &'static str) {
        self.conditions(key)[0]
    }
}

#[test]
fn a_route_is_in_force_while_its_service_is_there() {
    let text = route("HTTPRoute", "r", "", "name: web, port: 80");
    let mut bed = bed(&[("route.yaml", &text)]);
    let key = key(HTTP, "r");
    assert_eq!(bed.accepted(&key), (Some(false), "NoMatchingParent"));
    assert!(bed.routes().is_empty(), "nothing that agents could follow");
    let conflict = "route.yaml: HTTPRoute shop/r: there is no Service shop/web";
    assert!(
        bed.conflicts().contains(&conflict.to_owned()),
        "{:?}",
        bed.conflicts()
    );
    bed.apply("web.yaml", &web());
    let in_force = [(Some(true), "Accepted"), (Some(true), "ResolvedRefs")];
    assert_eq!(bed.conditions(&key), in_force);
    assert_eq!(bed.routes().len(), 1);
    assert_eq!(bed.conflicts(), Vec::<String>::new());
    assert_eq!(
        bed.index.changed_route_statuses(),
        BTreeSet::from([key.clone()])
    );
    bed.delete("web.yaml", &web());
    assert_eq!(bed.accepted(&key), (Some(false), "NoMatchingParent"));
    assert!(bed.routes().is_empty());
    bed.delete("route.yaml", &text);
    assert_eq!(bed.index.route_status(&key), None);
    assert_eq!(bed.conflicts(), Vec::<String>::new());
}

#[test]
fn what_a_route_sends_to_has_to_exist() {
    let target = |bed: &Bed| bed.routes()[0].rules[0].backends[0].target.clone();
    let key = key(HTTP, "r");
    let there = route("HTTPRoute", "r", "", "name: api, port: 80");
    let mut bed = bed(&[("web.yaml", &web()), ("route.yaml", &there)]);
    assert_eq!(bed.conditions(&key)[1], (Some(false), "BackendNotFound"));
    let BackendTarget::Invalid { reason } = target(&bed) else {
        panic!("{:?}", bed.routes())
    };
    assert_eq!(&*reason, "there is no Service shop/api");
    bed.apply("api.yaml", &service("api", "10.96.0.2"));
    let service = NamespacedName::new("shop", "api");
    assert_eq!(target(&bed), BackendTarget::Service { service, port: 80 });
    assert_eq!(bed.conditions(&key)[1], (Some(true), "ResolvedRefs"));
    for (backend, reason) in [
        ("name: api, port: 81", "BackendNotFound"),
        ("name: api", "BackendNotFound"),
        (
            "name: api, port: 80, kind: Bucket, group: a.b",
            "InvalidKind",
        ),
    ] {
        bed.apply("route.yaml", &route("HTTPRoute", "r", "", backend));
        assert_eq!(bed.conditions(&key)[1], (Some(false), reason), "{backend}");
        assert!(
            matches!(target(&bed), BackendTarget::Invalid { .. }),
            "{backend}"
        );
        assert_eq!(
            bed.accepted(&key),
            (Some(true), "Accepted"),
            "the rest goes on"
        );
        let status = bed.index.route_status(&key).unwrap();
        let field = "spec.rules[0].backendRefs[0]";
        assert!(status.resolved.message.contains(field), "{status:?}");
    }
    let external = "---\napiVersion: v1\nkind: Service\nmetadata: { name: api, namespace: shop }\n\
        spec: { type: ExternalName, externalName: example.com, ports: [{ port: 80 }] }\n";
    bed.apply("api.yaml", external);
    bed.apply("route.yaml", &there);
    assert_eq!(bed.conditions(&key)[1], (Some(false), "InvalidKind"));
}

/// A ReferenceGrant of namespace bank for HTTPRoutes of namespace shop.
fn grant(to: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\n\
         metadata: {{ name: grant, namespace: bank }}\nspec:\n\
         \x20 from: [{{ group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop }}]\n\
         \x20 to: [{{ group: '', kind: Service {to} }}]\n"
    )
}

/// Service ledger of namespace bank.
fn ledger() -> String {
    service("ledger", "10.96.0.9").replace("namespace: shop", "namespace: bank")
}

/// It as a backend.
const LEDGER: &str = "name: ledger, port: 80, namespace: bank";
const REFUSED: (Option<bool>, &str) = (Some(false), "RefNotPermitted");
const RESOLVED: (Option<bool>, &str) = (Some(true), "ResolvedRefs");

#[test]
fn a_route_leads_clients_into_another_namespace_only_while_a_grant_there_permits_it() {
    let target = |bed: &Bed| bed.routes()[0].rules[0].backends[0].target.clone();
    let there = BackendTarget::Service {
        service: NamespacedName::new("bank", "ledger"),
        port: 80,
    };
    let text = route("HTTPRoute", "r", "", LEDGER);
    let key = key(HTTP, "r");
    // Nobody learns either which Services are there.
    let mut bed = bed(&[("web.yaml", &web()), ("route.yaml", &text)]);
    assert_eq!(bed.conditions(&key), [(Some(true), "Accepted"), REFUSED]);
    bed.apply("ledger.yaml", &ledger());
    assert_eq!(bed.conditions(&key)[1], REFUSED);
    let BackendTarget::Invalid { reason } = target(&bed) else {
        panic!("{:?}", bed.routes())
    };
    let message = "no ReferenceGrant of namespace bank lets HTTPRoutes of namespace shop send to \
                   Service bank/ledger";
    assert_eq!(&*reason, message);
    let status = bed.index.route_status(&key).unwrap();
    let field = "field spec.rules[0].backendRefs[0]: ";
    assert!(
        status
            .resolved
            .message
            .starts_with(&format!("{field}{message}")),
        "{status:?}"
    );
    let mut tried = String::new();
    for (to, expected) in [
        (", name: vault", REFUSED),
        (", name: ledger", RESOLVED),
        ("", RESOLVED),
    ] {
        tried = grant(to);
        bed.apply("grant.yaml", &tried);
        assert_eq!(bed.conditions(&key)[1], expected, "{to}");
        assert_eq!(target(&bed) == there, expected == RESOLVED, "{to}");
    }
    for elsewhere in [
        tried.replace("namespace: bank", "namespace: vault"),
        tried.replace("namespace: shop", "namespace: store"),
        tried.replace("kind: HTTPRoute", "kind: GRPCRoute"),
    ] {
        bed.apply("grant.yaml", &tried);
        assert_eq!(bed.conditions(&key)[1], RESOLVED);
        bed.delete("grant.yaml", &tried);
        bed.apply("grant.yaml", &elsewhere);
        assert_eq!(bed.conditions(&key)[1], REFUSED, "{elsewhere}");
        assert!(matches!(target(&bed), BackendTarget::Invalid { .. }));
        bed.delete("grant.yaml", &elsewhere);
    }
}

#[test]
fn a_grant_that_is_taken_back_ends_what_it_permitted_at_once() {
    let text = route("HTTPRoute", "r", "", LEDGER);
    let mut bed = bed(&[
        ("web.yaml", &web()),
        ("ledger.yaml", &ledger()),
        ("grant.yaml", &grant("")),
        ("route.yaml", &text),
    ]);
    let key = key(HTTP, "r");
    assert_eq!(bed.conditions(&key)[1], RESOLVED);
    bed.index.changed_route_statuses();
    for object in parse(&grant("")).unwrap() {
        let origin = "grant.yaml".to_owned();
        bed.index.handle_event(Event::Deleted(origin, object.key()));
    }
    let changes = bed.settle();
    let [Change::Route(told)] = changes.as_slice() else {
        panic!("{changes:?}")
    };
    let target = &told.rules[0].backends[0].target;
    assert!(
        matches!(target, BackendTarget::Invalid { .. }),
        "{target:?}"
    );
    assert_eq!(bed.conditions(&key)[1], REFUSED);
    assert_eq!(bed.index.changed_route_statuses(), BTreeSet::from([key]));
}

#[test]
fn a_mirror_into_another_namespace_asks_it_as_well() {
    let mirror = "filters: [{ type: RequestMirror, requestMirror: { backendRef: \
                  { name: ledger, namespace: bank, port: 80 } } }], backendRefs";
    let text = route("HTTPRoute", "r", "", "name: web, port: 80").replace("backendRefs", mirror);
    let mut bed = bed(&[
        ("web.yaml", &web()),
        ("ledger.yaml", &ledger()),
        ("route.yaml", &text),
    ]);
    let key = key(HTTP, "r");
    assert_eq!(bed.conditions(&key)[1], REFUSED);
    let mirrors = |bed: &Bed| {
        let Filter::Mirror(mirror) = &bed.routes()[0].rules[0].filters[0] else {
            panic!("{:?}", bed.routes())
        };
        mirror.target.clone()
    };
    assert!(matches!(mirrors(&bed), BackendTarget::Invalid { .. }));
    let backend = bed.routes()[0].rules[0].backends[0].target.clone();
    assert!(
        matches!(backend, BackendTarget::Service { .. }),
        "the request itself goes on"
    );
    bed.apply("grant.yaml", &grant(", name: ledger"));
    assert!(matches!(mirrors(&bed), BackendTarget::Service { .. }));
    assert_eq!(bed.conditions(&key)[1], RESOLVED);
}

#[test]
fn every_kind_of_route_needs_a_grant_of_its_own_kind() {
    for kind in RouteKind::ALL {
        let name = Kind::from(kind).name;
        let text = route(name, "r", "", LEDGER);
        let mut bed = bed(&[
            ("web.yaml", &web()),
            ("ledger.yaml", &ledger()),
            ("route.yaml", &text),
        ]);
        assert_eq!(bed.conditions(&key(kind, "r"))[1], REFUSED, "{name}");
        bed.apply("grant.yaml", &grant("").replace("HTTPRoute", name));
        assert_eq!(bed.conditions(&key(kind, "r"))[1], RESOLVED, "{name}");
    }
}

/// GEP-1294: these are for clients of the route's own namespace, which may go there by themselves.
#[test]
fn routes_of_the_clients_namespace_need_no_grant_unless_they_are_for_others_too() {
    let key = key(HTTP, "other/r");
    let mut bed = bed(&[("web.yaml", &web()), ("ledger.yaml", &ledger())]);
    for backend in ["name: web, port: 80", LEDGER] {
        bed.apply("route.yaml", &route("HTTPRoute", "other/r", "", backend));
        assert_eq!(bed.conditions(&key), [(Some(true), "Accepted"), RESOLVED]);
    }
    // A Service of its own as another parent makes it one for everybody.
    let own = "}, { group: '', kind: Service, name: own";
    let text = route("HTTPRoute", "other/r", own, LEDGER);
    bed.apply("route.yaml", &text);
    let status = bed.index.route_status(&key).unwrap();
    assert_eq!((status.resolved.status, status.resolved.reason), REFUSED);
}

#[test]
fn a_grant_concerns_the_routes_that_it_is_for_and_no_others() {
    let leads = route("HTTPRoute", "r", "", LEDGER);
    let tcp = leads.replace("HTTPRoute", "TCPRoute");
    let stays = route("HTTPRoute", "stays", "", "name: web, port: 80");
    let mut bed = bed(&[
        ("web.yaml", &web()),
        ("routes.yaml", &format!("{leads}{tcp}{stays}")),
    ]);
    for object in parse(&grant("")).unwrap() {
        bed.index
            .handle_event(Event::Applied("grant.yaml".to_owned(), object));
    }
    assert_eq!(bed.index.routes.dirty, BTreeSet::from([key(HTTP, "r")]));
    bed.settle();
}

#[test]
fn services_that_nothing_is_sent_to_are_no_parents() {
    let text = route("HTTPRoute", "r", "", "name: api, port: 80");
    let api = service("api", "10.96.0.2");
    let mut bed = bed(&[("route.yaml", &text), ("api.yaml", &api)]);
    let external = web().replace(
        "clusterIP: 10.96.0.1",
        "type: ExternalName, externalName: a.b",
    );
    for (service, why) in [
        (web().replace("10.96.0.1", "None"), "headless"),
        (external, "ExternalName"),
        (
            web()
                .replace("port: 80 }", "port: 80, protocol: UDP }")
                .replace("port: 90 }", "port: 90, protocol: UDP }"),
            "no TCP ports",
        ),
    ] {
        bed.apply("web.yaml", &service);
        let status = bed.index.route_status(&key(HTTP, "r")).unwrap();
        let accepted = &status.accepted[0];
        assert_eq!(
            (accepted.status, accepted.reason),
            (Some(false), "NoMatchingParent")
        );
        assert!(accepted.message.contains(why), "{why}: {accepted:?}");
        assert!(bed.routes().is_empty());
    }
}

#[test]
fn a_parent_is_a_port_of_the_service_by_number_name_or_both() {
    let mut bed = bed(&[("web.yaml", &web())]);
    for (parent, expected) in [
        (", port: 90", true),
        (", sectionName: http", true),
        (", port: 80, sectionName: http", true),
        (", port: 81", false),
        (", sectionName: none", false),
        (", port: 90, sectionName: http", false),
    ] {
        bed.apply(
            "r.yaml",
            &route("HTTPRoute", "r", parent, "name: web, port: 80"),
        );
        let reason = if expected {
            "Accepted"
        } else {
            "NoMatchingParent"
        };
        assert_eq!(
            bed.accepted(&key(HTTP, "r")),
            (Some(expected), reason),
            "{parent}"
        );
        assert_eq!(bed.routes().len(), usize::from(expected), "{parent}");
    }
}

#[test]
fn of_several_kinds_on_a_port_the_first_counts_and_the_others_say_so() {
    let backend = "name: web, port: 80";
    let mut bed = bed(&[
        ("web.yaml", &web()),
        ("http.yaml", &route("HTTPRoute", "r", "", backend)),
        ("tcp.yaml", &route("TCPRoute", "r", ", port: 80", backend)),
        (
            "tls.yaml",
            &route("TLSRoute", "other/r", ", port: 80", backend),
        ),
    ]);
    let (http, tcp) = (key(HTTP, "r"), key(RouteKind::Tcp, "r"));
    assert_eq!(bed.accepted(&http), (Some(true), "Accepted"));
    assert_eq!(bed.accepted(&tcp), (Some(false), "Conflicted"));
    // Of another namespace, so for other clients.
    let tls = key(RouteKind::Tls, "other/r");
    assert_eq!(bed.accepted(&tls), (Some(true), "Accepted"));

    bed.index.changed_route_statuses();
    let grpc = route("GRPCRoute", "g", ", port: 80", backend);
    bed.apply("grpc.yaml", &grpc);
    let changed_route_statuses = [key(RouteKind::Grpc, "g"), http.clone(), tcp.clone()];
    assert_eq!(
        bed.index.changed_route_statuses(),
        BTreeSet::from(changed_route_statuses)
    );
    let status = bed.index.route_status(&http).unwrap();
    let message = &status.accepted[0].message;
    assert_eq!(status.accepted[0].status, Some(true), "port 90 is left");
    assert!(
        message.contains("GRPCRoute/shop/g") && message.contains("port 80"),
        "{message}"
    );
    let one_port = route("HTTPRoute", "r", ", sectionName: http", backend);
    bed.apply("http.yaml", &one_port);
    assert_eq!(bed.accepted(&http), (Some(false), "Conflicted"));
    bed.delete("grpc.yaml", &grpc);
    assert_eq!(bed.accepted(&http), (Some(true), "Accepted"));
    bed.delete("http.yaml", &one_port);
    assert_eq!(bed.accepted(&tcp), (Some(true), "Accepted"));
}

#[test]
fn a_route_that_says_what_nobody_can_follow_costs_itself() {
    let good = route("TCPRoute", "r", "", "name: web, port: 80");
    let mut bed = bed(&[("web.yaml", &web()), ("good.yaml", &good)]);
    // As an API server would tell of it; a file of a directory counts as a whole.
    let bad = serde_json::json!({
        "metadata": { "name": "bad", "namespace": "shop", "generation": 7 },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "web" }],
            "rules": [{ "timeouts": { "request": "soon" } }],
        },
    });
    let bad = read_live::<RouteObject>(HTTP.into(), bad).object.unwrap();
    bed.index
        .handle_event(Event::Applied(String::new(), Object::Route(bad)));
    bed.settle();
    let conditions = bed.conditions(&key(HTTP, "bad"));
    assert_eq!(
        conditions,
        [(Some(false), "UnsupportedValue"), (None, "Pending")]
    );
    let status = bed.index.route_status(&key(HTTP, "bad")).unwrap();
    let message = &status.accepted[0].message;
    assert!(
        message.contains("field spec.rules[0].timeouts.request"),
        "{message}"
    );
    let told: Vec<_> = bed.routes().into_iter().map(|route| route.key).collect();
    assert_eq!(told, [key(RouteKind::Tcp, "r")]);
    assert_eq!(
        bed.accepted(&told[0]),
        (Some(true), "Accepted"),
        "it stands in nobody's way"
    );
}

#[test]
fn only_what_a_change_concerns_is_looked_at_again() {
    let text = route("HTTPRoute", "r", "", "name: web, port: 80");
    let mut bed = bed(&[("web.yaml", &web()), ("route.yaml", &text)]);
    bed.apply("api.yaml", &service("api", "10.96.0.2"));
    for (service, concerned) in [("api", false), ("web", true)] {
        let object = bed
            .index
            .objects
            .tables
            .get::<ServiceObject>(&NamespacedName::new("shop", service));
        let mut object = object.unwrap().clone();
        object.selector.insert("app".to_owned(), "x".to_owned());
        let origin = format!("{service}.yaml");
        bed.index
            .handle_event(Event::Applied(origin, Object::Service(object)));
        assert_eq!(!bed.index.routes.dirty.is_empty(), concerned, "{service}");
        assert_eq!(bed.settle(), vec![], "{service}");
    }
}

#[test]
fn of_two_files_with_one_route_the_first_counts() {
    let first = route("HTTPRoute", "r", ", port: 80", "name: web, port: 80");
    let second = route("HTTPRoute", "r", ", port: 90", "name: web, port: 80");
    let mut bed = bed(&[
        ("web.yaml", &web()),
        ("b.yaml", &second),
        ("a.yaml", &first),
    ]);
    let port = |bed: &Bed| bed.routes()[0].parents[0].port;
    assert_eq!(port(&bed), Some(80));
    assert!(
        bed.conflicts()[0].contains("HTTPRoute shop/r is also in a.yaml"),
        "{:?}",
        bed.conflicts()
    );
    bed.delete("a.yaml", &first);
    assert_eq!(port(&bed), Some(90));
}

proptest! {
    /// Whatever comes and goes in whatever order: agents are told what an index is told
    /// that learns of everything at once, and a route is told of exactly when one of its
    /// parents was accepted or lost to another kind.
    #[test]
    fn the_order_of_events_does_not_matter(
        steps in prop::collection::vec((0usize..8, any::<bool>(), 0usize..3), 1..40),
    ) {
        let texts = |which: usize, variant: usize| match which {
            0 => web(),
            1 => service("api", "10.96.0.2").replace("10.96.0.2", ["10.96.0.2", "None", "10.96.0.3"][variant]),
            2 => route("HTTPRoute", "r", ["", ", port: 80", ", port: 81"][variant], "name: api, port: 80"),
            3 => route("TCPRoute", "r", ["", ", port: 90", ", sectionName: x"][variant], "name: web, port: 80"),
            4 => route("GRPCRoute", "r", ", port: 80", ["name: api", "name: web, port: 80", "name: none, port: 1"][variant]),
            5 => grant(["", ", name: ledger", ", name: vault"][variant]),
            6 => route("HTTPRoute", "s", "", [LEDGER, "name: api, port: 80", "name: vault, port: 80, namespace: bank"][variant]),
            _ => route("HTTPRoute", "other/r", "", ["name: web, port: 90", "name: api, port: 90", "name: api, port: 9"][variant]),
        };
        let mut bed = Bed::default();
        let mut present: BTreeMap<usize, String> = BTreeMap::new();
        for (which, remove, variant) in steps {
            let text = texts(which, variant);
            match remove {
                true => {
                    bed.delete("all.yaml", &text);
                    present.remove(&which);
                }
                false => {
                    bed.apply("all.yaml", &text);
                    present.insert(which, text);
                }
            }
        }
        let all: String = present.values().map(String::as_str).collect();
        let fresh = super::bed(&[("all.yaml", &all)]);
        prop_assert_eq!(bed.versions(), fresh.versions());
        prop_assert_eq!(bed.conflicts(), fresh.conflicts());
        prop_assert_eq!(&bed.index.routes.statuses, &fresh.index.routes.statuses);
        for (key, status) in &bed.index.routes.statuses {
            let is_told = bed.routes().iter().any(|route| route.key == *key);
            let is_attached = status.accepted[0].reason != "NoMatchingParent";
            prop_assert_eq!(is_told, is_attached, "{}", key);
        }
    }
}
