//! Topology: which endpoints are near enough for a client, where a Service
//! (`trafficDistribution`) or hints of its slices keep traffic near (KEP-2433, KEP-4444).

use crate::mesh::resolution::Candidate;
use crate::mesh::snapshot::Mesh;
use crate::service::{Endpoint, Service, TrafficDistribution};

/// Endpoints that are preferred, and whether that applies.
type Preference<'a> = (bool, &'a dyn Fn(&Endpoint) -> bool);

impl Mesh {
    /// Leaves of the endpoints that could be used those that a client on `node` should get: as
    /// kube-proxy those with a hint for it, where all of them have one. Hints are a controller's
    /// work; where nobody has given any, what the Service asks for is decided here. Never leaves
    /// none.
    pub(super) fn keep_near(
        &self,
        node: &str,
        service: &Service,
        found: &mut Vec<(&Endpoint, Candidate)>,
    ) {
        let policy = self.traffic_policy(&service.key);
        let has_locality = policy.is_some_and(|policy| policy.locality.is_some());
        if service.is_node_local || has_locality {
            return;
        }
        let zone = self.zone(node);
        let is_hinted_node =
            |endpoint: &Endpoint| endpoint.hints.nodes.iter().any(|hint| **hint == *node);
        let is_hinted_zone = |endpoint: &Endpoint| {
            let mut hints = endpoint.hints.zones.iter();
            hints.any(|hint| zone.is_some_and(|zone| **hint == *zone))
        };
        let is_on_node = |endpoint: &Endpoint| self.is_on(node, endpoint);
        let is_in_zone = |endpoint: &Endpoint| {
            let of_endpoint = self.node_of(endpoint).and_then(|node| self.zone(node));
            zone.is_some() && of_endpoint == zone
        };
        let all = |has: fn(&Endpoint) -> bool| found.iter().all(|(endpoint, _)| has(endpoint));
        let distribution = service
            .traffic_distribution
            .filter(|_| all(|endpoint| endpoint.hints.is_empty()));
        let preferences: [Preference<'_>; 4] = [
            (
                all(|endpoint| !endpoint.hints.nodes.is_empty()),
                &is_hinted_node,
            ),
            (
                all(|endpoint| !endpoint.hints.zones.is_empty()),
                &is_hinted_zone,
            ),
            (
                distribution == Some(TrafficDistribution::PreferSameNode),
                &is_on_node,
            ),
            (distribution.is_some(), &is_in_zone),
        ];
        let followed = preferences.into_iter().find(|(applies, is_near)| {
            *applies && found.iter().any(|(endpoint, _)| is_near(endpoint))
        });
        if let Some((_, is_near)) = followed {
            found.retain(|(endpoint, _)| is_near(endpoint));
        }
    }

    /// The zone of a node, where that is known.
    fn zone(&self, node: &str) -> Option<&str> {
        let zone = &*self.node(node)?.locality.zone;
        (!zone.is_empty()).then_some(zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::OriginalDestination;
    use crate::fixtures::{endpoint, service, workload};
    use crate::mesh::change::Change;
    use crate::mesh::resolution::Resolution;
    use crate::node::Node;
    use crate::service::TopologyHints;
    use crate::traffic::policy::{LocalityPreference, TrafficPolicy};
    use crate::workload::Locality;

    /// Two nodes in zone a, one in b, and one of which nobody knows where it is; an endpoint
    /// on each of the first three.
    fn mesh(of_service: impl Fn(Service) -> Service) -> Mesh {
        let mut mesh = Mesh::default();
        for (name, zone) in [("n1", "a"), ("n2", "a"), ("n3", "b"), ("n4", "")] {
            let locality = Locality {
                region: "eu".into(),
                zone: zone.into(),
            };
            let name = name.into();
            mesh.apply(Change::Node(Node {
                name,
                locality,
                addresses: Vec::new(),
            }));
        }
        let web = of_service(service("web", "10.96.0.1", 80));
        mesh.apply(Change::Service(web));
        for (address, node) in [("10.0.0.1", "n1"), ("10.0.0.2", "n2"), ("10.0.0.3", "n3")] {
            mesh.apply(Change::Workload(workload(node, address, node)));
            let of_node = endpoint("web", address, Some(node), (80, 8080));
            mesh.apply(Change::Endpoint(of_node));
        }
        mesh
    }

    /// Hints for the endpoint at `10.0.0.N`.
    fn hint(mesh: &mut Mesh, number: u8, zones: &[&str], nodes: &[&str]) {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).into()).collect();
        let address = format!("10.0.0.{number}");
        let node = format!("n{number}");
        mesh.apply(Change::Endpoint(Endpoint {
            hints: TopologyHints {
                zones: texts(zones),
                nodes: texts(nodes),
            },
            ..endpoint("web", &address, Some(&node), (80, 8080))
        }));
    }

    /// The last parts of the addresses that a client gets.
    fn candidates(mesh: &Mesh, node: &str) -> Vec<u8> {
        let to = OriginalDestination::new("10.96.0.1:80".parse().unwrap());
        let Ok(Resolution::Service { candidates, .. }) = mesh.resolve(node, "default", to) else {
            panic!("not a service")
        };
        let last = |candidate: &Candidate| {
            let address = candidate.address.ip().to_string();
            address.rsplit('.').next().unwrap().parse().unwrap()
        };
        candidates.iter().map(last).collect()
    }

    fn distributing(distribution: TrafficDistribution) -> Mesh {
        mesh(|service| Service {
            traffic_distribution: Some(distribution),
            ..service
        })
    }

    #[test]
    fn without_a_wish_or_a_hint_all_are_used() {
        assert_eq!(candidates(&mesh(|service| service), "n1"), [1, 2, 3]);
    }

    #[test]
    fn hints_count_where_every_endpoint_has_one_and_one_is_for_the_client() {
        let mut mesh = mesh(|service| service);
        hint(&mut mesh, 1, &["a"], &[]);
        hint(&mut mesh, 2, &["a", "c"], &[]);
        assert_eq!(candidates(&mesh, "n1"), [1, 2, 3], "one has none");
        hint(&mut mesh, 3, &["b"], &[]);
        assert_eq!(candidates(&mesh, "n1"), [1, 2]);
        assert_eq!(candidates(&mesh, "n3"), [3]);
        assert_eq!(candidates(&mesh, "n4"), [1, 2, 3], "it has no zone");
        assert_eq!(candidates(&mesh, "n9"), [1, 2, 3], "it isn't known");
        // One that isn't ready has no say.
        mesh.apply(Change::Endpoint(Endpoint {
            ready: false,
            ..endpoint("web", "10.0.0.9", None, (80, 8080))
        }));
        assert_eq!(candidates(&mesh, "n1"), [1, 2]);
    }

    #[test]
    fn hints_for_nodes_come_before_those_for_zones() {
        let mut mesh = mesh(|service| service);
        hint(&mut mesh, 1, &["a"], &["n1"]);
        hint(&mut mesh, 2, &["a"], &["n2", "n4"]);
        hint(&mut mesh, 3, &["b"], &["n3"]);
        assert_eq!(candidates(&mesh, "n2"), [2]);
        assert_eq!(candidates(&mesh, "n4"), [2]);
        hint(&mut mesh, 2, &["a"], &["n4"]);
        assert_eq!(candidates(&mesh, "n2"), [1, 2], "its zone");
    }

    #[test]
    fn a_service_says_it_itself_where_nobody_gives_hints() {
        let mut by_zone = distributing(TrafficDistribution::PreferSameZone);
        assert_eq!(candidates(&by_zone, "n1"), [1, 2]);
        assert_eq!(candidates(&by_zone, "n3"), [3]);
        assert_eq!(candidates(&by_zone, "n4"), [1, 2, 3]);
        let by_node = distributing(TrafficDistribution::PreferSameNode);
        assert_eq!(candidates(&by_node, "n2"), [2]);
        // An endpoint that is no pod is where its slice says.
        let node = "n1".into();
        let outside = endpoint("web", "192.0.2.4", None, (80, 8080));
        by_zone.apply(Change::Endpoint(Endpoint { node, ..outside }));
        assert_eq!(candidates(&by_zone, "n1"), [1, 2, 4]);
        hint(&mut by_zone, 1, &["a"], &[]);
        assert_eq!(
            candidates(&by_zone, "n1"),
            [1, 2, 3, 4],
            "a controller is at work"
        );
    }

    #[test]
    fn a_policy_with_a_locality_and_local_traffic_win() {
        for (locality, expected) in [
            (Some(LocalityPreference::Any), vec![1, 2, 3]),
            (Some(LocalityPreference::Zone), vec![1, 2, 3]),
            (None, vec![1, 2]),
        ] {
            let mut mesh = distributing(TrafficDistribution::PreferSameZone);
            let web = service("web", "10.96.0.1", 80).key;
            mesh.apply(Change::TrafficPolicy(Box::new(TrafficPolicy {
                locality,
                ..TrafficPolicy::new(web)
            })));
            assert_eq!(candidates(&mesh, "n1"), expected, "{locality:?}");
        }
        let mut local = mesh(|service| Service {
            is_node_local: true,
            ..service
        });
        for number in 1..=3 {
            hint(&mut local, number, &[], &["n3"]);
        }
        assert_eq!(candidates(&local, "n1"), [1]);
    }
}
