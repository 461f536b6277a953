//! The services of the mesh whose requests a route splits, one for each way in which Weft carries
//! them.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use weft_tests::manifest::{PodSpec, Shape};
use weft_tests::mesh::{Mesh, MeshBuilder};

use super::bed::{Mode, SIDECAR, WEFT};
use super::envoy::Protocol;
use super::error::Result;

/// Ports of the servers.
pub(crate) const HTTP1: u16 = 8080;
pub(crate) const HTTP2: u16 = 8081;
/// Where servers read requests whole before they answer.
pub(crate) const READS_BODIES: u16 = 8082;
pub(crate) const PORTS: [(u16, Protocol); 3] = [
    (HTTP1, Protocol::Http1),
    (HTTP2, Protocol::Http2),
    (READS_BODIES, Protocol::Http1),
];
/// A backend on the client's own node, and the last part of its address.
pub(crate) const NEAR: &str = "near";
const NEAR_ADDRESS: u8 = 30;
/// Names of the measures of requests in two parts, to another node and on the client's own.
pub(crate) const TWO_PART: &str = "two_part_p50";
pub(crate) const TWO_PART_SAME_NODE: &str = "two_part_same_node_p50";
/// Names of the backends and what each gets of 100 requests.
pub(crate) const BACKENDS: [(&str, u32); 2] = [("v1", 80), ("v2", 20)];
/// What the names of backends outside the mesh begin with.
pub(crate) const OUTSIDE: &str = "direct-";
/// The backends whose ports no Service declares as HTTP: requests are looked at where they
/// are sent from.
pub(crate) const SENT: Split = Split {
    mode: WEFT,
    service: "shop",
    prefix: "",
    addresses: [10, 11, 12],
    declared: false,
    client: CLIENT,
    shape: Shape::Node,
};
/// Those whose ports are declared: requests are looked at where they arrive, too, as by a
/// pair of Envoys.
pub(crate) const RECEIVED: Split = Split {
    mode: "both-ends",
    service: "recorded",
    prefix: "recorded-",
    addresses: [20, 21, 22],
    declared: true,
    client: CLIENT,
    shape: Shape::Node,
};
/// The same, and each request is decided by [`POLICIES`] AuthorizationPolicies.
pub(crate) const GUARDED: Split = Split {
    mode: "policies",
    service: "guarded",
    prefix: "guarded-",
    addresses: [40, 41, 42],
    declared: true,
    client: CLIENT,
    shape: Shape::Node,
};
/// AuthorizationPolicies of which one lets the client in.
const POLICIES: usize = 1000;
/// What is sent as [`SENT`], by a sidecar to sidecars.
pub(crate) const SIDECARS: Split = Split {
    mode: SIDECAR,
    service: "sidecars",
    prefix: "sidecar-",
    addresses: [50, 51, 52],
    declared: false,
    client: "sidecar-client",
    shape: Shape::Sidecar,
};
const CLIENT: &str = "client";

/// A service whose route splits requests between two backends of a mesh.
#[derive(Clone, Copy)]
pub(crate) struct Split {
    pub(crate) mode: &'static str,
    /// The service; its own pods get nothing.
    pub(crate) service: &'static str,
    /// What the names of its backends begin with.
    pub(crate) prefix: &'static str,
    /// Last parts of the addresses of the service and of the backends.
    addresses: [u8; 3],
    /// Whether the backends' ports are declared as HTTP.
    declared: bool,
    /// Who sends, and where its proxy and those of the backends are.
    client: &'static str,
    shape: Shape,
}

/// A mesh with the client, and a server on its node.
pub(crate) fn mesh_with_client() -> MeshBuilder {
    let address = near_address().to_string();
    MeshBuilder::new(2)
        .strict()
        .pod(PodSpec::new(CLIENT, 1))
        .pod(PodSpec::new(NEAR, 1))
        .http_service(NEAR, &[&address], NEAR, &[(READS_BODIES, READS_BODIES)])
}

fn near_address() -> Ipv4Addr {
    Ipv4Addr::new(10, 96, 0, NEAR_ADDRESS)
}

impl Split {
    /// The same as another mode.
    pub(crate) fn called(self, mode: &'static str) -> Self {
        Self { mode, ..self }
    }

    /// Adds the service, the backends and their pods to a mesh.
    pub(crate) fn add_to(self, mesh: MeshBuilder) -> MeshBuilder {
        let ports = PORTS.map(|(port, _)| (port, port));
        let addresses = self
            .addresses
            .map(|last| Ipv4Addr::new(10, 96, 0, last).to_string());
        let [own, backends @ ..] = addresses.each_ref();
        let mut mesh = match self.shape {
            Shape::Node => mesh,
            Shape::Sidecar => mesh.pod(PodSpec::new(self.client, 1).shape(self.shape)),
        };
        mesh = mesh.service(self.service, &[own], "nobody", &ports);
        for ((name, _), address) in BACKENDS.iter().zip(backends) {
            let name = format!("{}{name}", self.prefix);
            let pod = PodSpec::new(&name, 2).shape(self.shape);
            mesh = mesh.pod(pod.label("backend-of", self.service));
            mesh = match self.declared {
                true => mesh.http_service(&name, &[address], &name, &ports),
                false => mesh.service(&name, &[address], &name, &ports),
            };
        }
        mesh
    }

    /// Both backends by their weights, on every port of the service.
    pub(crate) fn route(self) -> Value {
        let documents = PORTS.map(|(port, _)| {
            let backends = BACKENDS.map(|(name, weight)| {
                let name = format!("{}{name}", self.prefix);
                json!({ "name": name, "port": port, "weight": weight })
            });
            let parent =
                json!({ "group": "", "kind": "Service", "name": self.service, "port": port });
            json!({
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "HTTPRoute",
                "metadata": { "name": format!("{}-{port}", self.service), "namespace": "default" },
                "spec": { "parentRefs": [parent], "rules": [{ "backendRefs": backends }] },
            })
        });
        json!({ "apiVersion": "v1", "kind": "List", "items": documents })
    }

    /// The client's and the backends'.
    fn proxies(self, mesh: &Mesh) -> Result<Vec<u32>> {
        if self.shape == Shape::Node {
            return Ok(vec![mesh.agent_pid(1)?, mesh.agent_pid(2)?]);
        }
        let backends = BACKENDS.map(|(name, _)| format!("{}{name}", self.prefix));
        let pods = backends.iter().map(String::as_str).chain([self.client]);
        Ok(pods.filter_map(|pod| mesh.sidecar_pid(pod)).collect())
    }

    pub(crate) fn mode(self, mesh: &Mesh) -> Result<Mode> {
        let address = Ipv4Addr::new(10, 96, 0, self.addresses[0]);
        let mut two_part = vec![(TWO_PART, (address, READS_BODIES).into())];
        // An agent serves the other one.
        if self.shape == Shape::Node {
            two_part.push((TWO_PART_SAME_NODE, (near_address(), READS_BODIES).into()));
        }
        Ok(Mode {
            name: self.mode,
            place: mesh.pod(self.client)?.host.place().clone(),
            http: (address, HTTP1).into(),
            other: (address, HTTP2).into(),
            two_part,
            proxies: self.proxies(mesh)?,
        })
    }
}

/// Policies as a large organisation would have them: each lets one client use one part.
pub(crate) fn policies() -> Value {
    let policies = (0..POLICIES).map(|number| {
        let is_last = number + 1 == POLICIES;
        let (client, paths) = match is_last {
            true => ("client".to_owned(), json!(["/*"])),
            false => (
                format!("client-{number}"),
                json!([format!("/part-{number}/*")]),
            ),
        };
        json!({
            "apiVersion": "weft.dev/v1alpha1",
            "kind": "AuthorizationPolicy",
            "metadata": { "name": format!("allow-{number}"), "namespace": "default" },
            "spec": {
                "selector": { "matchLabels": { "backend-of": GUARDED.service } },
                "action": "ALLOW",
                "rules": [{
                    "from": [{ "serviceAccounts": [client] }],
                    "to": [{ "methods": ["GET", "POST"], "paths": paths }],
                }],
            },
        })
    });
    json!({ "apiVersion": "v1", "kind": "List", "items": policies.collect::<Vec<_>>() })
}
