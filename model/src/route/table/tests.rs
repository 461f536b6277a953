use http::{HeaderMap, Method};
use proptest::prelude::*;

use super::*;
use crate::fixtures::service;
use crate::name::NamespacedName;
use crate::route::backend::BackendTarget;
use crate::route::matching::PathMatch;
use crate::route::path::PathNormalization;
use crate::route::rule::Parent;
use crate::service::ServicePort;

fn backend(name: &str, weight: u32) -> Backend {
    Backend {
        target: BackendTarget::Service {
            service: NamespacedName::new("default", name),
            port: 80,
        },
        weight,
        filters: Vec::new(),
    }
}

fn rule(name: &str, matches: Vec<RequestMatch>) -> Rule {
    Rule {
        name: name.into(),
        matches,
        backends: vec![backend(name, 1)],
        ..Rule::default()
    }
}

fn exact(path: &str) -> RequestMatch {
    RequestMatch {
        path: PathMatch::Exact(path.into()),
        ..RequestMatch::default()
    }
}

fn route(kind: RouteKind, name: &str, rules: Vec<Rule>) -> Route {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    Route {
        key: RouteKey {
            kind,
            name: NamespacedName::new(namespace, name),
        },
        created: 0,
        parents: vec![Parent {
            service: NamespacedName::new("default", "web"),
            port: None,
            section: None,
        }],
        hostnames: Vec::new(),
        rules,
    }
}

fn compiled(routes: Vec<Route>) -> ServiceRoutes {
    let routes: Vec<_> = routes.into_iter().map(Arc::new).collect();
    ServiceRoutes::new(&service("web", "10.0.0.1", 80), &routes)
}

fn chosen(routes: &ServiceRoutes, client: &str, path: &str) -> Option<String> {
    let headers = HeaderMap::new();
    let head = RequestHead {
        method: &Method::GET,
        path,
        query: None,
        headers: &headers,
    };
    let (rule, _) = routes.table(client, 80)?.match_request(&head)?;
    Some(rule.rule.name.to_string())
}

fn all() -> Vec<RequestMatch> {
    vec![RequestMatch::default()]
}

#[test]
fn rules_of_all_routes_are_one_list_by_precedence_and_age() {
    let mut old = route(RouteKind::Http, "b", vec![rule("old", all())]);
    let mut new = route(
        RouteKind::Http,
        "a",
        vec![rule("new", all()), rule("exact", vec![exact("/x")])],
    );
    (old.created, new.created) = (1, 2);
    let routes = compiled(vec![new.clone(), old.clone()]);
    assert_eq!(chosen(&routes, "any", "/"), Some("old".into()));
    assert_eq!(chosen(&routes, "any", "/x"), Some("exact".into()));
    old.created = 2;
    let routes = compiled(vec![old, new]);
    assert_eq!(chosen(&routes, "any", "/"), Some("new".into()), "by name");
}

#[test]
fn a_request_that_no_rule_is_for_has_none() {
    let routes = compiled(vec![route(
        RouteKind::Http,
        "a",
        vec![rule("x", vec![exact("/x")])],
    )]);
    assert_eq!(chosen(&routes, "any", "/y"), None);
}

#[test]
fn clients_with_routes_of_their_own_use_these_alone() {
    let routes = compiled(vec![
        route(RouteKind::Http, "producer", vec![rule("producer", all())]),
        route(
            RouteKind::Http,
            "client/consumer",
            vec![rule("consumer", vec![exact("/x")])],
        ),
    ]);
    assert_eq!(chosen(&routes, "client", "/x"), Some("consumer".into()));
    assert_eq!(chosen(&routes, "client", "/y"), None);
    assert_eq!(chosen(&routes, "other", "/x"), Some("producer".into()));
}

#[test]
fn one_kind_counts_on_a_port_and_the_others_have_no_effect() {
    let routes = compiled(vec![
        route(RouteKind::Http, "http", vec![rule("http", all())]),
        route(RouteKind::Grpc, "grpc", vec![rule("grpc", all())]),
        route(RouteKind::Tcp, "tcp", vec![rule("tcp", Vec::new())]),
    ]);
    let table = routes.table("any", 80).unwrap();
    assert_eq!(table.kind(), RouteKind::Grpc);
    assert_eq!(chosen(&routes, "any", "/"), Some("grpc".into()));
}

#[test]
fn a_parent_may_be_one_port_by_number_or_by_name() {
    let mut web = service("web", "10.0.0.1", 80);
    web.ports[0].name = "http".into();
    web.ports.push(crate::service::ServicePort {
        name: "admin".into(),
        port: 81,
        app_protocol: "".into(),
        node_port: None,
    });
    let mut one = route(RouteKind::Http, "one", vec![rule("one", all())]);
    one.parents[0].port = Some(81);
    let mut other = route(RouteKind::Http, "other", vec![rule("other", all())]);
    other.parents[0].section = Some("http".into());
    let routes = ServiceRoutes::new(&web, &[Arc::new(one), Arc::new(other)]);
    let name = |port| {
        routes
            .table("any", port)
            .unwrap()
            .connection_rule()
            .unwrap()
            .rule
            .name
            .to_string()
    };
    assert_eq!((name(81), name(80)), ("one".into(), "other".into()));
}

#[test]
fn the_closest_server_name_counts() {
    let tls = |name: &str, hostnames: &[&str]| Route {
        hostnames: hostnames.iter().map(|&name| name.into()).collect(),
        ..route(RouteKind::Tls, name, vec![rule(name, Vec::new())])
    };
    let routes = compiled(vec![
        tls("any", &[]),
        tls("wild", &["*.example.org"]),
        tls("exact", &["a.example.org"]),
    ]);
    let table = routes.table("x", 80).unwrap();
    let name = |server_name| {
        table
            .match_server_name(server_name)
            .unwrap()
            .rule
            .name
            .to_string()
    };
    assert_eq!(name(Some("A.example.org")), "exact");
    assert_eq!(name(Some("b.example.org")), "wild");
    assert_eq!(name(Some("x.b.example.org")), "wild");
    assert_eq!(name(Some("example.org")), "any");
    assert_eq!(name(None), "any");
    let bound = compiled(vec![tls("exact", &["a.example.org"])]);
    assert!(
        bound
            .table("x", 80)
            .unwrap()
            .match_server_name(None)
            .is_none()
    );
}

#[test]
fn a_rule_keeps_its_identity_and_shares_it_with_no_other() {
    let rules = || vec![rule("a", all()), rule("b", vec![exact("/x")])];
    let routes = || {
        vec![
            route(RouteKind::Http, "one", rules()),
            route(RouteKind::Http, "client/two", rules()),
        ]
    };
    let ids = |routes: Vec<Route>| -> Vec<_> {
        let mut ids: Vec<_> = compiled(routes).rules().map(|rule| rule.id).collect();
        ids.sort();
        ids
    };
    let first = ids(routes());
    let mut unique = first.clone();
    unique.dedup();
    assert_eq!(unique.len(), 4);
    let mut changed = routes();
    changed[0].created = 7;
    changed[0].rules[0].backends[0].weight = 9;
    assert_eq!(ids(changed), first);
}

#[test]
fn ports_with_the_same_routes_share_a_table_and_tables_share_rules() {
    let mut large = service("web", "10.0.0.1", 80);
    let ports = (1..=1000).map(|port| ServicePort {
        port,
        ..large.ports[0].clone()
    });
    large.ports = ports.collect();
    let mut one_port = route(RouteKind::Http, "two", vec![rule("b", vec![exact("/x")])]);
    one_port.parents[0].port = Some(7);
    let everywhere = route(RouteKind::Http, "one", vec![rule("a", all())]);
    let routes = ServiceRoutes::new(&large, &[Arc::new(everywhere), Arc::new(one_port)]);
    assert_eq!(routes.rules().count(), 2, "not one for each port");
    let table = |port| routes.table("any", port).unwrap();
    assert!(Arc::ptr_eq(table(1), table(1000)));
    assert!(!Arc::ptr_eq(table(1), table(7)));
    assert_eq!((table(1).rules.len(), table(7).rules.len()), (1, 2));
    assert!(Arc::ptr_eq(&table(1).rules[0], &table(7).rules[0]));
}

/// The name of the rule for a path; `Err` when there are several.
fn strictly(routes: &ServiceRoutes, path: &str, by: PathNormalization) -> Result<String, ()> {
    let headers = HeaderMap::new();
    let head = RequestHead {
        method: &Method::GET,
        path,
        query: None,
        headers: &headers,
    };
    let matched = routes.table("any", 80).unwrap();
    let matched = matched.match_normalized(&head, by).map_err(|_| ())?;
    Ok(matched.map_or_else(String::new, |(rule, _)| rule.rule.name.to_string()))
}

#[test]
fn a_path_that_may_be_read_in_two_ways_matters_where_rules_differ() {
    let below = |path: &str| RequestMatch {
        path: PathMatch::Prefix(path.into()),
        ..RequestMatch::default()
    };
    let rules = |paths: &[&str]| {
        let rules = paths.iter().map(|path| rule(path, vec![below(path)]));
        compiled(vec![route(RouteKind::Http, "r", rules.collect())])
    };
    use PathNormalization::{None, Strict};
    let routes = rules(&["/", "/admin", "/api"]);
    for (path, strict, as_sent) in [
        ("/admin/x", Ok("/admin"), "/admin"),
        ("/%61dmin/x", Ok("/admin"), "/admin"),
        ("//admin", Err(()), "/"),
        ("/admin//x", Ok("/admin"), "/admin"),
        ("/x/../admin", Err(()), "/"),
        ("/admin/../x", Err(()), "/admin"),
        ("/admin/x/../y", Ok("/admin"), "/admin"),
        ("/admin%2Fx", Err(()), "/"),
        ("/admin%5cx", Err(()), "/"),
        ("/admin\\x", Err(()), "/"),
        ("/x/%2e%2e%2fadmin", Err(()), "/"),
        ("/admin;v=1/x", Err(()), "/"),
        ("/x/..;/admin", Err(()), "/"),
        ("/admin%00", Err(()), "/"),
        ("/@scope%2fname", Ok("/"), "/"),
        ("/bucket//a/./b", Ok("/"), "/"),
        ("/api/v4/projects/a%2Fb", Ok("/api"), "/api"),
        ("/map;color=red", Ok("/"), "/"),
        ("/.well-known/x", Ok("/"), "/"),
    ] {
        let strict = strict.map(str::to_owned);
        assert_eq!(strictly(&routes, path, Strict), strict, "{path}");
        assert_eq!(strictly(&routes, path, None), Ok(as_sent.into()), "{path}");
    }
    // Where no rule is about paths, every path passes.
    let routes = rules(&["/"]);
    for path in [
        "//admin",
        "/x/../..",
        "/a%2f..%2Fb",
        "/a\\b;c",
        "/a%00",
        "/%",
    ] {
        assert_eq!(strictly(&routes, path, Strict), Ok("/".into()), "{path}");
    }
    let routes = rules(&["/api"]);
    assert_eq!(strictly(&routes, "//api", Strict), Err(()), "none, or one");
}

proptest! {
    /// Whatever the rules are, the one that is chosen matches, and none that comes first
    /// does.
    #[test]
    fn the_first_match_counts(paths in prop::collection::vec(("(/[ab]){1,3}", any::<bool>()), 1..8), asked in "(/[ab]){1,4}") {
        let matching = |(path, is_exact): &(String, bool)| match is_exact {
            true => exact(path),
            false => RequestMatch { path: PathMatch::Prefix(path.as_str().into()), ..RequestMatch::default() },
        };
        let rules = paths.iter().enumerate().map(|(n, path)| rule(&n.to_string(), vec![matching(path)]));
        let routes = compiled(vec![route(RouteKind::Http, "r", rules.collect())]);
        let headers = HeaderMap::new();
        let head = RequestHead { method: &Method::GET, path: &asked, query: None, headers: &headers };
        let fitting: Vec<_> = paths.iter().map(matching).filter(|matching| matching.matches(&head)).collect();
        match chosen(&routes, "any", &asked) {
            None => prop_assert!(fitting.is_empty()),
            Some(name) => {
                let chosen = matching(&paths[name.parse::<usize>().unwrap()]);
                prop_assert!(chosen.matches(&head));
                prop_assert!(fitting.iter().all(|other| chosen.compare_precedence(other).is_le()));
            }
        }
    }
}
