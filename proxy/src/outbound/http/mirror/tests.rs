use std::sync::Arc;

use http::{HeaderValue, Request};
use tokio::io::AsyncReadExt;
use weft_model::route::filter::Mirror;
use weft_model::route::{BackendTarget, Filter, Rule};
use weft_testing::fixtures::{PORT, named};
use weft_testing::tcp::{listen, serve};
use weft_testing::wait::wait_until;
use weft_testing::web::status;

use super::super::test_bed::*;
use crate::pod::MOST_MIRRORS;

/// A rule that sends every request to `web` and a copy of it to `copies`.
fn mirrored(target: BackendTarget) -> Rule {
    let mirror = Mirror {
        target,
        numerator: 1,
        denominator: 1,
    };
    Rule {
        filters: vec![Filter::Mirror(mirror)],
        ..rule("web")
    }
}

fn to_copies() -> BackendTarget {
    BackendTarget::Service {
        service: named("copies"),
        port: PORT,
    }
}

#[tokio::test]
async fn a_copy_has_the_same_head_and_body_and_is_a_request_of_its_own() {
    let bed = TestBed::new();
    let server = web(|_, _| status(200)).await;
    let copies = web(|_, _| status(500)).await;
    bed.service("web", &[server.address]);
    bed.service("copies", &[copies.address]);
    bed.route("web", vec![mirrored(to_copies())]);
    let mut client = bed.client("web").await;
    let mut request = post("body");
    request
        .headers_mut()
        .insert("x-mine", HeaderValue::from_static("1"));
    assert_eq!(ask(&mut client, request).await.status(), 200);
    wait_until("the copy arrived", || copies.count() == 1).await;
    let (original, copy) = (server.last(), copies.last());
    assert_eq!(copy.body(), "body");
    assert_eq!(copy.headers()["x-mine"], "1");
    assert_eq!(copy.headers()["host"], original.headers()["host"]);
    for (service, code) in [("web", "200"), ("copies", "500")] {
        let service = format!("destination_service_name=\"{service}\"");
        let code = format!("response_code=\"{code}\"");
        bed.counts(&["istio_requests_total{", &service, &code, "} 1"])
            .await;
    }
}

#[tokio::test]
async fn a_copy_that_nobody_answers_holds_nothing_up() {
    let bed = TestBed::new();
    let server = web(|_, _| status(200)).await;
    let silent = serve(listen().await, |mut stream| async move {
        while stream.read_u8().await.is_ok() {}
    });
    bed.service("web", &[server.address]);
    bed.service("copies", &[silent]);
    bed.route("web", vec![mirrored(to_copies())]);
    let mut client = bed.client("web").await;
    for number in 1..=3 {
        assert_eq!(ask(&mut client, post("body")).await.status(), 200);
        assert_eq!(bed.pod.mirrors.available_permits(), MOST_MIRRORS - number);
    }
}

#[tokio::test]
async fn where_as_many_copies_are_under_way_as_may_be_no_more_are_made() {
    let bed = TestBed::new();
    let server = web(|_, _| status(200)).await;
    let copies = web(|_, _| status(200)).await;
    bed.service("web", &[server.address]);
    bed.service("copies", &[copies.address]);
    bed.route("web", vec![mirrored(to_copies())]);
    let all = u32::try_from(MOST_MIRRORS).unwrap();
    let permits = Arc::clone(&bed.pod.mirrors).try_acquire_many_owned(all);
    let mut client = bed.client("web").await;
    assert_eq!(ask(&mut client, get()).await.status(), 200);
    drop(permits);
    assert_eq!(ask(&mut client, get()).await.status(), 200);
    wait_until("the second's copy arrived", || copies.count() == 1).await;
    wait_until("its permit is free", || {
        bed.pod.mirrors.available_permits() == MOST_MIRRORS
    })
    .await;
    assert_eq!((server.count(), copies.count()), (2, 1));
}

#[tokio::test]
async fn a_copy_to_what_does_not_exist_changes_nothing() {
    let bed = TestBed::new();
    let server = web(|_, _| status(200)).await;
    bed.service("web", &[server.address]);
    let reason = "there is no such service".into();
    for target in [to_copies(), BackendTarget::Invalid { reason }] {
        bed.route("web", vec![mirrored(target)]);
        let mut client = bed.client("web").await;
        assert_eq!(ask(&mut client, get()).await.status(), 200);
    }
    assert_eq!(bed.pod.mirrors.available_permits(), MOST_MIRRORS);
}

#[tokio::test]
async fn what_leads_to_another_protocol_is_not_copied() {
    let bed = TestBed::new();
    let server = web(|_, _| status(200)).await;
    let copies = web(|_, _| status(200)).await;
    bed.service("web", &[server.address]);
    bed.service("copies", &[copies.address]);
    bed.route("web", vec![mirrored(to_copies())]);
    let mut client = bed.client("web").await;
    let upgrade = Request::get("/")
        .header("host", "web")
        .header("connection", "upgrade")
        .header("upgrade", "websocket");
    let response = ask(&mut client, upgrade.body("").unwrap()).await;
    assert_eq!(response.status(), 200, "the server stays with HTTP");
    assert_eq!(ask(&mut client, get()).await.status(), 200);
    wait_until("the other request's copy arrived", || copies.count() == 1).await;
    assert!(!copies.last().headers().contains_key("upgrade"));
}
