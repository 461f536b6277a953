use std::time::Duration;

use proptest::prelude::*;
use weft_model::route::filter::{Mirror, PathModifier};
use weft_model::route::matching::{PathMatch, ValueMatch};
use weft_model::route::{Filter, RequestMatch, Rule, SessionCarrier, Timeouts};

use super::*;
use crate::kinds::Object;
use crate::kinds::tests::read_live;
use crate::source::manifest::parse;

/// A route of a kind, attached to Service web, with these fields in its `spec`.
fn manifest(kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\n\
         metadata: {{ name: web, namespace: shop }}\n\
         spec:\n  parentRefs: [{{ group: '', kind: Service, name: web }}]\n{spec}\n"
    )
}

fn route(kind: &str, spec: &str) -> RouteObject {
    let text = manifest(kind, spec);
    match parse(&text).map(|mut objects| objects.pop()) {
        Ok(Some(Object::Route(route))) => route,
        other => panic!("{text}: {other:?}"),
    }
}

fn content(kind: &str, spec: &str) -> RouteContent {
    route(kind, spec).content.unwrap()
}

/// The rule of an HTTPRoute.
fn rule(fields: &str) -> Rule {
    content("HTTPRoute", &format!("  rules: [{{ {fields} }}]"))
        .rules
        .remove(0)
}

fn filter(fields: &str) -> Filter {
    rule(&format!("filters: [{{ {fields} }}]"))
        .filters
        .remove(0)
}

/// What is wrong with a route.
fn complaint(kind: &str, spec: &str) -> String {
    parse(&manifest(kind, spec)).unwrap_err().to_string()
}

#[test]
fn only_services_as_parents_make_a_route_the_meshs_business() {
    let text = |parents: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{ name: web }}\n\
             spec: {{ parentRefs: [{parents}], rules: [{{ filters: [{{ type: ExtensionRef }}] }}] }}\n"
        )
    };
    for none in ["", "{ name: edge }", "{ kind: Service, name: web }"] {
        assert_eq!(parse(&text(none)), Ok(vec![]), "{none}");
    }
    let parents = "  - { name: edge }\n  - { group: '', kind: Service, name: web, port: 80 }\n  \
                   - { group: '', kind: Service, namespace: bank, name: api, sectionName: http }";
    let text = format!(
        "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: HTTPRoute\n\
         metadata: {{ name: web, creationTimestamp: 1970-01-01T00:01:00Z, generation: 3 }}\n\
         spec:\n  parentRefs:\n{parents}\n"
    );
    let Object::Route(route) = parse(&text).unwrap().remove(0) else {
        panic!("{text}")
    };
    assert_eq!(route.key.to_string(), "HTTPRoute/default/web");
    assert_eq!((route.created, route.generation), (60, Some(3)));
    let [web, api] = route.parents.as_slice() else {
        panic!("{route:?}")
    };
    assert_eq!(web.service, NamespacedName::new("default", "web"));
    assert_eq!((web.port, &web.section), (Some(80), &None));
    assert_eq!(api.service, NamespacedName::new("bank", "api"));
    assert_eq!(api.section.as_deref(), Some("http"));
    // As the schema has it: one rule, for everything.
    let rules = route.content.unwrap().rules;
    assert_eq!(rules[0].matches, [RequestMatch::default()]);
}

#[test]
fn versions_that_a_kind_had_are_read_and_others_refused() {
    let of = |version: &str, kind: &str| {
        let text = manifest(
            kind,
            "  rules: [{ backendRefs: [{ name: web, port: 80 }] }]",
        );
        parse(&text.replace("k8s.io/v1", &format!("k8s.io/{version}"))).map(|objects| objects.len())
    };
    for (version, kind) in [
        ("v1beta1", "HTTPRoute"),
        ("v1alpha2", "GRPCRoute"),
        ("v1alpha3", "TLSRoute"),
        ("v1alpha2", "TCPRoute"),
    ] {
        assert_eq!(of(version, kind), Ok(1), "{version} {kind}");
    }
    let error = of("v2", "HTTPRoute").unwrap_err().to_string();
    assert!(
        error.contains("field apiVersion: `v2` is not one of `v1`"),
        "{error}"
    );
    assert_eq!(of("v1", "UDPRoute"), Ok(0));
}

#[test]
fn every_match_of_a_request_is_read() {
    let rule = rule(
        "name: all, matches: [{ path: { type: Exact, value: /a }, method: PUT, \
         headers: [{ name: X-Tag, value: one }, { name: x-tag, value: two }], \
         queryParams: [{ name: q, type: RegularExpression, value: 'a+' }] }, \
         { path: { value: /b } }, { path: { type: RegularExpression, value: '/c[0-9]' } }, {}]",
    );
    assert_eq!(&*rule.name, "all");
    let [exact, prefix, regex, any] = rule.matches.as_slice() else {
        panic!("{rule:?}")
    };
    assert_eq!(exact.path, PathMatch::Exact("/a".into()));
    assert_eq!(exact.method.as_ref().map(http::Method::as_str), Some("PUT"));
    let [(name, value)] = exact.headers.as_slice() else {
        panic!("the first of one name counts: {exact:?}")
    };
    assert_eq!(
        (name.as_str(), value),
        ("x-tag", &ValueMatch::Exact("one".into()))
    );
    assert!(matches!(&exact.query[..], [(name, ValueMatch::Regex(_))] if &**name == "q"));
    assert_eq!(prefix.path, PathMatch::Prefix("/b".into()));
    assert!(matches!(&regex.path, PathMatch::Regex(pattern) if pattern.as_str() == "/c[0-9]"));
    assert_eq!(any, &RequestMatch::default());
}

#[test]
fn calls_of_grpc_match_exactly_or_by_pattern() {
    let content = content(
        "GRPCRoute",
        "  rules: [{ matches: [{ method: { service: .shop.Web, method: Get } }, \
         { method: { type: RegularExpression, method: 'Get|List' } }, \
         { headers: [{ name: tag, value: a }] }] }, {}]",
    );
    let matches = &content.rules[0].matches;
    let exact = PathMatch::Grpc {
        service: Some("shop.Web".into()),
        method: Some("Get".into()),
    };
    assert_eq!(matches[0].path, exact);
    assert!(matches!(
        &matches[1].path,
        PathMatch::GrpcRegex {
            service: None,
            method: Some(_)
        }
    ));
    assert_eq!((&matches[2].path, matches[2].headers.len()), (&ANY_CALL, 1));
    assert_eq!(content.rules[1].matches[0].path, ANY_CALL);
}

const ANY_CALL: PathMatch = PathMatch::Grpc {
    service: None,
    method: None,
};

#[test]
fn every_filter_is_read() {
    let Filter::RequestHeaders(headers) = filter(
        "type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: A, value: '1' }], \
         add: [{ name: b, value: '2 3' }], remove: [c] }",
    ) else {
        panic!()
    };
    assert_eq!(headers.set[0].0.as_str(), "a");
    assert_eq!(
        (&headers.add[0].1, headers.remove[0].as_str()),
        (&"2 3".parse().unwrap(), "c")
    );
    let Filter::Redirect(redirect) = filter(
        "type: RequestRedirect, requestRedirect: { scheme: https, hostname: example.org, \
         port: 8443, statusCode: 308, path: { type: ReplaceFullPath, replaceFullPath: /new } }",
    ) else {
        panic!()
    };
    assert_eq!(
        (redirect.scheme.as_deref(), redirect.port),
        (Some("https"), Some(8443))
    );
    assert_eq!(redirect.hostname.as_deref(), Some("example.org"));
    assert_eq!(
        (redirect.status.as_u16(), redirect.path),
        (308, Some(PathModifier::Full("/new".into())))
    );
    let Filter::Rewrite(rewrite) = filter(
        "type: URLRewrite, urlRewrite: { hostname: api.bank, \
         path: { type: ReplacePrefixMatch, replacePrefixMatch: '' } }",
    ) else {
        panic!()
    };
    assert_eq!(rewrite.path, Some(PathModifier::Prefix("".into())));
    assert_eq!(rewrite.hostname.unwrap(), "api.bank");
    let response = filter("type: ResponseHeaderModifier, responseHeaderModifier: {}");
    assert!(matches!(response, Filter::ResponseHeaders(_)));
    let Filter::Cors(cors) = filter(
        "type: CORS, cors: { allowOrigins: ['https://*.Example.com:443', 'http://a:81'], \
         allowMethods: [GET], allowHeaders: ['*'], exposeHeaders: [X-A], allowCredentials: true }",
    ) else {
        panic!()
    };
    assert_eq!(
        cors.allow_origins,
        ["https://*.example.com".into(), "http://a:81".into()]
    );
    assert_eq!(cors.expose_headers, ["x-a".into()]);
    assert_eq!(
        cors.max_age,
        Duration::from_secs(5),
        "unless it says otherwise"
    );
}

#[test]
fn mirrors_copy_a_part_of_the_requests() {
    let mirror = |share: &str| {
        let mirror = filter(&format!(
            "type: RequestMirror, requestMirror: {{ backendRef: {{ name: copy, port: 81 }} {share} }}"
        ));
        match mirror {
            Filter::Mirror(Mirror {
                numerator,
                denominator,
                ..
            }) => (numerator, denominator),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(mirror(""), (100, 100));
    assert_eq!(mirror(", percent: 0"), (0, 100));
    assert_eq!(mirror(", fraction: { numerator: 1 }"), (1, 100));
    assert_eq!(
        mirror(", fraction: { numerator: 1, denominator: 1000 }"),
        (1, 1000)
    );
}

#[test]
fn limits_retries_and_sessions_are_read() {
    let read = rule(
        "timeouts: { request: 0s, backendRequest: 500ms }, \
         retry: { codes: [500, 503], attempts: 3, backoff: 1s500ms }, \
         sessionPersistence: { sessionName: s, absoluteTimeout: 1h, cookieConfig: { lifetimeType: Permanent } }",
    );
    let half = Some(Duration::from_millis(500));
    assert_eq!(
        read.timeouts,
        Timeouts {
            request: Some(Duration::ZERO),
            backend_request: half
        },
        "no limit, whatever a policy says"
    );
    let retry = read.retry.unwrap();
    assert_eq!((retry.codes.len(), retry.attempts), (2, 3));
    assert_eq!(retry.backoff, Duration::from_millis(1500));
    let session = read.session.unwrap();
    let lifetime = Some(Duration::from_secs(3600));
    assert_eq!(
        (&*session.name, session.carrier),
        ("s", SessionCarrier::Cookie { lifetime })
    );
    let defaults = rule("retry: {}, sessionPersistence: { type: Header }");
    assert_eq!(defaults.retry.unwrap().attempts, 1);
    let session = defaults.session.unwrap();
    assert_eq!(
        (&*session.name, session.carrier),
        ("weft-session-shop-web-0", SessionCarrier::Header)
    );
}

#[test]
fn backends_have_shares_and_filters_and_lead_nowhere_one_by_one() {
    let content = content(
        "HTTPRoute",
        "  rules: [{ backendRefs: [{ name: a, port: 80 }, { name: b, namespace: bank, port: 81, weight: 0, \
         filters: [{ type: RequestMirror, requestMirror: { backendRef: { name: c, port: 82 } } }] }, \
         { name: d }, { group: example.com, kind: Bucket, name: e }] }]",
    );
    let backends = &content.rules[0].backends;
    assert_eq!((backends[0].weight, backends[1].weight), (1, 0));
    let targets: Vec<_> = content.targets.iter().map(ToString::to_string).collect();
    assert_eq!(targets, ["bank/b", "shop/a", "shop/c"]);
    let invalid = content
        .invalid
        .iter()
        .map(|one| (one.field.as_str(), one.why, one.message.as_str()));
    let invalid: Vec<_> = invalid.collect();
    let expected = [
        (
            "spec.rules[0].backendRefs[2]",
            ReferenceProblem::NotFound,
            "no port of Service shop/d is named",
        ),
        (
            "spec.rules[0].backendRefs[3]",
            ReferenceProblem::Kind,
            "Bucket.example.com shop/e is not a Service",
        ),
    ];
    assert_eq!(invalid, expected);
    let mut rules = content.rules.clone();
    let fields: Vec<_> = targets_mut(&mut rules)
        .into_iter()
        .map(|(field, _)| field)
        .collect();
    assert_eq!(
        fields[1],
        "spec.rules[0].backendRefs[1].filters[0].requestMirror.backendRef"
    );
    assert_eq!(fields.len(), 5);
}

#[test]
fn connections_are_routed_by_name_and_share() {
    let rules = "  rules: [{ name: r, backendRefs: [{ name: a, port: 80, weight: 3 }] }]";
    let tls = content(
        "TLSRoute",
        &format!("  hostnames: ['*.example.com', a.b]\n{rules}"),
    );
    assert_eq!(tls.hostnames, ["*.example.com".into(), "a.b".into()]);
    assert_eq!(tls.rules[0].backends[0].weight, 3);
    assert!(tls.rules[0].matches.is_empty());
    assert_eq!(content("TCPRoute", rules).rules.len(), 1);
    // GEP-1294: they say nothing about requests to a Service.
    let http = content("HTTPRoute", &format!("  hostnames: [a.b]\n{rules}"));
    assert!(http.hostnames.is_empty());
}

/// What a rule of an HTTPRoute can say that nobody could follow, the field that the error
/// names, and a part of what it says.
const WRONG_RULES: &[(&str, &str, &str)] = &[
    (
        "matches: [{ path: { type: RegularExpression, value: '(' } }]",
        "matches[0].path.value",
        "`(` is not a regular",
    ),
    (
        "matches: [{ path: { type: Glob } }]",
        "matches[0].path.type",
        "`Glob` is not one of",
    ),
    (
        "matches: [{ path: { value: a } }]",
        "matches[0].path.value",
        "begin with `/`",
    ),
    (
        "matches: [{ path: { value: /a/../b } }]",
        "matches[0].path.value",
        "`..`",
    ),
    (
        "matches: [{ path: { value: /a%2Fb } }]",
        "matches[0].path.value",
        "encoded",
    ),
    (
        "matches: [{ path: { value: '/a%zz' } }]",
        "matches[0].path.value",
        "character",
    ),
    (
        "matches: [{ method: get }]",
        "matches[0].method",
        "`get` is not one of",
    ),
    (
        "matches: [{ headers: [{ name: 'a b', value: x }] }]",
        "matches[0].headers[0].name",
        "`a b` is not the name",
    ),
    (
        "matches: [{ headers: [{ name: a, type: Prefix, value: x }] }]",
        "matches[0].headers[0].type",
        "`Prefix`",
    ),
    (
        "matches: [{ queryParams: [{ name: a, type: RegularExpression, value: '[' }] }]",
        "matches[0].queryParams[0].value",
        "regular",
    ),
    (
        "filters: [{ type: ExtensionRef, extensionRef: { group: a.b, kind: C, name: d } }]",
        "filters[0].type",
        "`ExtensionRef` is not one of",
    ),
    (
        "filters: [{ type: ExternalAuth }]",
        "filters[0].type",
        "`ExternalAuth`",
    ),
    ("filters: [{ type: CORS }]", "filters[0].cors", "missing"),
    (
        "filters: [{ type: CORS, cors: {}, urlRewrite: {} }]",
        "filters[0].urlRewrite",
        "does not belong",
    ),
    (
        "filters: [{ type: CORS, cors: { allowOrigins: ['*', 'https://a'] } }]",
        "filters[0].cors.allowOrigins[0]",
        "stands alone",
    ),
    (
        "filters: [{ type: CORS, cors: { allowOrigins: ['https://*.*.a'] } }]",
        "filters[0].cors.allowOrigins[0]",
        "not an origin",
    ),
    (
        "filters: [{ type: CORS, cors: { allowOrigins: ['a.com'] } }]",
        "filters[0].cors.allowOrigins[0]",
        "not an origin",
    ),
    (
        "filters: [{ type: CORS, cors: { exposeHeaders: ['*'], allowCredentials: true } }]",
        "filters[0].cors.exposeHeaders",
        "allowCredentials",
    ),
    (
        "filters: [{ type: CORS, cors: { allowMethods: [Get] } }]",
        "filters[0].cors.allowMethods[0]",
        "`Get`",
    ),
    (
        "filters: [{ type: CORS, cors: { maxAge: 0 } }]",
        "filters[0].cors.maxAge",
        "0 is not between",
    ),
    (
        "filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: 'ä', value: x }] } }]",
        "set[0].name",
        "name of a header",
    ),
    (
        "filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { add: [{ name: a, value: \"x\\r\\ny: z\" }] } }]",
        "add[0].value",
        "value of a header",
    ),
    (
        "filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: Transfer-Encoding, value: chunked }] } }]",
        "set[0].name",
        "belongs to the connection",
    ),
    (
        "filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { remove: [Content-Length] } }]",
        "remove[0]",
        "belongs to the connection",
    ),
    (
        "filters: [{ type: URLRewrite, urlRewrite: {} }, { type: URLRewrite, urlRewrite: {} }]",
        "filters[1]",
        "second",
    ),
    (
        "filters: [{ type: URLRewrite, urlRewrite: {} }, { type: RequestRedirect, requestRedirect: {} }]",
        "filters",
        "exclude",
    ),
    (
        "filters: [{ type: RequestRedirect, requestRedirect: {} }], backendRefs: [{ name: a, port: 80 }]",
        "backendRefs",
        "redirects",
    ),
    (
        "filters: [{ type: RequestRedirect, requestRedirect: { scheme: ftp } }]",
        "requestRedirect.scheme",
        "`ftp`",
    ),
    (
        "filters: [{ type: RequestRedirect, requestRedirect: { statusCode: 300 } }]",
        "requestRedirect.statusCode",
        "`300`",
    ),
    (
        "filters: [{ type: RequestRedirect, requestRedirect: { port: 0 } }]",
        "requestRedirect.port",
        "0 is not a port",
    ),
    (
        "filters: [{ type: RequestRedirect, requestRedirect: { hostname: '10.0.0.1' } }]",
        "requestRedirect.hostname",
        "host name",
    ),
    (
        "matches: [{ path: { type: Exact, value: /a } }], filters: [{ type: URLRewrite, urlRewrite: { path: { type: ReplacePrefixMatch, replacePrefixMatch: /b } } }]",
        "urlRewrite.path.type",
        "prefix",
    ),
    (
        "filters: [{ type: URLRewrite, urlRewrite: { path: { type: ReplaceFullPath, replacePrefixMatch: /b } } }]",
        "urlRewrite.path",
        "`replaceFullPath`",
    ),
    (
        "filters: [{ type: URLRewrite, urlRewrite: { path: { type: ReplaceFullPath, replaceFullPath: 'b c' } } }]",
        "urlRewrite.path",
        "`b c`",
    ),
    (
        "filters: [{ type: RequestMirror, requestMirror: { backendRef: { name: a, port: 1 }, percent: 101 } }]",
        "requestMirror.percent",
        "101",
    ),
    (
        "filters: [{ type: RequestMirror, requestMirror: { backendRef: { name: a, port: 1 }, percent: 1, fraction: { numerator: 1 } } }]",
        "requestMirror",
        "exclude",
    ),
    (
        "filters: [{ type: RequestMirror, requestMirror: { backendRef: { name: a, port: 1 }, fraction: { numerator: 2, denominator: 1 } } }]",
        "fraction.numerator",
        "2 is not",
    ),
    (
        "backendRefs: [{ name: a, port: 70000 }]",
        "backendRefs[0].port",
        "70000",
    ),
    (
        "backendRefs: [{ name: a, port: 80, weight: -1 }]",
        "backendRefs[0].weight",
        "-1",
    ),
    (
        "backendRefs: [{ name: '', port: 80 }]",
        "backendRefs[0].name",
        "missing",
    ),
    (
        "timeouts: { request: 1d }",
        "timeouts.request",
        "`1d` is not a duration",
    ),
    (
        "timeouts: { request: 1s, backendRequest: 2s }",
        "timeouts.backendRequest",
        "longer",
    ),
    ("retry: { codes: [200] }", "retry.codes[0]", "200"),
    ("retry: { attempts: 0 }", "retry.attempts", "0 is not"),
    ("retry: { backoff: 1 }", "retry.backoff", "invalid type"),
    (
        "sessionPersistence: { sessionName: 'a b' }",
        "sessionPersistence.sessionName",
        "`a b`",
    ),
    (
        "sessionPersistence: { absoluteTimeout: 1h }",
        "sessionPersistence.absoluteTimeout",
        "Permanent",
    ),
    (
        "sessionPersistence: { cookieConfig: { lifetimeType: Permanent } }",
        "sessionPersistence.absoluteTimeout",
        "missing",
    ),
    (
        "sessionPersistence: { type: Header, cookieConfig: {} }",
        "sessionPersistence.cookieConfig",
        "no cookie",
    ),
    (
        "backendRef: []",
        "spec.rules[0]",
        "unknown field `backendRef`",
    ),
];

#[test]
fn what_could_not_be_followed_is_refused_and_the_error_names_the_field() {
    for (rule, field, part) in WRONG_RULES {
        let error = complaint("HTTPRoute", &format!("  rules: [{{ {rule} }}]"));
        let (_, named) = error
            .split_once("(HTTPRoute shop/web): field ")
            .expect(&error);
        assert!(named.starts_with("spec.rules[0]"), "{rule}: {error}");
        assert!(
            named.contains(field) && named.contains(part),
            "{rule}: {error}"
        );
    }
    for (kind, spec, part) in [
        (
            "GRPCRoute",
            "  rules: [{ filters: [{ type: CORS, cors: {} }] }]",
            "filters[0].type: `CORS`",
        ),
        (
            "GRPCRoute",
            "  rules: [{ matches: [{ method: {} }] }]",
            "matches[0].method: missing",
        ),
        (
            "GRPCRoute",
            "  rules: [{ matches: [{ method: { service: 'a b' } }] }]",
            "method.service: `a b`",
        ),
        (
            "GRPCRoute",
            "  rules: [{ timeouts: {} }]",
            "unknown field `timeouts`",
        ),
        ("TCPRoute", "  rules: []", "spec.rules: missing"),
        (
            "TCPRoute",
            "  hostnames: [a.b]\n  rules: [{}]",
            "spec.hostnames: a TCPRoute has none",
        ),
        (
            "TLSRoute",
            "  hostnames: ['*']\n  rules: [{}]",
            "spec.hostnames[0]",
        ),
        (
            "TLSRoute",
            "  hostnames: [10.0.0.1]\n  rules: [{}]",
            "spec.hostnames[0]",
        ),
        (
            "TLSRoute",
            "  rules: [{ backendRefs: [{ name: a, port: 1, filters: [] }] }]",
            "backendRefs[0].filters",
        ),
    ] {
        let error = complaint(kind, spec);
        assert!(error.contains(part), "{kind} {spec}: {error}");
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let route = serde_json::json!({
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "web" }],
            "rules": [{
                "matches": [{ "method": "get", "path": { "type": "RegularExpression", "value": "(" } }],
                "timeouts": { "request": "soon" },
            }],
        },
    });
    let route = read_live::<RouteObject>(RouteKind::Http.into(), route);
    let route = route.object.unwrap();
    let problems: Vec<_> = route.problems().iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert_eq!(
        route.parents.len(),
        1,
        "whom it is about is known all the same"
    );
}

proptest! {
    /// Whatever a route says, it is taken or refused; and what is taken can go over the
    /// wire and is the same after it.
    #[test]
    fn what_is_taken_goes_over_the_wire(
        rules in prop::collection::vec(0..WRONG_RULES.len(), 0..3),
        weight in any::<i64>(),
        text in "[a-z/*.%()\\[\\]]{0,8}",
    ) {
        let wrong = rules.iter().map(|index| format!("{{ {} }}, ", WRONG_RULES[*index].0));
        let spec = format!(
            "  rules: [{} {{ matches: [{{ path: {{ value: '/{text}' }} }}], \
             backendRefs: [{{ name: a, port: 80, weight: {weight} }}] }}]",
            wrong.collect::<String>(),
        );
        if let Ok(objects) = parse(&manifest("HTTPRoute", &spec)) {
            prop_assert!(rules.is_empty());
            let Object::Route(object) = &objects[0] else { panic!() };
            let content = object.content.as_ref().unwrap();
            let sent = weft_model::route::Route {
                key: object.key.clone(),
                created: object.created,
                parents: object.parents.clone(),
                hostnames: content.hostnames.clone(),
                rules: content.rules.clone(),
            };
            let message = weft_proto::v1::Route::from(&sent);
            prop_assert_eq!(weft_model::route::Route::try_from(message), Ok(sent));
        }
    }
}
