//! Where a Service is reached beside its own addresses: by those of load balancers, by
//! `externalIPs`, and by ports of nodes.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, ServiceSpec, ServiceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use weft_model::address::canonical_ip;

use crate::kinds::address::is_special;
use crate::kinds::field_error::FieldError;

/// The external addresses that a Service may have: anybody may write one, and every node keeps
/// them all.
const MOST_ADDRESSES: usize = 256;

/// The predecessor of `spec.loadBalancerSourceRanges`.
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// The addresses that stand for a Service, and what can't be one.
#[derive(Debug, Default)]
pub(super) struct Exposure {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) problems: Vec<FieldError>,
    /// How many addresses are too many.
    left_out: usize,
}

impl Exposure {
    /// The external addresses. Left out is what the mesh would walk around: load balancers that
    /// want to see the connections themselves (`ipMode: Proxy`) or let some clients through only.
    pub(super) fn read(
        metadata: &ObjectMeta,
        spec: &ServiceSpec,
        status: Option<&ServiceStatus>,
    ) -> Self {
        let mut exposure = Self::default();
        if is_headless(spec) || is_node_local(spec) {
            return exposure;
        }
        for (index, address) in spec.external_ips.iter().flatten().enumerate() {
            exposure.add(format!("spec.externalIPs[{index}]"), address);
        }
        if spec.type_.as_deref() == Some("LoadBalancer") && !has_source_ranges(metadata, spec) {
            for (index, ingress) in ingresses(status).iter().enumerate() {
                let address = ingress.ip.as_deref().filter(|ip| !ip.is_empty());
                if let Some(address) = address
                    && ingress.ip_mode.as_deref() != Some("Proxy")
                {
                    let field = format!("status.loadBalancer.ingress[{index}].ip");
                    exposure.add(field, address);
                }
            }
        }
        exposure.name_left_out();
        exposure
    }

    /// One problem for all that are too many, however many these are.
    fn name_left_out(&mut self) {
        if self.left_out > 0 {
            let message = format!(
                "a Service has at most {MOST_ADDRESSES} external addresses with those of its load \
                 balancer; {} are left out",
                self.left_out
            );
            let field = "spec.externalIPs";
            self.problems.push(FieldError::new(field, message));
        }
    }

    fn add(&mut self, field: String, text: &str) {
        match text.parse::<IpAddr>().map(canonical_ip) {
            Ok(address) if is_special(address) => {
                let message = format!("`{text}` is no address of anybody's own");
                self.problems.push(FieldError::new(field, message));
            }
            Ok(address) if self.addresses.contains(&address) => {}
            Ok(_) if self.addresses.len() == MOST_ADDRESSES => self.left_out += 1,
            Ok(address) => self.addresses.push(address),
            Err(_) => {
                let message = format!("`{text}` is not an IP address");
                self.problems.push(FieldError::new(field, message));
            }
        }
    }
}

/// Whether the ports of nodes lead to all endpoints. With `externalTrafficPolicy: Local` one
/// leads to those of its node only, and with `internalTrafficPolicy: Local` it is the Service's
/// address that does.
pub(super) fn has_node_ports(spec: &ServiceSpec) -> bool {
    let is_exposed = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
    let is_local = spec.external_traffic_policy.as_deref() == Some("Local");
    is_exposed && !is_local && !is_node_local(spec)
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("ExternalName") || spec.cluster_ip.as_deref() == Some("None")
}

fn is_node_local(spec: &ServiceSpec) -> bool {
    spec.internal_traffic_policy.as_deref() == Some("Local")
}

fn has_source_ranges(metadata: &ObjectMeta, spec: &ServiceSpec) -> bool {
    let annotations = metadata.annotations.as_ref();
    let has_ranges = |ranges: &Vec<String>| !ranges.is_empty();
    spec.load_balancer_source_ranges
        .as_ref()
        .is_some_and(has_ranges)
        || annotations.is_some_and(|annotations| annotations.contains_key(SOURCE_RANGES))
}

fn ingresses(status: Option<&ServiceStatus>) -> &[LoadBalancerIngress] {
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref());
    ingress.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(spec: &str, status: &str) -> (Vec<String>, Vec<String>, bool) {
        let spec: ServiceSpec = serde_saphyr::from_str(spec).unwrap();
        let status: ServiceStatus = serde_saphyr::from_str(status).unwrap();
        let exposure = Exposure::read(&ObjectMeta::default(), &spec, Some(&status));
        let addresses = exposure.addresses.iter().map(ToString::to_string);
        let problems = exposure.problems.iter().map(ToString::to_string);
        (
            addresses.collect(),
            problems.collect(),
            has_node_ports(&spec),
        )
    }

    const INGRESS: &str = "loadBalancer: { ingress: [{ ip: 203.0.113.10 }, { hostname: lb.example }, \
        { ip: 203.0.113.11, ipMode: Proxy }, { ip: 203.0.113.12, ipMode: VIP }] }";

    #[test]
    fn a_load_balancer_and_external_addresses_are_the_services() {
        let spec = "{ type: LoadBalancer, externalIPs: [198.51.100.1, 203.0.113.10] }";
        let (addresses, problems, has_node_ports) = read(spec, INGRESS);
        assert_eq!(addresses, ["198.51.100.1", "203.0.113.10", "203.0.113.12"]);
        assert!(problems.is_empty() && has_node_ports);
        let (addresses, _, has_node_ports) = read("{ externalIPs: [198.51.100.1] }", INGRESS);
        assert_eq!(
            addresses,
            ["198.51.100.1"],
            "it is no load balancer's any more"
        );
        assert!(!has_node_ports);
    }

    #[test]
    fn what_the_mesh_would_walk_around_is_left_out() {
        let ranges = "{ type: LoadBalancer, loadBalancerSourceRanges: [10.0.0.0/8] }";
        assert!(read(ranges, INGRESS).0.is_empty());
        let metadata = ObjectMeta {
            annotations: Some([(SOURCE_RANGES.to_owned(), "10.0.0.0/8".to_owned())].into()),
            ..ObjectMeta::default()
        };
        let spec = serde_saphyr::from_str("{ type: LoadBalancer }").unwrap();
        let status = serde_saphyr::from_str(INGRESS).unwrap();
        let annotated = Exposure::read(&metadata, &spec, Some(&status));
        assert!(annotated.addresses.is_empty());
        for nothing in [
            "{ type: LoadBalancer, internalTrafficPolicy: Local }",
            "{ type: LoadBalancer, clusterIP: None }",
            "{ type: ExternalName, externalIPs: [198.51.100.1] }",
        ] {
            assert!(read(nothing, INGRESS).0.is_empty(), "{nothing}");
        }
    }

    #[test]
    fn local_traffic_from_outside_restricts_the_ports_of_nodes_only() {
        let spec = "{ type: LoadBalancer, externalTrafficPolicy: Local }";
        let (addresses, _, has_node_ports) = read(spec, INGRESS);
        assert_eq!(addresses, ["203.0.113.10", "203.0.113.12"]);
        assert!(!has_node_ports);
        assert!(read("{ type: NodePort }", "{}").2);
        assert!(!read("{ type: NodePort, internalTrafficPolicy: Local }", "{}").2);
    }

    #[test]
    fn what_is_no_address_is_named_and_left_out() {
        let spec = "{ externalIPs: [nowhere, 127.0.0.1, 198.51.100.1] }";
        let (addresses, problems, _) = read(spec, "{}");
        assert_eq!(addresses, ["198.51.100.1"]);
        let expected = [
            "field spec.externalIPs[0]: `nowhere` is not an IP address",
            "field spec.externalIPs[1]: `127.0.0.1` is no address of anybody's own",
        ];
        assert_eq!(problems, expected);
    }

    #[test]
    fn addresses_beyond_the_most_are_left_out_and_named_once() {
        let list = |count: usize| {
            let addresses = (0..count).map(|n| format!("198.51.{}.{}", n / 256, n % 256));
            let addresses: Vec<_> = addresses.collect();
            format!("{{ externalIPs: [{}] }}", addresses.join(", "))
        };
        let (addresses, problems, _) = read(&list(256), "{}");
        assert_eq!((addresses.len(), problems.len()), (256, 0));
        let (addresses, problems, _) = read(&list(1500), "{}");
        assert_eq!(addresses.len(), 256);
        assert_eq!(addresses[255], "198.51.0.255");
        let expected = "field spec.externalIPs: a Service has at most 256 external addresses with \
            those of its load balancer; 1244 are left out";
        assert_eq!(problems, [expected]);
    }
}
