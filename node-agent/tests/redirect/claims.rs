//! Addresses that a pod gives itself: whoever is root in its network namespace chooses them.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;

use weft_model::mtls::MtlsMode;
use weft_model::node_access::NodeAccess;
use weft_model::workload::{CaptureExclusions, RefusedConnections};
use weft_node_agent::redirect::{
    EnforcementConfig, PodAddresses, PodRedirect, PodRedirectConfig, Redirect, RedirectError,
    RedirectOptions, UnknownPods,
};

use crate::lab::{Captured, Lab, Listeners, Pod, accept, address, dial, isolated};

const STRICT: MtlsMode = MtlsMode::Strict;
const VICTIM: u8 = 10;

fn capture(
    captured: &mut PodRedirect,
    pod: &Pod,
    listeners: &Listeners,
    addresses: PodAddresses<'_>,
) -> Result<(), RedirectError> {
    captured.update(&PodRedirectConfig {
        namespace: &pod.namespace,
        addresses,
        exclusions: &CaptureExclusions::default(),
        listeners: listeners.pairs(),
        mtls_mode: STRICT,
        node_access: &NodeAccess::All,
        refused_uncaptured: None,
    })
}

fn enforce(enforced: &mut PodRedirect, pod: &Pod, addresses: PodAddresses<'_>) {
    let config = EnforcementConfig {
        namespace: &pod.namespace,
        addresses,
        exclusions: &CaptureExclusions::default(),
        refused: RefusedConnections::Both,
        node_access: &NodeAccess::All,
    };
    enforced.enforce(&config).unwrap();
}

fn at_victim() -> SocketAddr {
    address(&format!("10.9.0.{VICTIM}:80"))
}

/// A pod that has given itself the victim's address, and answers nobody who looks for that.
fn thief(lab: &Lab, number: u8) -> Pod {
    let thief = lab.pod(number);
    thief.run(|| fs::write("/proc/sys/net/ipv4/conf/all/arp_ignore", "1").unwrap());
    thief.ip(&format!("addr add 10.9.0.{VICTIM}/32 dev lo"));
    thief
}

/// The victim's proxy takes what comes for the victim.
fn assert_reached(victim: &Captured, peer: &Pod, after: &str) {
    let _client = peer.run(|| dial(at_victim())).expect(after);
    accept(&victim.listeners.plaintext[0]);
}

fn victim(lab: &Lab, redirect: &Redirect) -> Captured {
    Captured::new(redirect, lab.pod(VICTIM), STRICT, &[])
}

#[test]
fn a_pod_that_gives_itself_anothers_address_takes_none_of_its_connections() {
    isolated(|lab: &Lab| {
        let options = RedirectOptions {
            unknown_pods: UnknownPods::Refuse,
            ..lab.options()
        };
        let redirect = Redirect::load(&options).unwrap();
        let victim = victim(lab, &redirect);
        let (thief, peer) = (thief(lab, 20), lab.pod(30));
        redirect.mark_outside(&peer.namespace).unwrap();
        let found = [thief.v4(), victim.pod.v4()];

        redirect.refuse_unknown(&thief.namespace).unwrap();
        assert_reached(&victim, &peer, "an unknown pod has its address");
        redirect.forget_unknown(thief.namespace.cookie()).unwrap();
        assert_reached(&victim, &peer, "that one is gone");

        let mut claimed = redirect.prepare(&thief.namespace).unwrap();
        enforce(&mut claimed, &thief, PodAddresses::Found(&found));
        assert_reached(&victim, &peer, "a pod that is refused has its address");

        let net = thief.net(&redirect);
        let listeners = Listeners::open(&net);
        let all = PodAddresses::Found(&found);
        let error = capture(&mut claimed, &thief, &listeners, all).unwrap_err();
        assert!(matches!(error, RedirectError::AddressTaken(_)), "{error}");
        let own = claimed.without_others(&found);
        assert_eq!(own, [thief.v4()]);
        capture(&mut claimed, &thief, &listeners, PodAddresses::Found(&own)).unwrap();
        assert_reached(&victim, &peer, "a captured pod has its address");
        claimed.release().unwrap();
        assert_reached(&victim, &peer, "that one is released");
    });
}

#[test]
fn an_address_that_another_pod_has_given_itself_is_the_pods_that_it_was_assigned_to() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let (thief, peer) = (thief(lab, 20), lab.pod(30));
        let net = thief.net(&redirect);
        let listeners = Listeners::open(&net);
        let mut early = redirect.prepare(&thief.namespace).unwrap();
        let found = thief.namespace.addresses().unwrap();
        assert!(found.contains(&at_victim().ip()), "{found:?}");
        capture(&mut early, &thief, &listeners, PodAddresses::Found(&found)).unwrap();

        let pod = lab.pod(VICTIM);
        let mut refused = redirect.prepare(&pod.namespace).unwrap();
        let addresses = pod.addresses();
        enforce(&mut refused, &pod, PodAddresses::Assigned(&addresses));
        let error = peer.run(|| dial(at_victim())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        drop(refused);

        let victim = Captured::new(&redirect, pod, STRICT, &[]);
        assert_reached(&victim, &peer, "it was assigned to it");
        early.release().unwrap();
        assert_reached(&victim, &peer, "the other one has left");
    });
}
