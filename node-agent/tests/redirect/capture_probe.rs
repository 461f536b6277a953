//! Trying a capture out: a connection each way comes to the proxy, or doesn't.

use std::net::SocketAddr;

use weft_model::mtls::MtlsMode;
use weft_model::node_access::NodeAccess;
use weft_model::workload::{CaptureExclusions, RefusedConnections};
use weft_node_agent::redirect::{
    CaptureProbe, EnforcementConfig, PodAddresses, PodListeners, PodRedirectConfig, ProbedDirection,
};

use crate::held::Proxy;
use crate::lab::{Captured, Lab, accept, dial, exclusions, isolated};

/// Sends the probes of a pod; returns those of which the proxy has heard.
fn probe(
    captured: &Captured,
    proxy: &mut Proxy,
    exclusions: &CaptureExclusions,
) -> Vec<(ProbedDirection, bool)> {
    let config = PodRedirectConfig {
        namespace: &captured.pod.namespace,
        addresses: PodAddresses::Assigned(&captured.pod.addresses()),
        exclusions,
        listeners: PodListeners {
            holds_outbound: true,
            ..captured.listeners.pairs()
        },
        mtls_mode: MtlsMode::Strict,
        node_access: &NodeAccess::All,
        refused_uncaptured: None,
    };
    let probes = match captured.captured.probe(&config) {
        Ok(probes) => probes,
        // One that isn't captured, or that no route leads on, ends at once.
        Err((ProbedDirection::Outbound, _)) => return Vec::new(),
        Err(error) => panic!("{error:?}"),
    };
    let mut shown = Vec::new();
    while shown.len() < probes.len() {
        let Some(attempt) = proxy.next() else { break };
        let is_shown = |probe: &&CaptureProbe| probe.is_shown_by(&attempt);
        let probe = probes.iter().find(is_shown).expect("nobody else connects");
        proxy.held.give_up(&attempt);
        shown.push((probe.direction, probe.is_ipv4()));
    }
    shown.sort_by_key(|(direction, is_ipv4)| (direction.to_string(), *is_ipv4));
    shown
}

const INBOUND: [(ProbedDirection, bool); 2] = [
    (ProbedDirection::Inbound, false),
    (ProbedDirection::Inbound, true),
];
const OUTBOUND: [(ProbedDirection, bool); 2] = [
    (ProbedDirection::Outbound, false),
    (ProbedDirection::Outbound, true),
];

#[test]
fn a_captured_pods_probes_come_to_the_proxy_in_both_families() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::holding(&redirect, lab.pod(10));
        let mut proxy = Proxy::new(&redirect);
        let none = CaptureExclusions::default();
        let began = std::time::Instant::now();
        let shown = probe(&captured, &mut proxy, &none);
        assert_eq!(shown, [INBOUND, OUTBOUND].concat());
        eprintln!("trying a capture out took {:?}", began.elapsed());
        // Listeners are as before.
        let peer = lab.pod(20);
        let to = SocketAddr::new(captured.pod.v4(), 15008);
        let _client = peer.run(|| dial(to)).unwrap();
        accept(&captured.listeners.hbone[0]);
    });
}

#[test]
fn exclusions_of_everything_leave_the_probes_that_arrive() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::holding(&redirect, lab.pod(10));
        let mut proxy = Proxy::new(&redirect);
        let all = exclusions(&["0.0.0.0/0", "::/0"]);
        assert_eq!(probe(&captured, &mut proxy, &all), INBOUND);
    });
}

#[test]
fn a_pod_whose_connections_do_not_come_to_the_proxy_is_found_out() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let mut proxy = Proxy::new(&redirect);
        let none = CaptureExclusions::default();
        // Somebody has the pod's connections to the proxy's port dropped.
        let captured = Captured::holding(&redirect, lab.pod(10));
        for family in ["-4", "-6"] {
            for rule in [
                "rule add pref 100 lookup local",
                "rule add pref 10 ipproto tcp dport 15001 blackhole",
                "rule del pref 0",
            ] {
                captured.pod.ip(&format!("{family} {rule}"));
            }
        }
        assert_eq!(probe(&captured, &mut proxy, &none), []);
        // The kernel doesn't capture its connections.
        let mut captured = Captured::holding(&redirect, lab.pod(20));
        captured.captured.stop_outbound().unwrap();
        assert_eq!(probe(&captured, &mut proxy, &none), []);
        // Nothing steers what arrives: the kernel has forgotten where the proxy listens.
        let mut captured = Captured::holding(&redirect, lab.pod(30));
        let enforcement = EnforcementConfig {
            namespace: &captured.pod.namespace,
            addresses: PodAddresses::Assigned(&captured.pod.addresses()),
            exclusions: &none,
            refused: RefusedConnections::Both,
            node_access: &NodeAccess::All,
        };
        captured.captured.enforce(&enforcement).unwrap();
        let all = exclusions(&["0.0.0.0/0", "::/0"]);
        assert_eq!(probe(&captured, &mut proxy, &all), []);
    });
}
