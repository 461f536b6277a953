use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::ext::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_model::mesh::Change;
use weft_model::route::filter::{HeaderModifier, Redirect};
use weft_model::route::{Filter, Retry, Rule};
use weft_model::traffic::{Limits, TrafficPolicy};
use weft_testing::fixtures::named;
use weft_testing::tcp::{listen, serve};
use weft_testing::wait::in_time;
use weft_testing::web::status;

use super::super::test_bed::*;

/// A filter that sets a field.
fn set(name: &'static str, value: &'static str) -> HeaderModifier {
    let pair = (
        HeaderName::from_static(name),
        HeaderValue::from_static(value),
    );
    HeaderModifier {
        set: vec![pair],
        ..HeaderModifier::default()
    }
}

#[tokio::test]
async fn a_request_goes_to_an_endpoint_of_its_service_and_is_recorded_once() {
    let bed = TestBed::new();
    let server = web(|_, _| status(204)).await;
    bed.service("web", &[server.address]);
    let mut client = bed.client("web").await;
    assert_eq!(ask(&mut client, post("abcd")).await.status(), 204);
    assert_eq!(server.last().body(), "abcd");
    let labels = [
        "istio_requests_total{",
        "reporter=\"source\"",
        "destination_service_name=\"web\"",
        "response_code=\"204\"",
        "} 1",
    ];
    bed.counts(&labels).await;
    let bytes = ["istio_request_bytes_sum{", "} 4"];
    bed.counts(&bytes).await;
}

#[tokio::test]
async fn what_concerns_one_hop_stays_there() {
    let bed = TestBed::new();
    let server = web(|_, _| {
        let mut response = status(200);
        let headers = response.headers_mut();
        headers.insert("connection", HeaderValue::from_static("x-hop"));
        headers.insert("x-hop", HeaderValue::from_static("1"));
        response
    })
    .await;
    bed.service("web", &[server.address]);
    let mut client = bed.client("web").await;
    let mut request = get();
    for (name, value) in [("connection", "x-mine"), ("x-mine", "1"), ("x-kept", "1")] {
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    let response = ask(&mut client, request).await;
    assert!(!response.headers().contains_key("x-hop"));
    let arrived = server.last();
    assert!(!arrived.headers().contains_key("x-mine"));
    assert!(arrived.headers().contains_key("x-kept"));
}

#[tokio::test]
async fn requests_within_a_connect_are_refused_where_no_rule_would_see_them() {
    let bed = TestBed::new();
    let server = web(|_, _| status(204)).await;
    bed.service("web", &[server.address]);
    let mut client = bed.http2_client("web").await;
    for protocol in ["h2c", "http/1.1"] {
        in_time(client.ready()).await.unwrap();
        let mut request = Request::connect("http://web/")
            .body(Full::default())
            .unwrap();
        let protocol = Protocol::from_static(protocol);
        request.extensions_mut().insert(protocol.clone());
        let response = in_time(client.send_request(request)).await.unwrap();
        assert_eq!(response.status(), 501, "{protocol:?}");
        assert_eq!(response.headers()["x-weft-reason"], "BAD_REQUEST");
    }
    let labels = ["istio_requests_total{", "response_code=\"501\"", "} 2"];
    bed.counts(&labels).await;
}

#[tokio::test]
async fn a_request_that_no_rule_is_for_is_sent_nowhere() {
    let bed = TestBed::new();
    let server = web(|_, _| status(200)).await;
    bed.service("web", &[server.address]);
    let matches = Vec::new();
    let never = Rule {
        matches,
        ..rule("web")
    };
    bed.route("web", vec![never]);
    let mut client = bed.client("web").await;
    let response = ask(&mut client, post("body")).await;
    assert_eq!(response.status(), 404);
    assert_eq!(response.headers()["x-weft-reason"], "NO_ROUTE");
    assert_eq!(server.count(), 0);
    bed.counts(&[
        "istio_requests_total{",
        "response_flags=\"NO_ROUTE\"",
        "} 1",
    ])
    .await;
    // The connection goes on.
    assert_eq!(ask(&mut client, get()).await.status(), 404);
}

#[tokio::test]
async fn filters_change_requests_and_answers_and_our_own_replies() {
    let bed = TestBed::new();
    let server = web(|_, _| status(200)).await;
    bed.service("web", &[server.address]);
    let filters = vec![
        Filter::RequestHeaders(set("x-request", "rule")),
        Filter::ResponseHeaders(set("x-response", "rule")),
    ];
    bed.route(
        "web",
        vec![Rule {
            filters,
            ..rule("web")
        }],
    );
    let mut client = bed.client("web").await;
    let response = ask(&mut client, get()).await;
    assert_eq!(response.headers()["x-response"], "rule");
    assert_eq!(server.last().headers()["x-request"], "rule");
    let filters = vec![
        Filter::ResponseHeaders(set("x-response", "rule")),
        Filter::Redirect(Redirect {
            scheme: None,
            hostname: None,
            path: None,
            port: Some(8443),
            status: StatusCode::FOUND,
        }),
    ];
    bed.route(
        "web",
        vec![Rule {
            filters,
            ..rule("web")
        }],
    );
    let response = ask(&mut client, get()).await;
    assert_eq!(response.status(), 302);
    assert_eq!(response.headers()["x-response"], "rule");
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn everything_about_a_request_is_decided_by_one_snapshot() {
    let bed = Arc::new(TestBed::new());
    let changed = Arc::clone(&bed);
    let server = web(move |number, _| match number {
        0 => {
            // While the request is under way its route goes, and everything else with it.
            changed.route(
                "web",
                vec![Rule {
                    matches: Vec::new(),
                    ..rule("web")
                }],
            );
            status(503)
        }
        _ => status(200),
    })
    .await;
    bed.service("web", &[server.address]);
    let retry = Some(Retry {
        codes: vec![StatusCode::SERVICE_UNAVAILABLE],
        attempts: 1,
        backoff: Duration::from_millis(1),
    });
    bed.route(
        "web",
        vec![Rule {
            retry,
            ..rule("web")
        }],
    );
    let mut client = bed.client("web").await;
    assert_eq!(
        ask(&mut client, get()).await.status(),
        200,
        "by the rule that it began with"
    );
    assert_eq!(
        ask(&mut client, get()).await.status(),
        404,
        "by the rules as they are now"
    );
}

#[tokio::test]
async fn a_client_that_goes_away_gives_its_place_back_and_is_recorded() {
    let bed = TestBed::new();
    let endless = serve(listen().await, |mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
        stream.write_all(begun).await.unwrap();
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    });
    bed.service("web", &[endless]);
    let limits = Limits {
        requests: Some(1),
        ..Limits::default()
    };
    let policy = TrafficPolicy {
        limits,
        ..TrafficPolicy::new(named("web"))
    };
    bed.apply(Change::TrafficPolicy(Box::new(policy)));
    for attempt in 1..=2 {
        let mut client = bed.client("web").await;
        let request = get().map(|_| Full::default());
        let response = in_time(client.send_request(request)).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut second = bed.client("web").await;
        let refused = ask(&mut second, get()).await;
        assert_eq!(refused.headers()["x-weft-reason"], "TOO_MANY_REQUESTS");
        drop((client, response));
        let counted = format!("}} {attempt}");
        let flag = "response_flags=\"DOWNSTREAM_RESET\"";
        bed.counts(&["istio_requests_total{", flag, &counted]).await;
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_recorded_and_its_connection_not_used_again() {
    let bed = TestBed::new();
    let connections = Arc::new(AtomicUsize::new(0));
    let accepted = Arc::clone(&connections);
    let broken = serve(listen().await, move |mut stream| {
        accepted.fetch_add(1, Ordering::Relaxed);
        async move {
            let _ = stream.read(&mut [0; 1024]).await;
            let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
            stream.write_all(begun).await.unwrap();
        }
    });
    bed.service("web", &[broken]);
    for attempt in 1..=2 {
        let mut client = bed.client("web").await;
        let body = Full::default();
        let response = in_time(client.send_request(get().map(|_| body)))
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect();
        in_time(body).await.unwrap_err();
        let counted = format!("}} {attempt}");
        bed.counts(&[
            "istio_requests_total{",
            "response_flags=\"UPSTREAM_RESET\"",
            &counted,
        ])
        .await;
    }
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}

#[test]
fn what_is_kept_of_a_request_while_it_is_answered_is_small() {
    fn size<A, B, F: Future>(_: impl FnOnce(A, B) -> F) -> usize {
        size_of::<F>()
    }
    let answering = size(
        |connection: &'static Arc<super::ClientConnection>, request| {
            super::answer(connection, request)
        },
    );
    // It is moved into the connection's future: whoever makes it grow pays for that with
    // every request.
    assert!(answering <= 7 * 1024 + 128, "{answering} bytes");
}

#[tokio::test]
async fn connections_that_are_kept_for_further_requests_are_among_the_descriptors_of_the_pod() {
    // A quarter is for control, half of the others for one pod.
    let bed = TestBed::with(|settings| settings.open_files = Some(16));
    let (mut servers, mut statuses) = (Vec::new(), Vec::new());
    for number in 0..8 {
        let name = format!("web-{number}");
        let server = web(|_, _| status(200)).await;
        bed.service(&name, &[server.address]);
        servers.push(server);
        let mut client = bed.client(&name).await;
        statuses.push(ask(&mut client, get()).await.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 503, 503]);
    assert_eq!(bed.pod.node.descriptors.usage(), (12, 6));
    bed.counts(&["istio_requests_total{", "response_flags=\"LIMIT\""])
        .await;
}
