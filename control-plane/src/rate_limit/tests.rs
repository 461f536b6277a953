//! Real gRPC over TLS on loopback: what is counted, for whom, and who is refused.

use std::path::Path;

use tonic::transport::Channel;
use tonic::{Code as Failure, Status};
use weft_model::traffic::rate_limit::{Descriptor, RateLimitUnit, RequestLimit};
use weft_proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use weft_proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use weft_proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use weft_proto::rate_limit::descriptor_message;
use weft_testing::agent::authorized;

use super::Options;
#[cfg(feature = "redis-tests")]
use super::redis::tests::RedisServer;
use crate::serve::tests::{ControlPlane, folder};

/// A client with a token, or without.
struct Client {
    client: RateLimitServiceClient<Channel>,
    token: Option<String>,
}

impl Client {
    async fn new(control_plane: &ControlPlane, folder: &Path) -> Self {
        Self {
            client: RateLimitServiceClient::new(control_plane.channel(folder).await),
            token: Some(control_plane.token("node-1")),
        }
    }

    async fn ask(&mut self, request: RateLimitRequest) -> Result<RateLimitResponse, Status> {
        let call = authorized(request, self.token.as_deref());
        Ok(self.client.should_rate_limit(call).await?.into_inner())
    }

    async fn code(&mut self, request: RateLimitRequest) -> Code {
        self.ask(request).await.unwrap().overall_code()
    }

    async fn failure(&mut self, request: RateLimitRequest) -> (Failure, String) {
        let status = self.ask(request).await.unwrap_err();
        (status.code(), status.message().to_owned())
    }
}

/// A year has an end that no test meets by chance.
fn a_year(requests: u32) -> Option<RequestLimit> {
    let unit = RateLimitUnit::Year;
    Some(RequestLimit { requests, unit })
}

fn request(domain: &str, pairs: &[(&str, &str)], limit: Option<RequestLimit>) -> RateLimitRequest {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let entries = pairs.iter().map(owned).collect();
    RateLimitRequest {
        domain: domain.to_owned(),
        descriptors: vec![descriptor_message(Descriptor { entries }, limit)],
        hits_addend: 0,
    }
}

fn together(requests: &[RateLimitRequest]) -> RateLimitRequest {
    let descriptors = requests.iter().flat_map(|one| one.descriptors.clone());
    RateLimitRequest {
        descriptors: descriptors.collect(),
        ..requests[0].clone()
    }
}

fn with_config(folder: &Path, text: &str) -> Options {
    let path = folder.join("limits.yaml");
    std::fs::write(&path, text).unwrap();
    Options {
        config: Some(path),
        redis: None,
    }
}

#[tokio::test]
async fn a_limit_that_comes_with_the_request_is_counted() {
    let folder = folder();
    let control_plane = ControlPlane::start_with(folder.path(), Options::default()).await;
    let mut client = Client::new(&control_plane, folder.path()).await;
    let ann = || request("shop", &[("user", "ann")], a_year(2));
    let first = client.ask(ann()).await.unwrap();
    let status = &first.statuses[0];
    let limit = status.current_limit.as_ref().unwrap();
    assert_eq!((limit.requests_per_unit, status.limit_remaining), (2, 1));
    let until_reset = status.duration_until_reset.unwrap().seconds;
    assert!((1..=365 * 86_400).contains(&until_reset), "{until_reset}");
    assert_eq!(client.code(ann()).await, Code::Ok);
    let third = client.ask(ann()).await.unwrap();
    assert_eq!(third.overall_code(), Code::OverLimit);
    assert_eq!(third.statuses[0].limit_remaining, 0);
    // Others have counts of their own: by value, by key, by domain.
    for other in [
        request("shop", &[("user", "bob")], a_year(2)),
        request("shop", &[("name", "ann")], a_year(2)),
        request("bank", &[("user", "ann")], a_year(2)),
        // And by the namespace whose policy asks, whatever domain it names.
        request("evil/shop", &[("user", "ann")], a_year(2)),
    ] {
        assert_eq!(client.code(other).await, Code::Ok);
    }
}

#[tokio::test]
async fn one_descriptor_over_its_limit_is_enough_and_hits_are_added_as_told() {
    let folder = folder();
    let control_plane = ControlPlane::start_with(folder.path(), Options::default()).await;
    let mut client = Client::new(&control_plane, folder.path()).await;
    let (a, b) = (
        request("shop", &[("a", "")], a_year(100)),
        request("shop", &[("b", "")], a_year(1)),
    );
    let mut both = together(&[a.clone(), b]);
    both.hits_addend = 5;
    both.descriptors[1].hits_addend = Some(1);
    assert_eq!(client.code(both.clone()).await, Code::Ok);
    let answer = client.ask(both).await.unwrap();
    assert_eq!(answer.overall_code(), Code::OverLimit);
    let codes: Vec<_> = answer.statuses.iter().map(|status| status.code()).collect();
    assert_eq!(codes, [Code::Ok, Code::OverLimit]);
    let mut only_ask = a;
    only_ask.descriptors[0].hits_addend = Some(0);
    for _ in 0..2 {
        let answer = client.ask(only_ask.clone()).await.unwrap();
        assert_eq!(answer.statuses[0].limit_remaining, 90);
    }
}

#[tokio::test]
async fn limits_of_the_file_hold_for_requests_that_bring_none() {
    let folder = folder();
    let limits = "
domain: shop
descriptors:
  - key: user
    rate_limit: { unit: year, requests_per_unit: 1, name: each }
  - key: user
    value: root
    rate_limit: { unlimited: true }
  - key: user
    value: shadow
    shadow_mode: true
    rate_limit: { unit: year, requests_per_unit: 0 }
  - key: staff
    rate_limit: { unit: year, requests_per_unit: 9, replaces: [{ name: each }] }
  - key: path
    value: /files/*
    share_threshold: true
    rate_limit: { unit: year, requests_per_unit: 1 }
";
    let options = with_config(folder.path(), limits);
    let control_plane = ControlPlane::start_with(folder.path(), options).await;
    let mut client = Client::new(&control_plane, folder.path()).await;
    let shop = |key: &str, value: &str| request("shop", &[(key, value)], None);
    assert_eq!(client.code(shop("user", "ann")).await, Code::Ok);
    let over = client.ask(shop("user", "ann")).await.unwrap();
    assert_eq!(over.overall_code(), Code::OverLimit);
    assert_eq!(
        over.statuses[0].current_limit.as_ref().unwrap().name,
        "each"
    );
    assert_eq!(client.code(shop("user", "bob")).await, Code::Ok);
    // A limit that another one replaces is not counted.
    let staff = together(&[shop("user", "ann"), shop("staff", "yes")]);
    assert_eq!(client.code(staff).await, Code::Ok);
    assert_eq!(client.code(shop("path", "/files/a")).await, Code::Ok);
    assert_eq!(client.code(shop("path", "/files/b")).await, Code::OverLimit);
    for _ in 0..3 {
        assert_eq!(client.code(shop("user", "root")).await, Code::Ok);
        assert_eq!(client.code(shop("user", "shadow")).await, Code::Ok);
        assert_eq!(client.code(shop("other", "x")).await, Code::Ok);
        let elsewhere = request("bank", &[("user", "ann")], None);
        assert_eq!(client.code(elsewhere).await, Code::Ok);
    }
}

#[tokio::test]
async fn whoever_has_no_good_token_is_refused() {
    let folder = folder();
    let control_plane = ControlPlane::start_with(folder.path(), Options::default()).await;
    let mut client = Client::new(&control_plane, folder.path()).await;
    let ask = || request("shop", &[("user", "ann")], a_year(2));
    assert_eq!(client.code(ask()).await, Code::Ok);
    let good = client.token.take().unwrap();
    assert_eq!(client.failure(ask()).await.0, Failure::Unauthenticated);
    let almost = format!("{}x", &good[..good.len() - 1]);
    for token in ["", "garbage", &almost] {
        client.token = Some(token.to_owned());
        assert_eq!(
            client.failure(ask()).await.0,
            Failure::Unauthenticated,
            "{token}"
        );
    }
    client.token = Some(good);
    let status = client.ask(ask()).await.unwrap().statuses.remove(0);
    assert_eq!(status.limit_remaining, 0, "what was refused is not counted");
}

#[tokio::test]
async fn requests_that_can_not_be_counted_are_refused_with_what_is_wrong() {
    let folder = folder();
    let control_plane = ControlPlane::start_with(folder.path(), Options::default()).await;
    let mut client = Client::new(&control_plane, folder.path()).await;
    let good = || request("shop", &[("user", "ann")], a_year(2));
    let mut no_unit = good();
    no_unit.descriptors[0].limit.as_mut().unwrap().unit = 0;
    let many = together(&vec![good(); 65]);
    let deep = request("shop", &[("a", "b"); 33], a_year(2));
    for (request, expected) in [
        (
            request("", &[("user", "ann")], a_year(2)),
            "without a domain",
        ),
        (
            RateLimitRequest {
                descriptors: vec![],
                ..good()
            },
            "0 descriptors",
        ),
        (many, "65 descriptors"),
        (request("shop", &[], a_year(2)), "without entries"),
        (
            request("shop", &[("", "ann")], a_year(2)),
            "entry 0 of a descriptor has no key",
        ),
        (deep, "more than 32 entries"),
        (no_unit, "0 is not a unit"),
    ] {
        let (failure, message) = client.failure(request).await;
        assert_eq!(failure, Failure::InvalidArgument, "{message}");
        assert!(message.contains(expected), "{message}");
    }
    let large = request("shop", &[("path", &"/".repeat(300 * 1024))], a_year(2));
    assert_eq!(client.failure(large).await.0, Failure::OutOfRange);
    assert_eq!(client.code(good()).await, Code::Ok, "others are served on");
}

#[cfg(feature = "redis-tests")]
#[tokio::test]
async fn replicas_with_one_redis_count_together() {
    let redis = RedisServer::start(&["--requirepass", "s3cret"]).await;
    let (one, two) = (folder(), folder());
    let options = || Options {
        config: None,
        redis: Some(redis.address(":s3cret@", "/1").parse().unwrap()),
    };
    let first = ControlPlane::start_with(one.path(), options()).await;
    let second = ControlPlane::start_with(two.path(), options()).await;
    let mut first = Client::new(&first, one.path()).await;
    let mut second = Client::new(&second, two.path()).await;
    let ann = || request("shop", &[("user", "ann")], a_year(3));
    assert_eq!(first.code(ann()).await, Code::Ok);
    assert_eq!(second.code(ann()).await, Code::Ok);
    let third = first.ask(ann()).await.unwrap();
    assert_eq!(
        (third.overall_code(), third.statuses[0].limit_remaining),
        (Code::Ok, 0)
    );
    assert_eq!(second.code(ann()).await, Code::OverLimit);
    assert_eq!(first.code(ann()).await, Code::OverLimit);
}

#[tokio::test]
async fn replicas_without_redis_count_for_themselves() {
    let (one, two) = (folder(), folder());
    let first = ControlPlane::start_with(one.path(), Options::default()).await;
    let second = ControlPlane::start_with(two.path(), Options::default()).await;
    for (control_plane, folder) in [(&first, &one), (&second, &two)] {
        let mut client = Client::new(control_plane, folder.path()).await;
        let ann = request("shop", &[("user", "ann")], a_year(1));
        assert_eq!(client.code(ann.clone()).await, Code::Ok);
        assert_eq!(client.code(ann).await, Code::OverLimit);
    }
}

#[cfg(feature = "redis-tests")]
#[tokio::test]
async fn without_redis_the_caller_is_told_that_nothing_was_counted() {
    let redis = RedisServer::start(&[]).await;
    let folder = folder();
    let options = Options {
        config: None,
        redis: Some(redis.address("", "").parse().unwrap()),
    };
    let control_plane = ControlPlane::start_with(folder.path(), options).await;
    let mut client = Client::new(&control_plane, folder.path()).await;
    let ann = || request("shop", &[("user", "ann")], a_year(3));
    assert_eq!(client.code(ann()).await, Code::Ok);
    let port = redis.stop();
    let (failure, message) = client.failure(ann()).await;
    assert_eq!(failure, Failure::Unavailable);
    assert!(message.contains("Redis at 127.0.0.1:"), "{message}");
    // What is not limited needs nobody to count.
    let other = request("shop", &[("other", "x")], None);
    assert_eq!(client.code(other).await, Code::Ok);
    let _redis = RedisServer::start_at(port, &[]).await;
    let back = async {
        while client.ask(ann()).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let limit = std::time::Duration::from_secs(10);
    tokio::time::timeout(limit, back)
        .await
        .expect("Redis is back, and not asked");
}
