use http::{HeaderName, Method, StatusCode};
use proptest::option;
use proptest::prelude::*;
use weft_model::NamespacedName;
use weft_model::route::cors::Cors;
use weft_model::route::filter::{HeaderModifier, Mirror, PathModifier, Redirect, Rewrite};
use weft_model::route::matching::{PathMatch, Pattern, ValueMatch};
use weft_model::route::{
    BackendTarget, Filter, RequestMatch, Retry, SessionCarrier, SessionPersistence,
};

use super::*;

fn any_name() -> impl Strategy<Value = HeaderName> {
    "[a-z][a-z-]{0,8}".prop_map(|name| name.parse().unwrap())
}

fn any_pattern() -> impl Strategy<Value = Pattern> {
    "[a-z]{1,4}[*+]?".prop_map(|text| Pattern::new(&text).unwrap())
}

fn any_value() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        "[ -~]{0,6}".prop_map(|text| ValueMatch::Exact(text.into())),
        any_pattern().prop_map(ValueMatch::Regex),
    ]
}

fn any_path() -> impl Strategy<Value = PathMatch> {
    let part = || option::of("[a-z.]{1,6}".prop_map(Into::into));
    prop_oneof![
        "/[a-z/]{0,6}".prop_map(|path| PathMatch::Exact(path.into())),
        "/[a-z/]{0,6}".prop_map(|path| PathMatch::Prefix(path.into())),
        any_pattern().prop_map(PathMatch::Regex),
        (part(), part()).prop_map(|(service, method)| PathMatch::Grpc { service, method }),
        (option::of(any_pattern()), option::of(any_pattern()))
            .prop_map(|(service, method)| PathMatch::GrpcRegex { service, method }),
    ]
}

prop_compose! {
    fn any_match()(
        path in any_path(),
        method in option::of(Just(Method::PUT)),
        headers in prop::collection::vec((any_name(), any_value()), 0..3),
        query in prop::collection::vec(("[a-z]{0,4}".prop_map(Into::into), any_value()), 0..3),
    ) -> RequestMatch {
        RequestMatch { path, method, headers, query }
    }
}

fn any_target() -> impl Strategy<Value = BackendTarget> {
    prop_oneof![
        ("[a-z]{1,6}", 1u16..).prop_map(|(name, port)| BackendTarget::Service {
            service: NamespacedName::new("shop", &name),
            port,
        }),
        "[a-z ]{0,6}".prop_map(|reason| BackendTarget::Invalid {
            reason: reason.into()
        }),
    ]
}

fn any_modifier() -> impl Strategy<Value = HeaderModifier> {
    let headers = || {
        let value = "[!-~]{0,6}".prop_map(|value| value.parse().unwrap());
        prop::collection::vec((any_name(), value), 0..3)
    };
    let remove = prop::collection::vec(any_name(), 0..3);
    (headers(), headers(), remove).prop_map(|(set, add, remove)| HeaderModifier {
        set,
        add,
        remove,
    })
}

fn any_path_modifier() -> impl Strategy<Value = Option<PathModifier>> {
    option::of(prop_oneof![
        "[a-z/]{0,6}".prop_map(|path| PathModifier::Full(path.into())),
        "[a-z/]{0,6}".prop_map(|path| PathModifier::Prefix(path.into())),
    ])
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let host = || option::of("[a-z.]{1,6}");
    let redirect =
        (host(), any_path_modifier(), option::of(1u16..)).prop_map(|(hostname, path, port)| {
            Filter::Redirect(Redirect {
                scheme: port.map(|_| "https".into()),
                hostname: hostname.map(Into::into),
                path,
                port,
                status: StatusCode::FOUND,
            })
        });
    let rewrite = (host(), any_path_modifier()).prop_map(|(hostname, path)| {
        let hostname = hostname.map(|name| name.parse().unwrap());
        Filter::Rewrite(Rewrite { hostname, path })
    });
    let mirror = (any_target(), 0u32..100, 1u32..).prop_map(|(target, numerator, denominator)| {
        Filter::Mirror(Mirror {
            target,
            numerator,
            denominator,
        })
    });
    let list = || prop::collection::vec("[a-z*]{1,5}".prop_map(Into::into), 0..3);
    let cors = (list(), list(), list(), list(), any::<bool>(), any::<u32>()).prop_map(
        |(allow_origins, allow_methods, allow_headers, expose_headers, allow_credentials, age)| {
            Filter::Cors(Cors {
                allow_origins,
                allow_credentials,
                allow_methods,
                allow_headers,
                expose_headers,
                max_age: Duration::from_secs(age.into()),
            })
        },
    );
    prop_oneof![
        any_modifier().prop_map(Filter::RequestHeaders),
        any_modifier().prop_map(Filter::ResponseHeaders),
        redirect,
        rewrite,
        mirror,
        cors,
    ]
}

fn any_session() -> impl Strategy<Value = SessionPersistence> {
    let lifetime = option::of(any::<u32>().prop_map(|seconds| Duration::from_secs(seconds.into())));
    let carrier = prop_oneof![
        Just(SessionCarrier::Header),
        lifetime.prop_map(|lifetime| SessionCarrier::Cookie { lifetime }),
    ];
    ("[a-z]{1,6}", carrier).prop_map(|(name, carrier)| SessionPersistence {
        name: name.into(),
        carrier,
    })
}

prop_compose! {
    fn any_rule()(
        name in "[a-z]{0,6}",
        matches in prop::collection::vec(any_match(), 0..3),
        filters in prop::collection::vec(any_filter(), 0..3),
        backends in prop::collection::vec((any_target(), any::<u32>(), prop::collection::vec(any_filter(), 0..2)), 0..3),
        timeouts in prop::array::uniform2(option::of(any::<u32>().prop_map(|us| Duration::from_micros(us.into())))),
        retry in option::of((prop::collection::vec(100u16..=599, 0..3), any::<u32>(), any::<u32>())),
        session in option::of(any_session()),
    ) -> Rule {
        let backend = |(target, weight, filters)| Backend { target, weight, filters };
        let retry = retry.map(|(codes, attempts, backoff)| Retry {
            codes: codes.into_iter().map(|code| StatusCode::from_u16(code).unwrap()).collect(),
            attempts,
            backoff: Duration::from_micros(backoff.into()),
        });
        let [request, backend_request] = timeouts;
        Rule {
            name: name.into(),
            matches,
            filters,
            backends: backends.into_iter().map(backend).collect(),
            timeouts: Timeouts { request, backend_request },
            retry,
            session,
        }
    }
}

proptest! {
    #[test]
    fn a_route_survives_the_wire(
        kind in prop::sample::select(RouteKind::ALL.to_vec()),
        name in "[a-z]{1,8}",
        created: i64,
        parents in prop::collection::vec(("[a-z]{1,6}", option::of(1u16..), option::of("[a-z]{1,6}")), 0..3),
        hostnames in prop::collection::vec("[a-z*.]{1,8}".prop_map(Into::into), 0..3),
        rules in prop::collection::vec(any_rule(), 0..3),
    ) {
        let parents = parents.into_iter().map(|(service, port, section)| Parent {
            service: NamespacedName::new("shop", &service),
            port,
            section: section.map(Into::into),
        });
        let route = Route {
            key: RouteKey { kind, name: NamespacedName::new("shop", &name) },
            created,
            parents: parents.collect(),
            hostnames,
            rules,
        };
        prop_assert_eq!(Route::try_from(v1::Route::from(&route)), Ok(route));
    }
}

#[test]
fn what_a_proxy_could_not_follow_is_refused() {
    let with = |rule: v1::RouteRule| {
        Route::try_from(v1::Route {
            kind: v1::RouteKind::Http.into(),
            namespace: "shop".into(),
            name: "web".into(),
            rules: vec![rule],
            ..Default::default()
        })
    };
    assert!(with(v1::RouteRule::default()).is_ok());
    let unknown_filter = v1::RouteRule {
        filters: vec![v1::RouteFilter { filter: None }],
        ..Default::default()
    };
    assert!(with(unknown_filter).is_err());
    let pattern = v1::RouteRule {
        matches: vec![v1::RequestMatch {
            path: Some(v1::request_match::Path::Regex("(".into())),
            ..Default::default()
        }],
        ..Default::default()
    };
    let error = with(pattern).unwrap_err().to_string();
    assert!(error.contains("matches.path"), "{error}");
    let kindless = v1::Route {
        kind: 99,
        namespace: "shop".into(),
        name: "web".into(),
        ..Default::default()
    };
    assert!(Route::try_from(kindless).is_err());
}
