//! Requests as the routes and policies of manifests say, between real programs: splits,
//! changes, retries, limits, breakers, faults, sessions, other protocols.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weft_tests::cluster::Binaries;
use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{Mesh, MeshBuilder};
use weft_tests::wait_for;

use super::LIMIT;

/// The Service that clients ask.
const WEB: &str = "10.96.0.10:80";

/// A client on the first node and two versions of a web server, one on each node, behind
/// one Service and a Service each.
fn bed() -> Mesh {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("client", 1))
        .pod(
            PodSpec::new("v1", 2)
                .label("app", "web")
                .label("version", "v1"),
        )
        .pod(
            PodSpec::new("v2", 1)
                .label("app", "web")
                .label("version", "v2"),
        )
        .start()
        .unwrap();
    for (name, address, selector) in [
        ("web", "10.96.0.10", json!({ "app": "web" })),
        ("v1", "10.96.0.11", json!({ "version": "v1" })),
        ("v2", "10.96.0.12", json!({ "version": "v2" })),
    ] {
        service(&mesh, name, address, &selector);
    }
    for pod in ["v1", "v2"] {
        mesh.serve(pod, &["web", "--listen", "[::]:8080", "--name", pod])
            .unwrap();
    }
    wait_for("an answer", LIMIT, || match ask(&mesh, "/", &[]) {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .unwrap();
    mesh
}

/// A Service of HTTP over web servers.
pub(super) fn service(mesh: &Mesh, name: &str, address: &str, selector: &Value) {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "clusterIP": address, "selector": selector,
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }],
        },
    });
    write(mesh, &format!("service-{name}"), &service);
}

fn write(mesh: &Mesh, name: &str, document: &Value) {
    mesh.manifests().write(name, document).unwrap();
}

/// Attaches rules to the Service, and waits until they hold: each has a last rule for
/// this very state.
pub(super) fn route(mesh: &Mesh, kind: &str, mut rules: Vec<Value>) {
    static STATE: AtomicU32 = AtomicU32::new(0);
    let state = STATE.fetch_add(1, Ordering::Relaxed);
    let name = format!("x-state-{state}");
    rules.push(json!({
        "matches": [{ "headers": [{ "name": name, "value": "?" }] }],
        "filters": [{
            "type": "ResponseHeaderModifier",
            "responseHeaderModifier": { "set": [{ "name": "x-state", "value": name }] },
        }],
        "backendRefs": [backend("v2", 1)],
    }));
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
        "metadata": { "name": "web", "namespace": "default" },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "web", "port": 80 }],
            "rules": rules,
        },
    });
    write(mesh, "route", &route);
    let header = format!("{name}: ?");
    wait_for("the route", LIMIT, || {
        match ask(mesh, "/", &["-H", &header]) {
            Ok(answer) if answer.header("x-state") == Some(&name) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .unwrap();
}

/// Gives a Service a policy, and waits until it holds, which `holds` finds out.
pub(super) fn policy(mesh: &Mesh, service: &str, spec: Value, holds: impl Fn() -> bool) {
    let mut spec = spec;
    spec["targetRef"] = json!({ "group": "", "kind": "Service", "name": service });
    let policy = json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "TrafficPolicy",
        "metadata": { "name": service, "namespace": "default" },
        "spec": spec,
    });
    write(mesh, &format!("policy-{service}"), &policy);
    weft_tests::wait_until("the policy", LIMIT, holds).unwrap();
}

pub(super) fn backend(service: &str, weight: u32) -> Value {
    json!({ "name": service, "port": 80, "weight": weight })
}

pub(super) fn prefix(path: &str) -> Value {
    json!([{ "path": { "type": "PathPrefix", "value": path } }])
}

/// What curl saw.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }

    /// What the web server says that it saw.
    pub(super) fn seen(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

/// Asks the Service once, on a connection of its own.
pub(super) fn ask(mesh: &Mesh, path: &str, more: &[&str]) -> weft_tests::Result<Answer> {
    let url = format!("http://{WEB}{path}");
    let line = ["curl", "-sS", "-i", "--max-time", "15", &url];
    let output = mesh.run("client", &[&line[..], more].concat())?;
    let text = output.replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let headers = lines.filter_map(|line| line.split_once(": "));
    Ok(Answer {
        status: status.and_then(|status| status.parse().ok()).unwrap_or(0),
        headers: headers
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect(),
        body: body.to_owned(),
    })
}

/// Many requests, with the tally of the test client.
fn load(mesh: &Mesh, line: &str) -> Value {
    let to = format!("--to={WEB}");
    let line = ["load", to.as_str()]
        .into_iter()
        .chain(line.split_whitespace());
    mesh.report("client", &line.collect::<Vec<_>>()).unwrap()
}

/// What a web server does from now on, as it is told behind the mesh's back.
fn behave(mesh: &Mesh, pod: &str, behaviour: &str) {
    let url = format!("http://127.0.0.1:8080/-/behaviour?{behaviour}");
    mesh.run(pod, &["curl", "-sS", "--fail", &url]).unwrap();
}

/// How many requests a web server got, those of tests' own pages left out.
fn count(mesh: &Mesh, pod: &str) -> u64 {
    let url = "http://127.0.0.1:8080/-/seen";
    let seen = mesh.run(pod, &["curl", "-sS", "--fail", url]).unwrap();
    let seen: Value = serde_json::from_str(&seen).unwrap();
    seen["requests"]
        .as_u64()
        .unwrap_or_else(|| panic!("{seen}"))
}

pub(super) fn is_refused_for(mesh: &Mesh, reason: &str) -> bool {
    ask(mesh, "/", &[]).is_ok_and(|answer| answer.header("x-weft-reason") == Some(reason))
}

#[test]
fn ten_thousand_requests_are_split_as_their_route_says() {
    let mesh = bed();
    let split = json!({ "backendRefs": [backend("v1", 80), backend("v2", 20)] });
    route(&mesh, "HTTPRoute", vec![split]);
    for version in ["", "--http2"] {
        let line = format!("--requests 10000 --parallel 8 {version}");
        let report = load(&mesh, &line);
        assert_eq!(report["by_status"]["200"], 10_000, "{report}");
        let first = report["by_name"]["v1"].as_u64().unwrap();
        assert!((7900..=8100).contains(&first), "{report}");
    }
    let first = Some("spiffe://cluster.local/ns/default/sa/v1".to_owned());
    let inbound = mesh.wait_record(2, |record| {
        record.direction == "inbound" && record.destination_identity == first
    });
    assert_eq!(inbound.unwrap().security, "mutual_tls");
    let metrics = mesh.agent_get(1, "/metrics").unwrap();
    let counted = |line: &&str| {
        line.starts_with("istio_requests_total{")
            && line.contains("destination_workload=\"v1\"")
            && line.contains("response_code=\"200\"")
    };
    assert!(metrics.lines().any(|line| counted(&line)), "{metrics}");
}

#[test]
fn requests_are_matched_changed_and_redirected() {
    let mesh = bed();
    let changed = json!({
        "matches": [{
            "path": { "type": "PathPrefix", "value": "/api" },
            "headers": [{ "name": "x-tenant", "type": "RegularExpression", "value": "a+" }],
            "queryParams": [{ "name": "page", "value": "2" }],
            "method": "POST",
        }],
        "filters": [
            { "type": "RequestHeaderModifier", "requestHeaderModifier": {
                "set": [{ "name": "x-set", "value": "1" }],
                "add": [{ "name": "x-add", "value": "2" }], "remove": ["x-tenant"] } },
            { "type": "URLRewrite", "urlRewrite": { "hostname": "inner.example",
                "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/v2" } } },
        ],
        "backendRefs": [{ "name": "v1", "port": 80, "filters": [
            { "type": "ResponseHeaderModifier", "responseHeaderModifier": {
                "set": [{ "name": "x-backend", "value": "first" }] } },
        ] }],
    });
    let redirect = json!({
        "matches": prefix("/old"),
        "filters": [{ "type": "RequestRedirect", "requestRedirect": {
            "scheme": "https", "hostname": "new.example", "statusCode": 308,
            "path": { "type": "ReplaceFullPath", "replaceFullPath": "/new" } } }],
    });
    let gone = json!({ "matches": prefix("/gone"), "backendRefs": [backend("nobody", 1)] });
    route(&mesh, "HTTPRoute", vec![changed, redirect, gone]);
    let post = ["-X", "POST", "-H", "x-tenant: aaa", "-d", "hello"];
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let answer = ask(
            &mesh,
            "/api/items?page=2",
            &[&post[..], &[version]].concat(),
        )
        .unwrap();
        let seen = answer.seen();
        assert_eq!(answer.header("x-backend"), Some("first"), "{answer:?}");
        assert_eq!(seen["path"], "/v2/items", "{seen}");
        assert_eq!(seen["query"], "page=2");
        assert_eq!(seen["received"], 5);
        assert_eq!(seen["headers"]["x-set"][0], "1");
        assert_eq!(seen["headers"]["x-add"][0], "2");
        assert!(seen["headers"]["x-tenant"].is_null(), "{seen}");
        let host = [&seen["authority"], &seen["headers"]["host"][0]];
        assert!(host.iter().any(|host| **host == "inner.example"), "{seen}");
        let answer = ask(&mesh, "/old/page", &[version]).unwrap();
        assert_eq!(answer.status, 308);
        assert_eq!(answer.header("location"), Some("https://new.example/new"));
        let missed = ask(
            &mesh,
            "/api/items?page=3",
            &[&post[..], &[version]].concat(),
        )
        .unwrap();
        assert_eq!(missed.status, 404, "{missed:?}");
        assert_eq!(ask(&mesh, "/gone", &[version]).unwrap().status, 500);
    }
}

#[test]
fn requests_are_tried_again_and_timed_out_and_copied() {
    let mesh = bed();
    let retried = json!({
        "matches": prefix("/retried"), "backendRefs": [backend("v1", 1)],
        "retry": { "codes": [503], "attempts": 2, "backoff": "10ms" },
    });
    let timed = json!({
        "matches": prefix("/timed"), "backendRefs": [backend("v1", 1)],
        "timeouts": { "request": "300ms" },
    });
    let copied = json!({
        "matches": prefix("/copied"), "backendRefs": [backend("v1", 1)],
        "filters": [{ "type": "RequestMirror", "requestMirror": {
            "backendRef": { "name": "v2", "port": 80 }, "percent": 50 } }],
    });
    let sticky = json!({
        "matches": prefix("/sticky"), "backendRefs": [backend("v1", 1), backend("v2", 1)],
        "sessionPersistence": { "sessionName": "basket", "type": "Cookie" },
    });
    route(&mesh, "HTTPRoute", vec![retried, timed, copied, sticky]);
    let post = ["-d", "keep me"];
    let answer = ask(&mesh, "/retried?fail-first=2&key=a", &post).unwrap();
    assert_eq!(
        (answer.status, &answer.seen()["received"]),
        (200, &json!(7))
    );
    let answer = ask(&mesh, "/retried?fail-first=3&key=b", &post).unwrap();
    assert_eq!(answer.status, 503);
    let answer = ask(&mesh, "/timed?delay=60000", &[]).unwrap();
    assert_eq!(answer.status, 504);
    assert_eq!(answer.header("x-weft-reason"), Some("TIMEOUT"));
    let (first, second) = (count(&mesh, "v1"), count(&mesh, "v2"));
    let report = load(
        &mesh,
        "--requests 200 --parallel 4 --path /copied --method POST --body 9000",
    );
    assert_eq!(report["by_name"]["v1"], 200, "{report}");
    assert_eq!(count(&mesh, "v1") - first, 200);
    weft_tests::wait_until("the copies", LIMIT, || count(&mesh, "v2") - second >= 98).unwrap();
    assert!(count(&mesh, "v2") - second <= 102);
    let first = ask(&mesh, "/sticky", &[]).unwrap();
    let cookie = first
        .header("set-cookie")
        .unwrap()
        .split(';')
        .next()
        .unwrap();
    let report = load(
        &mesh,
        &format!("--requests 50 --path /sticky --header cookie:{cookie}"),
    );
    let name = first.header("x-test-server").unwrap();
    assert_eq!(report["by_name"][name], 50, "{name} {report}");
}

#[test]
fn retries_stay_within_their_budget() {
    let mesh = bed();
    let spec = json!({
        "retry": { "codes": [503], "attempts": 3 },
        "retryBudget": { "percent": 20, "interval": "10s", "minimumPerSecond": 5 },
    });
    // Each try is for another key, so that the first that is tried again succeeds.
    let tried = AtomicU32::new(0);
    policy(&mesh, "web", spec, || {
        let number = tried.fetch_add(1, Ordering::Relaxed);
        let path = format!("/?fail-first=1&key={number}");
        ask(&mesh, &path, &[]).is_ok_and(|answer| answer.status == 200)
    });
    let before = count(&mesh, "v1") + count(&mesh, "v2");
    let report = load(&mesh, "--requests 500 --parallel 4 --path /?status=503");
    let attempts = count(&mesh, "v1") + count(&mesh, "v2") - before;
    assert_eq!(report["by_status"]["503"], 500, "{report}");
    // Three times as many without a budget; a fifth and a few with it.
    assert!((505..=650).contains(&attempts), "{attempts}");
}

#[test]
fn a_circuit_breaker_opens_lets_a_probe_through_and_closes() {
    let mesh = bed();
    route(
        &mesh,
        "HTTPRoute",
        vec![json!({ "backendRefs": [backend("v1", 1)] })],
    );
    let spec = json!({
        "circuitBreaker": { "consecutiveFailures": 5, "openFor": "700ms", "probes": 1 },
    });
    behave(&mesh, "v1", "status=503");
    policy(&mesh, "v1", spec, || is_refused_for(&mesh, "CIRCUIT_OPEN"));
    // Open: refused at once, nothing reaches the server but a probe now and then.
    let before = count(&mesh, "v1");
    let report = load(&mesh, "--requests 300 --parallel 4");
    assert_eq!(report["by_status"]["503"], 300, "{report}");
    assert!(
        count(&mesh, "v1") - before <= 3,
        "{}",
        count(&mesh, "v1") - before
    );
    // Half open: a probe that fails opens it again.
    let before = count(&mesh, "v1");
    wait_for("a probe", LIMIT, || match ask(&mesh, "/", &[]) {
        Ok(_) if count(&mesh, "v1") > before => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .unwrap();
    assert!(is_refused_for(&mesh, "CIRCUIT_OPEN"));
    // A probe that succeeds closes it.
    behave(&mesh, "v1", "");
    wait_for("the breaker to close", LIMIT, || {
        match ask(&mesh, "/", &[]) {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .unwrap();
    let report = load(&mesh, "--requests 100 --parallel 4");
    assert_eq!(report["by_status"]["200"], 100, "{report}");
}

#[test]
fn an_endpoint_that_fails_is_ejected_and_comes_back() {
    let mesh = bed();
    let spec = json!({
        "loadBalancer": { "type": "RoundRobin" },
        "outlierDetection": {
            "consecutiveFailures": 3, "baseEjection": "1s", "maxEjection": "1s",
            "maxEjectedPercent": 50,
        },
    });
    policy(&mesh, "web", spec, || {
        let report = load(&mesh, "--requests 20");
        report["by_name"]["v1"] == 10
    });
    behave(&mesh, "v1", "status=500");
    wait_for("the ejection", LIMIT, || {
        let report = load(&mesh, "--requests 20");
        match report["by_status"]["200"] == 20 {
            true => Ok(()),
            false => Err(report.to_string()),
        }
    })
    .unwrap();
    behave(&mesh, "v1", "");
    wait_for("its return", LIMIT, || {
        let report = load(&mesh, "--requests 20");
        match report["by_name"]["v1"] == 10 {
            true => Ok(()),
            false => Err(report.to_string()),
        }
    })
    .unwrap();
}

#[test]
fn requests_fail_on_purpose_and_wait_on_purpose() {
    let mesh = bed();
    let spec = json!({ "faults": [{ "abort": { "httpStatus": 418 }, "percent": 50 }] });
    policy(&mesh, "web", spec, || is_refused_for(&mesh, "FAULT"));
    let report = load(&mesh, "--requests 1000 --parallel 4");
    let aborted = report["by_status"]["418"].as_u64().unwrap();
    assert!((400..=600).contains(&aborted), "{report}");
    let spec = json!({ "faults": [{ "delay": "400ms" }] });
    policy(&mesh, "web", spec, || {
        let began = Instant::now();
        ask(&mesh, "/", &[]).is_ok_and(|answer| answer.status == 200)
            && began.elapsed() >= Duration::from_millis(400)
    });
}

#[test]
fn requests_are_limited_by_each_proxy_and_by_the_control_plane() {
    let mesh = bed();
    let local = json!({ "rateLimit": { "local": { "requests": 5, "interval": "1h" } } });
    policy(&mesh, "web", local, || {
        is_refused_for(&mesh, "RATE_LIMITED")
    });
    let answer = ask(&mesh, "/", &[]).unwrap();
    assert_eq!(answer.status, 429);
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    let global = json!({ "rateLimit": { "global": {
        "domain": "shop",
        "descriptors": [{ "entries": [
            { "sourceIdentity": {} }, { "header": { "key": "tenant", "name": "x-tenant" } },
        ] }],
        "limit": { "requests": 10, "interval": "1h" }, "timeout": "2s", "failOpen": false,
    } } });
    policy(&mesh, "web", global, || {
        let answer = ask(&mesh, "/", &["-H", "x-tenant: first"]);
        answer.is_ok_and(|answer| answer.header("x-ratelimit-limit").is_some())
    });
    let report = load(&mesh, "--requests 30 --header x-tenant:second");
    assert_eq!(report["by_status"]["200"], 10, "{report}");
    assert_eq!(report["by_status"]["429"], 20, "{report}");
    let report = load(&mesh, "--requests 10 --header x-tenant:third");
    assert_eq!(report["by_status"]["200"], 10, "{report}");
}

#[test]
fn too_many_requests_at_once_are_refused_at_once() {
    let mesh = bed();
    let limits = json!({ "limits": { "requests": 4 } });
    policy(&mesh, "web", limits, || {
        let report = load(&mesh, "--requests 40 --parallel 8 --path /?delay=100");
        report["by_status"]["503"].as_u64().unwrap_or(0) > 0
    });
    let report = load(&mesh, "--requests 40 --parallel 4 --path /?delay=10");
    assert_eq!(report["by_status"]["200"], 40, "{report}");
    let metrics = mesh.agent_get(1, "/metrics").unwrap();
    assert!(
        metrics.contains("reason=\"TOO_MANY_REQUESTS\""),
        "{metrics}"
    );
}

#[test]
fn websockets_and_grpc_of_every_kind_go_through() {
    let mesh = bed();
    route(
        &mesh,
        "HTTPRoute",
        vec![json!({ "backendRefs": [backend("v1", 1)] })],
    );
    let to = format!("--to={WEB}");
    let report = mesh.report(
        "client",
        &["websocket", &to, "--messages=20", "--bytes=70000"],
    );
    let report = report.unwrap();
    assert_eq!(report["echoed"]["ok"], 20, "{report}");
    assert_eq!(report["closed"], true, "{report}");
    for kind in ["unary", "server-stream", "client-stream", "bidi"] {
        let report = mesh.report("client", &["grpc", &to, "--kind", kind, "--messages=50"]);
        let report = report.unwrap();
        assert_eq!(report["by_name"]["v1"], 1, "{kind}: {report}");
        let trailing = &report["last"]["trailing"]["x-grpc-test-echo-trailing-bin"];
        assert_eq!(trailing, "trailing", "{kind}: {report}");
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let go = Binaries::program(workspace, "grpc-interop/client").unwrap();
    let go = go.to_str().unwrap();
    for case in [
        "large_unary",
        "ping_pong",
        "custom_metadata",
        "status_code_and_message",
    ] {
        let (host, port) = WEB.split_once(':').unwrap();
        let line = [
            go,
            "-server_host",
            host,
            "-server_port",
            port,
            "-test_case",
            case,
        ];
        mesh.run("client", &line)
            .unwrap_or_else(|error| panic!("{case}: {error}"));
    }
}

#[test]
fn large_bodies_stream_in_both_directions() {
    const BYTES: usize = 64 << 20;
    let mesh = bed();
    route(
        &mesh,
        "HTTPRoute",
        vec![json!({ "backendRefs": [backend("v1", 1)] })],
    );
    let url = format!("http://{WEB}/");
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        // The client waits for the word to go on before it sends so much.
        let script = format!(
            "head -c {BYTES} /dev/zero | curl -sS {version} --max-time 60 -X POST -T - \
             -H 'Expect: 100-continue' {url}"
        );
        let seen = mesh.run("client", &["bash", "-c", &script]).unwrap();
        let seen: Value = serde_json::from_str(&seen).unwrap();
        assert_eq!(seen["received"], BYTES, "{seen}");
        let url = format!("{url}?bytes={BYTES}");
        let size = "%{size_download}";
        let line = [
            "curl",
            "-sS",
            version,
            "--max-time",
            "60",
            "-o",
            "/dev/null",
            "-w",
            size,
            &url,
        ];
        assert_eq!(mesh.run("client", &line).unwrap(), BYTES.to_string());
    }
}

#[test]
fn grpc_is_routed_by_service_and_method() {
    let mesh = bed();
    let rule = |method: Value, to: &str| json!({ "matches": [{ "method": method }], "backendRefs": [backend(to, 1)] });
    let service = "grpc.testing.TestService";
    let unary = rule(json!({ "service": service, "method": "UnaryCall" }), "v1");
    let duplex = rule(
        json!({ "service": service, "method": "FullDuplexCall" }),
        "v2",
    );
    let rules = vec![unary, duplex];
    let grpc = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GRPCRoute",
        "metadata": { "name": "calls", "namespace": "default" },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "web" }], "rules": rules,
        },
    });
    write(&mesh, "calls", &grpc);
    let to = format!("--to={WEB}");
    let call = |kind: &str| {
        mesh.report("client", &["grpc", &to, "--kind", kind])
            .unwrap()
    };
    wait_for("the route", LIMIT, || {
        let report = call("server-stream");
        match report["by_code"]["Unimplemented"] == 1 {
            true => Ok(()),
            false => Err(report.to_string()),
        }
    })
    .unwrap();
    for _ in 0..5 {
        assert_eq!(call("unary")["by_name"]["v1"], 1);
        assert_eq!(call("bidi")["by_name"]["v2"], 1);
    }
}

#[test]
fn what_two_parsers_may_read_differently_is_refused() {
    let mesh = bed();
    let address = WEB.replace(':', "/");
    for (request, status) in [
        ("GET / HTTP/1.1\\r\\nHost: web\\r\\n\\r\\n", "200"),
        (
            "POST / HTTP/1.1\\r\\nHost: web\\r\\nContent-Length: 3\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n",
            "400",
        ),
        (
            "POST / HTTP/1.1\\r\\nHost: web\\r\\nContent-Length: 3\\r\\nContent-Length: 4\\r\\n\\r\\nabcd",
            "400",
        ),
        (
            "POST / HTTP/1.1\\r\\nHost: web\\r\\nTransfer-Encoding: gzip, chunked\\r\\n\\r\\n0\\r\\n\\r\\n",
            "400",
        ),
        (
            "GET / HTTP/1.1\\r\\nHost: web\\r\\nX-Folded: a\\r\\n b\\r\\n\\r\\n",
            "400",
        ),
        ("GET / HTTP/1.1\\nHost: web\\n\\n", "400"),
        (
            "GET / HTTP/1.1\\r\\nHost: web\\r\\nX-Bare: a\\rb\\r\\n\\r\\n",
            "400",
        ),
        ("GET / HTTP/1.1\\r\\n\\r\\n", "400"),
        (
            "GET / HTTP/1.1\\r\\nHost: web\\r\\nHost: other\\r\\n\\r\\n",
            "400",
        ),
    ] {
        let script = format!(
            "trap '' PIPE; exec 3<>/dev/tcp/{address}; printf '{request}' >&3 2>/dev/null; head -n 1 <&3"
        );
        let answer = mesh.run("client", &["timeout", "10", "bash", "-c", &script]);
        let answer = answer.unwrap_or_else(|error| panic!("{request}: {error}"));
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{request}: {answer}"
        );
    }
}
