use std::time::Duration;

use weft_model::NamespacedName;
use weft_model::authorization_policy::{AuditedRule, Decision, DryRun, Reason, Verdict};

use super::super::connection_record::ConnectionRecord;
use super::super::node_telemetry::Telemetry;
use super::super::test_support::{access_lines, counted, field, inbound, outbound, pod};
use super::*;

const REQUESTS: &str = "istio_requests_total";

fn description(grpc: bool) -> RequestDescription {
    RequestDescription {
        method: Method::GET,
        path: "/cart".to_owned(),
        authority: "web".to_owned(),
        grpc,
        rule: None,
    }
}

/// A request from `client` to `server` in each one's telemetry.
fn both_ends(telemetry: &Telemetry, grpc: bool) -> [RequestRecord; 2] {
    let (client, server) = (pod("client-1", "client"), pod("server-1", "server"));
    let of_client = telemetry.for_pod(&client);
    let of_server = telemetry.for_pod(&server);
    [
        RequestRecord::start(&of_client, outbound(&client, &server), description(grpc)),
        RequestRecord::start(&of_server, inbound(&server, &client), description(grpc)),
    ]
}

#[test]
fn a_request_is_recorded_by_both_ends_each_as_what_it_is() {
    let telemetry = Telemetry::default();
    let keep = [
        telemetry.for_pod(&pod("client-1", "client")),
        telemetry.for_pod(&pod("server-1", "server")),
    ];
    let lines = access_lines(|| {
        for mut record in both_ends(&telemetry, false) {
            record.request_bytes().fetch_add(3, Ordering::Relaxed);
            record.attempt_started(Arc::clone(&record.info));
            record.response_started(StatusCode::OK, &HeaderMap::new());
            record.response_bytes(7);
            record.finish();
            // What comes first counts.
            record.fail(ResponseFlag::UpstreamReset);
        }
    });
    let both = [
        "response_code=\"200\"",
        "response_flags=\"-\"",
        "request_protocol=\"http\"",
        "source_workload=\"client\"",
        "destination_workload=\"server\"",
        "source_principal=\"spiffe://cluster.local/ns/shop/sa/client\"",
        "connection_security_policy=\"mutual_tls\"",
    ];
    for reporter in ["reporter=\"source\"", "reporter=\"destination\""] {
        let mut labels = both.to_vec();
        labels.push(reporter);
        assert_eq!(counted(&telemetry, REQUESTS, &labels), Some(1));
        for name in ["request", "response"] {
            let name = format!("istio_{name}_bytes_count");
            assert_eq!(counted(&telemetry, &name, &labels), Some(1));
        }
    }
    assert_eq!(lines.len(), 2);
    for (line, direction) in lines.iter().zip(["outbound", "inbound"]) {
        assert_eq!(field(line, "direction"), direction);
        assert_eq!(field(line, "request.path"), "/cart");
        assert_eq!(field(line, "bytes_sent"), "3");
        assert_eq!(field(line, "bytes_received"), "7");
        assert_eq!(field(line, "attempts"), "1");
        assert_eq!(field(line, "flags"), "-");
    }
    drop(keep);
    assert_eq!(counted(&telemetry, REQUESTS, &[]), None);
}

#[test]
fn peers_of_the_receiving_side_have_series_of_their_own() {
    let telemetry = Telemetry::default();
    let server = pod("server-1", "server");
    let of_server = telemetry.for_pod(&server);
    for client in ["shop-ui", "batch"] {
        let client = pod(client, client);
        for _ in 0..2 {
            let info = inbound(&server, &client);
            RequestRecord::start(&of_server, info, description(false)).finish();
        }
    }
    for client in ["source_workload=\"shop-ui\"", "source_workload=\"batch\""] {
        assert_eq!(counted(&telemetry, REQUESTS, &[client]), Some(2));
    }
}

#[test]
fn each_end_of_a_request_is_recorded_once() {
    type Act = fn(&mut RequestRecord);
    let acts: [(Act, &str, &str); 5] = [
        (|_| {}, "response_code=\"0\"", "DOWNSTREAM_RESET"),
        (
            |record| {
                record.response_started(StatusCode::OK, &HeaderMap::new());
            },
            "response_code=\"200\"",
            "DOWNSTREAM_RESET",
        ),
        (
            |record| {
                record.response_started(StatusCode::OK, &HeaderMap::new());
                record.fail(ResponseFlag::Timeout);
            },
            "response_code=\"200\"",
            "TIMEOUT",
        ),
        (
            |record| {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                record.replied_locally(status, None, ResponseFlag::NoEndpoint);
            },
            "response_code=\"503\"",
            "NO_ENDPOINT",
        ),
        (
            |record| record.fail(ResponseFlag::Connect),
            "response_code=\"0\"",
            "CONNECT",
        ),
    ];
    for (act, code, flag) in acts {
        let telemetry = Telemetry::default();
        let (client, server) = (pod("client-1", "client"), pod("server-1", "server"));
        let of_client = telemetry.for_pod(&client);
        let info = outbound(&client, &server);
        let lines = access_lines(|| {
            act(&mut RequestRecord::start(
                &of_client,
                info,
                description(false),
            ));
        });
        let label = format!("response_flags=\"{flag}\"");
        assert_eq!(counted(&telemetry, REQUESTS, &[code, &label]), Some(1));
        assert_eq!(counted(&telemetry, REQUESTS, &[]), Some(1));
        assert_eq!(lines.len(), 1);
        assert_eq!(field(&lines[0], "flags"), flag);
    }
}

#[test]
fn the_status_of_grpc_comes_from_trailers_or_else_from_headers() {
    let trailers = |status: &'static str| {
        HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())])
    };
    let telemetry = Telemetry::default();
    let server = pod("server-1", "server");
    let of_server = telemetry.for_pod(&server);
    for (headers, last, expected) in [
        (HeaderMap::new(), Some(trailers("14")), "14"),
        (trailers("5"), None, "5"),
        (trailers("5"), Some(trailers("none")), "5"),
    ] {
        let info = inbound(&server, &pod("client-1", "client"));
        let mut record = RequestRecord::start(&of_server, info, description(true));
        record.response_started(StatusCode::OK, &headers);
        if let Some(last) = &last {
            record.trailers(last);
        }
        record.finish();
        let before = counted(&telemetry, REQUESTS, &[]).unwrap_or_default();
        drop(record);
        let label = format!("grpc_response_status=\"{expected}\"");
        let labels = [&*label, "request_protocol=\"grpc\""];
        assert!(counted(&telemetry, REQUESTS, &labels).is_some());
        assert_eq!(counted(&telemetry, REQUESTS, &[]), Some(before + 1));
    }
}

#[test]
fn what_ends_after_its_pod_brings_no_series_back() {
    let telemetry = Telemetry::default();
    let [record, other] = both_ends(&telemetry, false);
    record.pod.retire();
    drop(record);
    assert_eq!(counted(&telemetry, REQUESTS, &[]), None);
    drop(other);
    assert_eq!(counted(&telemetry, REQUESTS, &[]), None);
}

#[test]
fn a_request_takes_as_long_as_until_its_end_and_not_until_it_is_dropped() {
    let telemetry = Telemetry::default();
    let [mut record, _] = both_ends(&telemetry, false);
    record.finish();
    let until_its_end = record.began().elapsed();
    std::thread::sleep(Duration::from_millis(5));
    let lines = access_lines(|| drop(record));
    let duration: u128 = field(&lines[0], "duration_us").parse().unwrap();
    assert!(duration <= until_its_end.as_micros(), "{duration}");
}

/// Counts a verdict on a request that arrives.
fn count_verdict(telemetry: &Telemetry, verdict: &Verdict<'_>) {
    let server = pod("server-1", "server");
    let info = inbound(&server, &pod("client-1", "client"));
    let of_server = telemetry.for_pod(&server);
    let mut record = RequestRecord::start(&of_server, info, description(false));
    record.set_authorization(AuthorizationNote::from(verdict));
    record.discard();
}

#[test]
fn what_policies_said_is_counted_by_policy_and_dry_runs_apart() {
    let telemetry = Telemetry::default();
    let _kept = telemetry.for_pod(&pod("server-1", "server"));
    let [deny, audit, tried] =
        ["deny", "audit", "tried"].map(|name| NamespacedName::new("shop", name));
    let of = |decision, reason| Verdict {
        decision,
        reason,
        dry_run: None,
        audited: vec![AuditedRule {
            policy: &audit,
            rule: 1,
        }],
    };
    let rule = |policy, rule| Reason::Rule { policy, rule };
    let dry_run = Some(DryRun {
        decision: Decision::Denied,
        reason: rule(&tried, 0),
    });
    for verdict in [
        of(Decision::Denied, rule(&deny, 2)),
        of(Decision::Denied, rule(&deny, 3)),
        of(Decision::Denied, Reason::NoAllowRule),
        Verdict {
            dry_run,
            ..of(Decision::DependsOnRequest, rule(&deny, 0))
        },
        // No policy had a part in it.
        Verdict {
            audited: vec![],
            ..of(Decision::Allowed, Reason::NoAllowRule)
        },
    ] {
        count_verdict(&telemetry, &verdict);
    }
    let denied = "verdict=\"denied\",dry_run=\"false\",subject=\"request\"";
    let tried = "verdict=\"denied\",dry_run=\"true\"";
    for (labels, expected) in [
        (&["policy_name=\"deny\"", denied][..], 2),
        (&["policy_name=\"\"", denied], 1),
        (&["policy_name=\"audit\"", "verdict=\"audited\""], 4),
        (&["policy_name=\"tried\"", tried], 1),
        (&[], 8),
    ] {
        let counted = counted(&telemetry, "weft_policy_verdicts_total", labels);
        assert_eq!(counted, Some(expected), "{labels:?}");
    }
}

#[test]
fn however_many_policies_there_are_a_pods_metrics_stay_small() {
    let telemetry = Telemetry::default();
    let _kept = telemetry.for_pod(&pod("server-1", "server"));
    for number in 0..1000 {
        let policy = NamespacedName::new("shop", &format!("p-{number}"));
        let verdict = Verdict {
            decision: Decision::Denied,
            reason: Reason::Rule {
                policy: &policy,
                rule: 0,
            },
            dry_run: None,
            audited: vec![],
        };
        count_verdict(&telemetry, &verdict);
    }
    let text = telemetry.encode().unwrap();
    let name = "weft_policy_verdicts_total{";
    let series = text.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(series, 257);
    let overflow = ["policy_namespace=\"overflow\",policy_name=\"overflow\""];
    let overflown = counted(&telemetry, "weft_policy_verdicts_total", &overflow);
    assert_eq!(overflown, Some(1000 - 256));
}

#[test]
fn what_policies_said_stands_in_the_access_log_of_requests_and_connections() {
    let [deny, audit, tried] =
        ["deny", "audit", "tried"].map(|name| NamespacedName::new("shop", name));
    let verdict = Verdict {
        decision: Decision::Denied,
        reason: Reason::Rule {
            policy: &deny,
            rule: 2,
        },
        dry_run: Some(DryRun {
            decision: Decision::Allowed,
            reason: Reason::Rule {
                policy: &tried,
                rule: 0,
            },
        }),
        audited: vec![AuditedRule {
            policy: &audit,
            rule: 1,
        }],
    };
    let note = AuthorizationNote::from(&verdict);
    let telemetry = Telemetry::default();
    let lines = access_lines(|| {
        for mut record in both_ends(&telemetry, false) {
            record.set_authorization(note.clone());
        }
        let server = pod("server-1", "server");
        let info = inbound(&server, &pod("client-1", "client"));
        let of_server = telemetry.for_pod(&server);
        let mut connection = ConnectionRecord::start(&of_server, info, Instant::now());
        connection.set_authorization(note.clone());
        drop(connection);
    });
    assert_eq!(lines.len(), 3);
    for line in &lines {
        assert_eq!(field(line, "authorization_policy"), "shop/deny");
        assert_eq!(field(line, "authorization_rule"), "2");
        assert_eq!(field(line, "authorization_audit"), "shop/audit#1");
        let tried = "allowed: rule 0 of AuthorizationPolicy shop/tried";
        assert_eq!(field(line, "authorization_dry_run"), tried);
    }
    let lines = access_lines(|| drop(both_ends(&telemetry, false)));
    assert_eq!(field(&lines[0], "authorization_policy"), "absent");
    assert_eq!(field(&lines[0], "authorization_audit"), "absent");
}
