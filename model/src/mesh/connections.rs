//! Routes for connections: where a TCPRoute or a TLSRoute leads them.

use std::sync::Arc;

use crate::address::OriginalDestination;
use crate::mesh::resolution::{Candidate, Unroutable};
use crate::mesh::service_lookup::DialledService;
use crate::mesh::snapshot::Mesh;
use crate::route::backend::BackendTarget;
use crate::route::key::RouteKind;
use crate::route::table::{CompiledRule, RouteTable, RuleId};
use crate::service::Service;

/// The routes for a connection, before it is known which of their rules is for it.
#[derive(Clone, Debug)]
pub struct ConnectionRoutes {
    /// Service that was asked for.
    pub service: Arc<Service>,
    port: u16,
    is_ipv4: bool,
    table: Arc<RouteTable>,
}

/// A connection that a route leads somewhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoutedConnection {
    /// Service of the backend.
    pub service: Arc<Service>,
    /// Port of that Service.
    pub port: u16,
    /// Endpoints that it may go to. At least one.
    pub candidates: Vec<Candidate>,
}

impl ConnectionRoutes {
    /// Whether the server name decides that the client asks for by TLS.
    pub fn matches_server_name(&self) -> bool {
        self.table.kind() == RouteKind::Tls
    }

    fn rule(&self, server_name: Option<&str>) -> Result<&Arc<CompiledRule>, Unroutable> {
        let rule = match self.matches_server_name() {
            true => self.table.match_server_name(server_name),
            false => self.table.connection_rule(),
        };
        rule.ok_or_else(|| Unroutable::NoRule {
            service: self.service.key.clone(),
            port: self.port,
            server_name: server_name.map(Arc::from),
        })
    }
}

impl Mesh {
    /// The routes for a connection from a namespace to a Service; `None` where
    /// there are none, or those that there are route requests.
    pub fn connection_routes(
        &self,
        client_namespace: &str,
        destination: OriginalDestination,
    ) -> Option<ConnectionRoutes> {
        let DialledService { service, port } =
            self.dialled_service(client_namespace, destination)?;
        let table = self.route_table(&service.key, port, client_namespace)?;
        let is_ipv4 = destination.address().is_ipv4();
        let table = (!table.kind().routes_requests()).then(|| Arc::clone(table))?;
        Some(ConnectionRoutes {
            service,
            port,
            is_ipv4,
            table,
        })
    }

    /// Routes such a connection of a pod on `node` to one of its rule's backends.
    /// `server_name` is the one that the client asks for by TLS; `draw` gives a number from
    /// 0 up to 1 for a rule that has several backends.
    ///
    /// # Errors
    /// When no rule is for the connection, or its backend can't take it.
    pub fn route_connection(
        &self,
        node: &str,
        routes: &ConnectionRoutes,
        server_name: Option<&str>,
        draw: impl FnOnce(RuleId) -> f64,
    ) -> Result<RoutedConnection, Unroutable> {
        let rule = routes.rule(server_name)?;
        let invalid = |reason: &str| Unroutable::InvalidBackend {
            route: rule.route.clone(),
            reason: reason.into(),
        };
        let backend = rule.backend(|| draw(rule.id));
        let backend = backend.ok_or_else(|| invalid("none has a weight"))?;
        let (service, port) = match &backend.target {
            BackendTarget::Service { service, port } => (service, *port),
            BackendTarget::Invalid { reason } => return Err(invalid(reason)),
        };
        let service = self
            .service(service)
            .ok_or_else(|| invalid(&format!("there is no service {service}")))?;
        let candidates = self.service_candidates(node, service, port, routes.is_ipv4)?;
        Ok(RoutedConnection {
            service: Arc::clone(service),
            port,
            candidates,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{endpoint, route, service, workload};
    use crate::mesh::change::Change;
    use crate::name::NamespacedName;
    use crate::route::rule::{Backend, Route};
    use crate::route::split::LowDiscrepancySequence;

    fn backend(name: Option<&str>, weight: u32) -> Backend {
        let target = match name {
            Some(name) => BackendTarget::Service {
                service: NamespacedName::new("default", name),
                port: 80,
            },
            None => BackendTarget::Invalid {
                reason: "there is no such kind".into(),
            },
        };
        Backend {
            target,
            weight,
            filters: Vec::new(),
        }
    }

    fn connection_route(
        kind: RouteKind,
        name: &str,
        hostnames: &[&str],
        backends: Vec<Backend>,
    ) -> Change {
        let mut route = route(name, "front");
        route.key.kind = kind;
        route.hostnames = hostnames.iter().map(|name| (*name).into()).collect();
        route.rules[0].matches.clear();
        route.rules[0].backends = backends;
        Change::Route(route)
    }

    fn mesh(routes: impl IntoIterator<Item = Change>) -> Mesh {
        let mut mesh = Mesh::default();
        // The service itself has no endpoint.
        mesh.apply(Change::Service(service("front", "10.96.0.9", 80)));
        for (name, address, pod) in [
            ("a", "10.96.0.1", "10.0.1.1"),
            ("b", "10.96.0.2", "10.0.1.2"),
        ] {
            mesh.apply(Change::Workload(workload(name, pod, "node-1")));
            mesh.apply(Change::Service(service(name, address, 80)));
            mesh.apply(Change::Endpoint(endpoint(
                name,
                pod,
                Some(name),
                (80, 8080),
            )));
        }
        routes.into_iter().for_each(|route| mesh.apply(route));
        mesh
    }

    /// The Service that a connection is routed to.
    fn routed_to(mesh: &Mesh, server_name: Option<&str>, draw: f64) -> Result<String, Unroutable> {
        let destination = OriginalDestination::new("10.96.0.9:80".parse().unwrap());
        let routes = mesh.connection_routes("default", destination).unwrap();
        let routed = mesh.route_connection("node-1", &routes, server_name, |_| draw)?;
        Ok(routed.service.key.name.to_string())
    }

    #[test]
    fn weights_share_connections_and_what_is_invalid_refuses_its_share() {
        let backends = vec![
            backend(Some("a"), 7),
            backend(Some("b"), 2),
            backend(None, 1),
        ];
        let mesh = mesh([connection_route(RouteKind::Tcp, "r", &[], backends)]);
        let mut draws = LowDiscrepancySequence::starting_at(7);
        let routed = (0..10_000).map(|_| routed_to(&mesh, None, draws.next_number()));
        let routed: Vec<_> = routed.collect();
        let count = |name: &str| routed.iter().filter(|to| to.as_deref() == Ok(name)).count();
        let refused = |to: &&Result<_, _>| matches!(to, Err(Unroutable::InvalidBackend { .. }));
        let refused = routed.iter().filter(refused).count();
        for (count, share) in [(count("a"), 7000), (count("b"), 2000), (refused, 1000)] {
            assert!(count.abs_diff(share) <= 10, "{count} of {share}");
        }
    }

    #[test]
    fn the_closest_server_name_counts_and_none_that_fits_is_refused() {
        let to = |name| vec![backend(Some(name), 1)];
        let mesh = mesh([
            connection_route(RouteKind::Tls, "r", &["*.example.org"], to("a")),
            connection_route(RouteKind::Tls, "s", &["b.example.org"], to("b")),
        ]);
        assert_eq!(routed_to(&mesh, Some("x.example.org"), 0.0).unwrap(), "a");
        assert_eq!(routed_to(&mesh, Some("B.example.org"), 0.0).unwrap(), "b");
        for name in [None, Some("example.org"), Some("elsewhere")] {
            let error = routed_to(&mesh, name, 0.0).unwrap_err();
            assert!(matches!(error, Unroutable::NoRule { .. }), "{error}");
        }
    }

    #[test]
    fn a_backend_that_is_not_there_and_a_rule_without_weight_are_refused() {
        for backends in [
            vec![backend(Some("gone"), 1)],
            vec![backend(Some("a"), 0)],
            vec![],
        ] {
            let mesh = mesh([connection_route(RouteKind::Tcp, "r", &[], backends)]);
            let error = routed_to(&mesh, None, 0.5).unwrap_err();
            assert!(
                matches!(error, Unroutable::InvalidBackend { .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn routes_of_requests_and_other_clients_routes_are_not_followed() {
        let to = OriginalDestination::new("10.96.0.9:80".parse().unwrap());
        let none = mesh([]);
        assert!(none.connection_routes("default", to).is_none());
        let of_requests = mesh([
            Change::Route(route("h", "front")),
            connection_route(RouteKind::Tcp, "r", &[], vec![backend(Some("a"), 1)]),
        ]);
        assert!(of_requests.connection_routes("default", to).is_none());
        let Change::Route(consumer) =
            connection_route(RouteKind::Tcp, "r", &[], vec![backend(Some("a"), 1)])
        else {
            panic!("no route")
        };
        let mut key = consumer.key.clone();
        key.name.namespace = "elsewhere".into();
        let consumer = mesh([Change::Route(Route { key, ..consumer })]);
        assert!(consumer.connection_routes("default", to).is_none());
        assert!(consumer.connection_routes("elsewhere", to).is_some());
    }
}
