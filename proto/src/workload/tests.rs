use std::net::IpAddr;

use proptest::prelude::*;
use weft_model::access_log::AccessLogSettings;
use weft_model::address::AddressBlock;
use weft_model::authorization_policy::{AuthorizationMembership, DefaultAuthorization};
use weft_model::mtls::MtlsMode;

use std::time::Duration;

use weft_model::idle::IdleLimits;
use weft_model::name::NamespacedName;
use weft_model::node_access::{NodeAccess, Probe, ProbeKind};
use weft_model::workload::PolicyMembership;

use super::*;

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from)
    ]
    .prop_map(|address| address.to_canonical())
}

prop_compose! {
    fn any_workload()(
        (uid, name, node) in ("[a-z0-9-]{1,12}", "[a-z]{1,8}", "[a-z]{1,8}"),
        (namespace, account, domain) in ("[a-z]{1,8}", "[a-z]{1,8}", "[a-z]{1,8}"),
        addresses in prop::collection::vec(any_address(), 1..3),
        enrolment in prop::sample::select(vec![Enrolment::Outside, Enrolment::Pending, Enrolment::Captured]),
        (strict, registered) in any::<(bool, bool)>(),
        ports in prop::collection::vec(1u16.., 0..3),
        blocks in prop::collection::vec(any_address(), 0..3),
        labels in prop::array::uniform6("[a-z]{0,6}"),
        idle in prop::array::uniform2(prop::option::of(any::<u32>())),
        named in prop::collection::vec(("[a-z]{1,6}", 1u16..), 0..3),
        path_normalization in prop::sample::select(PathNormalization::ALL.to_vec()),
    ) -> Workload {
        let single = |address: IpAddr| address.to_string().parse::<AddressBlock>().unwrap();
        let [workload, app, version, network_namespace, region, zone] = labels.map(|label| label.as_str().into());
        let policies = named.iter().map(|(name, _)| NamespacedName::new(&namespace, name));
        let mut selectors: Vec<Arc<str>> = named.iter().map(|(name, _)| name.as_str().into()).collect();
        selectors.sort();
        let network_policies = PolicyMembership {
            ingress: policies.clone().collect(),
            egress: policies.skip(1).collect(),
            selectors,
            ports: named.iter().map(|(name, port)| (name.as_str().into(), *port)).collect(),
        };
        Workload {
            uid: WorkloadUid::from(uid.as_str()),
            name: name.into(),
            identity: SpiffeId::new(domain.parse().unwrap(), &namespace, &account).unwrap(),
            addresses,
            node: node.into(),
            locality: Locality { region, zone },
            enrolment,
            is_sidecar: strict != registered,
            port_modes: if strict { "80=permissive".parse().unwrap() } else { Default::default() },
            mtls_mode: if strict { MtlsMode::Strict } else { MtlsMode::Permissive },
            node_access: node_access(&named, registered),
            egress_mode: if registered { EgressMode::RegisteredOnly } else { EgressMode::AllowAny },
            path_normalization,
            access_log: Arc::new(AccessLogSettings {
                lines_per_second: Some(7),
                ..AccessLogSettings::default()
            }),
            idle_limits: idle_limits(idle),
            exclusions: CaptureExclusions { ports, blocks: blocks.into_iter().map(single).collect() },
            network_namespace,
            labels: WorkloadLabels { workload, app, version },
            network_policies: Arc::new(network_policies),
            authorization: Arc::new(AuthorizationMembership {
                policies: vec![NamespacedName::new("shop", "web")],
                default: DefaultAuthorization::SameNamespace,
                is_observed_only: strict,
            }),
        }
    }
}

fn node_access(named: &[(String, u16)], all: bool) -> NodeAccess {
    let probes = named.iter().map(|(target, port)| Probe {
        port: *port,
        kind: match port % 4 {
            0 => ProbeKind::Tcp,
            1 => ProbeKind::Https,
            2 => ProbeKind::Grpc,
            _ => ProbeKind::Http(format!("/{target}").into()),
        },
    });
    match all {
        true => NodeAccess::All,
        false => NodeAccess::Probes(probes.collect()),
    }
}

fn idle_limits(millis: [Option<u32>; 2]) -> IdleLimits {
    let [open, half_closed] =
        millis.map(|millis| millis.map(|millis| Duration::from_millis(millis.into())));
    IdleLimits { open, half_closed }
}

proptest! {
    #[test]
    fn a_workload_survives_the_wire(workload in any_workload()) {
        let message = v1::Workload::from(&workload);
        prop_assert_eq!(Workload::try_from(message), Ok(workload));
    }
}

fn valid() -> v1::Workload {
    v1::Workload {
        uid: "u".into(),
        name: "web".into(),
        namespace: "shop".into(),
        service_account: "web".into(),
        trust_domain: "cluster.local".into(),
        addresses: vec![vec![10, 0, 0, 1]],
        node: "node-1".into(),
        enrolment: v1::Enrolment::Captured.into(),
        mtls_mode: v1::MtlsMode::Strict.into(),
        ..Default::default()
    }
}

#[test]
fn a_mode_that_this_version_does_not_know_is_refused_not_guessed() {
    let unknown = v1::Workload {
        mtls_mode: 77,
        ..valid()
    };
    assert_eq!(
        Workload::try_from(unknown),
        Err(mtls::InvalidMtlsModes::Unknown("mtls_mode", 77).into())
    );
    let unset = v1::Workload {
        enrolment: 0,
        ..valid()
    };
    assert_eq!(
        Workload::try_from(unset),
        Err(InvalidWorkload::Missing("enrolment"))
    );
}

#[test]
fn a_pod_that_is_only_just_scheduled_has_no_address_yet() {
    let nowhere = v1::Workload {
        addresses: vec![],
        ..valid()
    };
    let workload = Workload::try_from(nowhere).unwrap();
    assert!(workload.addresses.is_empty());
}

#[test]
fn an_error_names_the_field() {
    let odd = v1::Workload {
        addresses: vec![vec![1, 2, 3]],
        ..valid()
    };
    assert!(
        Workload::try_from(odd)
            .unwrap_err()
            .to_string()
            .contains("addresses")
    );
    let nameless = v1::Workload {
        uid: String::new(),
        ..valid()
    };
    assert_eq!(
        Workload::try_from(nameless),
        Err(InvalidWorkload::Missing("uid"))
    );
    let exclusions = Some(v1::CaptureExclusions {
        ports: vec![70_000],
        blocks: vec![],
    });
    let port = v1::Workload {
        exclusions,
        ..valid()
    };
    assert_eq!(Workload::try_from(port), Err(InvalidWorkload::Port(70_000)));
}
