use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_model::mesh::{Candidate, Change, Transport};
use weft_model::service::{Service, ServiceKind};
use weft_model::traffic::{Balancer, HashKey, LocalityPreference, OutlierDetection, TrafficPolicy};
use weft_model::traffic::{CircuitBreaker, Fault, FaultKind, Limits, LocalRateLimit, RetryBudget};
use weft_model::workload::{Locality, Workload, WorkloadUid};
use weft_model::{Mesh, NamespacedName};
use weft_testing::fixtures;

use super::affinity::MOST_SESSIONS;
use super::retention::RETENTION;
use super::*;
use crate::telemetry::ResponseFlag;
use crate::telemetry::metrics::Metrics;

const PORT: u16 = 80;

struct Bed {
    node: EndpointStates,
    clients: ServiceClients,
    mesh: Mesh,
    metrics: Arc<Metrics>,
    now: Instant,
}

fn web() -> NamespacedName {
    NamespacedName::new("shop", "web")
}

fn workload(name: &str, zone: &str) -> Arc<Workload> {
    Arc::new(Workload {
        identity: "spiffe://cluster.local/ns/shop/sa/app".parse().unwrap(),
        locality: Locality {
            region: "eu".into(),
            zone: zone.into(),
        },
        ..fixtures::workload(name, [10, 0, 0, 1], &format!("node-of-{name}"))
    })
}

impl Bed {
    fn new(policy: impl FnOnce(TrafficPolicy) -> TrafficPolicy) -> Self {
        let metrics = Arc::<Metrics>::default();
        let mut bed = Self {
            node: EndpointStates::new(Arc::clone(&metrics)),
            clients: ServiceClients::new(workload("client", "a")),
            mesh: Mesh::default(),
            metrics,
            now: Instant::now(),
        };
        bed.set(policy);
        bed
    }

    fn set(&mut self, policy: impl FnOnce(TrafficPolicy) -> TrafficPolicy) {
        let policy = policy(TrafficPolicy::new(web()));
        self.mesh.apply(Change::TrafficPolicy(Box::new(policy)));
    }

    fn web(&self) -> UpstreamService {
        let to = web();
        self.clients
            .upstream_service(&self.node, &self.mesh, Some((&to, PORT)), self.now)
    }

    fn counted(&self, line: &str) -> bool {
        self.metrics.encode().unwrap().lines().any(|l| l == line)
    }
}

fn candidates(count: u8) -> Vec<Candidate> {
    let candidate = |i: u8| Candidate::outside_mesh(SocketAddr::from(([10, 0, 0, i], 8080)));
    (1..=count).map(candidate).collect()
}

fn breaker() -> CircuitBreaker {
    CircuitBreaker {
        consecutive_failures: Some(2),
        failure_ratio: None,
        minimum_requests: 1,
        window: Duration::from_secs(10),
        open_for: Duration::from_secs(5),
        probes: 1,
    }
}

fn outliers() -> OutlierDetection {
    OutlierDetection {
        consecutive_failures: Some(2),
        failure_ratio: None,
        minimum_requests: 1,
        window: Duration::from_secs(10),
        base_ejection: Duration::from_secs(30),
        max_ejection: Duration::from_secs(300),
        max_ejected_percent: 50,
    }
}

/// How often each candidate is chosen.
fn shares(bed: &Bed, candidates: &[Candidate], choices: usize) -> Vec<usize> {
    let mut counts = vec![0; candidates.len()];
    for _ in 0..choices {
        counts[bed.web().choose(candidates, None, &[], bed.now).unwrap()] += 1;
    }
    counts
}

#[test]
fn limits_hold_for_each_kind_and_places_are_given_back() {
    let limits = Limits {
        connections: Some(1),
        requests: Some(2),
        pending_requests: Some(0),
    };
    let bed = Bed::new(|policy| TrafficPolicy { limits, ..policy });
    let (upstream, now) = (bed.web(), bed.now);
    let first = upstream.admit_request(now).unwrap();
    let _second = upstream.admit_request(now).unwrap();
    let third = bed.web().admit_request(now).unwrap_err();
    assert_eq!(third.flag(), ResponseFlag::TooManyRequests);
    drop(first);
    assert!(upstream.admit_request(now).is_ok());
    let _connection = upstream.admit_connection(now).unwrap();
    let more = upstream.admit_connection(now).unwrap_err();
    assert_eq!(more.flag(), ResponseFlag::TooManyConnections);
    let pending = upstream.admit_pending().unwrap_err();
    assert_eq!(pending.flag(), ResponseFlag::TooManyPending);
    assert!(
        bed.counted(
            "weft_refused_total{namespace=\"shop\",pod=\"client\",\
             destination_service_namespace=\"shop\",destination_service_name=\"web\",\
             reason=\"TOO_MANY_REQUESTS\"} 1"
        ),
        "{}",
        bed.metrics.encode().unwrap()
    );
}

#[test]
fn a_limit_is_of_one_workload_not_of_all() {
    let limits = Limits {
        requests: Some(1),
        ..Limits::default()
    };
    let bed = Bed::new(|policy| TrafficPolicy { limits, ..policy });
    let _mine = bed.web().admit_request(bed.now).unwrap();
    let other = ServiceClients::new(workload("other", "a"));
    let to = web();
    let upstream = other.upstream_service(&bed.node, &bed.mesh, Some((&to, PORT)), bed.now);
    assert!(upstream.admit_request(bed.now).is_ok());
}

#[test]
fn the_breaker_opens_probes_and_closes_and_a_new_policy_finds_it_so() {
    let mut bed = Bed::new(|policy| TrafficPolicy {
        circuit_breaker: Some(breaker()),
        ..policy
    });
    for _ in 0..2 {
        let mut permit = bed.web().admit_request(bed.now).unwrap();
        permit.record_result(false, bed.now);
    }
    let open = bed.web().admit_request(bed.now).unwrap_err();
    assert_eq!(open.flag(), ResponseFlag::CircuitOpen);
    assert_eq!(open.retry_after(), Some(Duration::from_secs(5)));
    bed.set(|policy| TrafficPolicy {
        circuit_breaker: Some(CircuitBreaker {
            consecutive_failures: Some(9),
            ..breaker()
        }),
        ..policy
    });
    assert!(bed.web().admit_request(bed.now).is_err());
    bed.now += Duration::from_secs(5);
    let left = bed.web().admit_request(bed.now).unwrap();
    assert!(bed.web().admit_request(bed.now).is_err(), "one probe");
    drop(left);
    let mut probe = bed.web().admit_request(bed.now).unwrap();
    probe.record_result(true, bed.now);
    assert!(bed.web().admit_request(bed.now).is_ok());
    for to in ["open", "half_open", "closed"] {
        assert!(
            bed.counted(&format!(
                "weft_circuit_breaker_changes_total{{namespace=\"shop\",pod=\"client\",\
                 destination_service_namespace=\"shop\",destination_service_name=\"web\",\
                 to=\"{to}\"}} 1"
            )),
            "{to}"
        );
    }
}

#[test]
fn what_is_refused_for_another_reason_takes_no_probe_and_keeps_no_permit() {
    let mut bed = Bed::new(|policy| TrafficPolicy {
        circuit_breaker: Some(breaker()),
        limits: Limits {
            requests: Some(1),
            ..Limits::default()
        },
        ..policy
    });
    for _ in 0..2 {
        let mut permit = bed.web().admit_request(bed.now).unwrap();
        permit.record_result(false, bed.now);
    }
    bed.now += Duration::from_secs(5);
    let never = LocalRateLimit {
        requests: 0,
        interval: Duration::from_secs(1),
        burst: 1,
    };
    bed.set(|policy| TrafficPolicy {
        circuit_breaker: Some(breaker()),
        local_rate_limit: Some(never),
        ..policy
    });
    let refused = bed.web().admit_request(bed.now).unwrap_err();
    assert_eq!(refused.flag(), ResponseFlag::RateLimited);
    bed.set(|policy| TrafficPolicy {
        circuit_breaker: Some(breaker()),
        limits: Limits {
            requests: Some(1),
            ..Limits::default()
        },
        ..policy
    });
    assert!(bed.web().admit_request(bed.now).is_ok());
}

#[test]
fn the_rate_of_a_workload_is_limited_and_says_when_to_come_back() {
    let limit = LocalRateLimit {
        requests: 1,
        interval: Duration::from_secs(2),
        burst: 2,
    };
    let mut bed = Bed::new(|policy| TrafficPolicy {
        local_rate_limit: Some(limit),
        ..policy
    });
    assert!(bed.web().admit_request(bed.now).is_ok());
    assert!(bed.web().admit_request(bed.now).is_ok());
    let refused = bed.web().admit_request(bed.now).unwrap_err();
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(2)));
    bed.now += Duration::from_secs(2);
    assert!(bed.web().admit_request(bed.now).is_ok());
}

#[test]
fn retries_have_a_budget_even_where_no_policy_says_so() {
    let mut bed = Bed::new(|policy| policy);
    bed.mesh.apply(Change::TrafficPolicyRemoved(web()));
    let allowed = |bed: &Bed| (0..100).filter(|_| bed.web().try_retry(bed.now)).count();
    assert_eq!(allowed(&bed), 10, "the least rate of the default");
    let none = RetryBudget {
        percent: 0,
        minimum_per_second: 0,
        ..RetryBudget::default()
    };
    bed.set(|policy| TrafficPolicy {
        retry_budget: Some(none),
        ..policy
    });
    assert_eq!(allowed(&bed), 0);
}

#[test]
fn an_endpoint_that_fails_is_ejected_and_comes_back() {
    let mut bed = Bed::new(|policy| TrafficPolicy {
        outlier_detection: Some(outliers()),
        ..policy
    });
    let four = candidates(4);
    assert!(shares(&bed, &four, 200).iter().all(|n| *n > 0));
    let bad = four[1].address;
    for _ in 0..2 {
        bed.web()
            .begin_attempt(bad, bed.now)
            .record_result(false, bed.now);
    }
    assert!(bed.web().is_ejected(bad, bed.now));
    assert_eq!(shares(&bed, &four, 200)[1], 0);
    // Ejections are of the node, not of the pod that saw the failures.
    let other = ServiceClients::new(workload("other", "a"));
    let to = web();
    let upstream = other.upstream_service(&bed.node, &bed.mesh, Some((&to, PORT)), bed.now);
    assert!(upstream.is_ejected(bad, bed.now));
    bed.now += Duration::from_secs(100);
    assert!(!bed.web().is_ejected(bad, bed.now));
    assert!(shares(&bed, &four, 400)[1] > 0);
    assert!(bed.counted(
        "weft_endpoint_ejections_total{destination_service_namespace=\"shop\",\
         destination_service_name=\"web\"} 1"
    ));
}

#[test]
fn an_endpoint_is_not_ejected_for_what_its_client_has_chosen() {
    let bed = Bed::new(|policy| TrafficPolicy {
        outlier_detection: Some(outliers()),
        ..policy
    });
    let four = candidates(4);
    bed.web().choose(&four, None, &[], bed.now);
    let address = four[0].address;
    let answered = |is_clients: bool| {
        for _ in 0..4 {
            let attempt = bed.web().begin_attempt(address, bed.now);
            let mut outcome = OutcomeReport::new(RequestPermits::new(vec![]), attempt, false);
            if is_clients {
                outcome.succeeded();
            }
            // Only the first word counts.
            outcome.response_broke();
        }
        bed.web().is_ejected(address, bed.now)
    };
    assert!(!answered(true));
    assert!(answered(false));
}

#[test]
fn no_more_endpoints_are_ejected_than_may_be() {
    let bed = Bed::new(|policy| TrafficPolicy {
        outlier_detection: Some(outliers()),
        ..policy
    });
    let four = candidates(4);
    bed.web().choose(&four, None, &[], bed.now);
    for candidate in &four {
        for _ in 0..2 {
            let attempt = bed.web().begin_attempt(candidate.address, bed.now);
            attempt.record_result(false, bed.now);
        }
    }
    let ejected = four
        .iter()
        .filter(|c| bed.web().is_ejected(c.address, bed.now));
    assert_eq!(ejected.count(), 2);
}

#[test]
fn endpoints_of_the_clients_zone_come_first_and_others_when_these_are_gone() {
    let bed = Bed::new(|policy| TrafficPolicy {
        locality: Some(LocalityPreference::Zone),
        ..policy
    });
    let mut three = candidates(3);
    for (candidate, zone) in three.iter_mut().zip(["b", "a", "a"]) {
        let workload = Some(workload("web", zone));
        candidate.transport = Transport::Plaintext { workload };
    }
    let found = shares(&bed, &three, 200);
    assert!(found[0] == 0 && found[1] > 0 && found[2] > 0, "{found:?}");
    assert_eq!(shares(&bed, &three[..1], 5), [5]);
}

#[test]
fn an_endpoint_that_comes_later_starts_slowly() {
    let mut bed = Bed::new(|policy| TrafficPolicy {
        slow_start: Some(Duration::from_secs(60)),
        balancer: Balancer::RoundRobin,
        ..policy
    });
    assert_eq!(
        shares(&bed, &candidates(2), 100),
        [50, 50],
        "nobody knows better"
    );
    let three = candidates(3);
    let early = shares(&bed, &three, 1000);
    assert!(early[2] < 150, "{early:?}");
    bed.now += Duration::from_secs(60);
    let late = shares(&bed, &three, 300);
    assert!(late.iter().all(|n| (80..=120).contains(n)), "{late:?}");
}

#[test]
fn a_source_stays_with_its_endpoint() {
    let bed = Bed::new(|policy| TrafficPolicy {
        balancer: Balancer::ConsistentHash(HashKey::Source),
        ..policy
    });
    let many = candidates(9);
    let key = bed.web().source_hash("10.1.0.7".parse().unwrap());
    let first = bed.web().choose(&many, key, &[], bed.now);
    for _ in 0..50 {
        assert_eq!(bed.web().choose(&many, key, &[], bed.now), first);
    }
    let tried = [many[first.unwrap()].address];
    assert_ne!(bed.web().choose(&many, key, &tried, bed.now), first);
}

#[test]
fn without_a_policy_another_attempt_goes_elsewhere() {
    let mut bed = Bed::new(|policy| policy);
    bed.mesh.apply(Change::TrafficPolicyRemoved(web()));
    let two = candidates(2);
    for _ in 0..20 {
        let chosen = bed.web().choose(&two, None, &[two[0].address], bed.now);
        assert_eq!(chosen, Some(1));
    }
    assert_eq!(bed.web().choose(&[], None, &[], bed.now), None);
}

#[test]
fn faults_are_injected_and_counted() {
    let fault = Fault {
        kind: FaultKind::Delay(Duration::from_secs(1)),
        percent: 100.0,
    };
    let bed = Bed::new(|policy| TrafficPolicy {
        faults: vec![fault],
        ..policy
    });
    assert_eq!(bed.web().inject_fault().delay, Some(Duration::from_secs(1)));
    assert!(bed.counted(
        "weft_faults_injected_total{namespace=\"shop\",pod=\"client\",\
         destination_service_namespace=\"shop\",destination_service_name=\"web\",\
         fault=\"delay\"} 1"
    ));
    bed.metrics.forget_pod(&WorkloadUid::from("client"));
    let left = bed.metrics.encode().unwrap();
    assert!(!left.contains("weft_faults_injected_total{"), "{left}");
}

/// The endpoint of a session towards a Service that keeps its clients for a minute.
fn session(bed: &Bed, port: u16, candidates: &[Candidate], tried: &[SocketAddr]) -> SocketAddr {
    let to = web();
    let upstream = bed
        .clients
        .upstream_service(&bed.node, &bed.mesh, Some((&to, port)), bed.now);
    let chosen = upstream.choose(candidates, None, tried, bed.now).unwrap();
    candidates[chosen].address
}

fn keep_clients(bed: &mut Bed) {
    let kind = ServiceKind::ClusterIp(Vec::new());
    bed.mesh.apply(Change::Service(Service {
        session_affinity: Some(Duration::from_secs(60)),
        ..Service::new(web(), "web".into(), kind)
    }));
}

fn with_balancer(balancer: Balancer) -> Bed {
    Bed::new(|policy| TrafficPolicy { balancer, ..policy })
}

#[test]
fn a_client_stays_with_its_endpoint_until_it_was_away_too_long() {
    for balancer in [Balancer::Ewma, Balancer::RoundRobin, Balancer::Random] {
        let mut bed = with_balancer(balancer);
        keep_clients(&mut bed);
        let all = candidates(8);
        let first = session(&bed, PORT, &all, &[]);
        for _ in 0..50 {
            bed.now += Duration::from_secs(59);
            assert_eq!(session(&bed, PORT, &all, &[]), first);
        }
        let later = (0..50).map(|_| {
            bed.now += Duration::from_secs(60);
            session(&bed, PORT, &all, &[])
        });
        assert!(later.into_iter().any(|endpoint| endpoint != first));
    }
}

#[test]
fn a_client_whose_endpoint_is_gone_or_fails_stays_with_the_next() {
    let mut bed = with_balancer(Balancer::RoundRobin);
    keep_clients(&mut bed);
    let mut all = candidates(8);
    let first = session(&bed, PORT, &all, &[]);
    let second = session(&bed, PORT, &all, &[first]);
    assert_ne!(second, first, "it was tried in vain");
    assert_eq!(session(&bed, PORT, &all, &[]), second);
    all.retain(|candidate| candidate.address != second);
    let third = session(&bed, PORT, &all, &[]);
    // Others come and go.
    all = candidates(20);
    all.reverse();
    assert_eq!(session(&bed, PORT, &all, &[]), third);
}

#[test]
fn sessions_are_of_a_port_and_a_family_and_end_with_the_services_wish() {
    let mut bed = with_balancer(Balancer::RoundRobin);
    keep_clients(&mut bed);
    let all = candidates(8);
    let sixth = |i: u16| Candidate::outside_mesh(([0xfd, 0, 0, 0, 0, 0, 0, i], 8080).into());
    let sixth: Vec<_> = (1..=8).map(sixth).collect();
    let (one, other) = (session(&bed, 80, &all, &[]), session(&bed, 81, &all, &[]));
    let of_six = session(&bed, 80, &sixth, &[]);
    for _ in 0..20 {
        assert_eq!(session(&bed, 80, &all, &[]), one);
        assert_eq!(session(&bed, 81, &all, &[]), other);
        assert_eq!(session(&bed, 80, &sixth, &[]), of_six);
    }
    assert_eq!(bed.clients.sessions(), 3);
    bed.now += Duration::from_secs(60);
    bed.clients.forget_unused(bed.now);
    assert_eq!(bed.clients.sessions(), 0);
    let kind = ServiceKind::ClusterIp(Vec::new());
    let plain = Service::new(web(), "web".into(), kind);
    bed.mesh.apply(Change::Service(plain));
    assert_ne!(session(&bed, 80, &all, &[]), session(&bed, 80, &all, &[]));
}

#[test]
fn a_hash_decides_before_a_session_does() {
    let mut bed = with_balancer(Balancer::ConsistentHash(HashKey::Source));
    keep_clients(&mut bed);
    let (upstream, all) = (bed.web(), candidates(8));
    let of_key = |key| upstream.choose(&all, Some(key), &[], bed.now);
    let chosen: std::collections::HashSet<_> = (0..100).map(of_key).collect();
    assert!(chosen.len() > 1, "{chosen:?}");
}

#[test]
fn sessions_are_bounded_and_the_one_that_is_unused_longest_goes_first() {
    let mut bed = with_balancer(Balancer::RoundRobin);
    keep_clients(&mut bed);
    let all = candidates(50);
    let first = session(&bed, 1, &all, &[]);
    for port in 1..=u16::try_from(MOST_SESSIONS).unwrap() + 100 {
        bed.now += Duration::from_millis(1);
        session(&bed, port, &all, &[]);
        assert_eq!(session(&bed, 1, &all, &[]), first);
    }
    assert_eq!(bed.clients.sessions(), MOST_SESSIONS);
}

#[test]
fn what_nobody_uses_is_forgotten_and_what_is_in_use_is_not() {
    let mut bed = Bed::new(|policy| TrafficPolicy {
        outlier_detection: Some(outliers()),
        ..policy
    });
    let permit = bed.web().admit_request(bed.now).unwrap();
    bed.web().choose(&candidates(2), None, &[], bed.now);
    bed.now += RETENTION + Duration::from_secs(1);
    bed.clients.forget_unused(bed.now);
    bed.node.forget_unused(bed.now);
    assert_eq!(bed.clients.len(), 1, "a request is open");
    assert_eq!(bed.node.len(), 0);
    drop(permit);
    bed.clients.forget_unused(bed.now);
    assert_eq!(bed.clients.len(), 0);
}

#[test]
fn a_destination_that_is_no_service_is_never_refused() {
    let bed = Bed::new(|policy| policy);
    let upstream = bed
        .clients
        .upstream_service(&bed.node, &bed.mesh, None, bed.now);
    assert!(upstream.admit_connection(bed.now).is_ok() && upstream.admit_request(bed.now).is_ok());
    assert!(upstream.try_retry(bed.now));
    assert_eq!(upstream.choose(&candidates(1), None, &[], bed.now), Some(0));
    upstream
        .begin_attempt(candidates(1)[0].address, bed.now)
        .record_result(true, bed.now);
}
