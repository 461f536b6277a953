//! What happened to a call, from evidence only: the agents' access records and the
//! packets between the nodes.

use std::net::SocketAddr;

use serde::Serialize;
use serde_json::Value;
use weft_tests::Result;
use weft_tests::access_log::AccessRecord;
use weft_tests::mesh::Mesh;
use weft_tests::packets::Packets;

use super::call::{Destination, Made, Protocol};

const HBONE_PORT: u16 = 15008;

/// One line of `cargo xtask demo --json`. Others script against these fields: only add.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) path: String,
    pub(super) captured: bool,
    pub(super) encrypted: bool,
    pub(super) client_identity: Option<String>,
    pub(super) server_identity: Option<String>,
    /// HTTP status, or `ok` for TCP.
    pub(super) status: Value,
    pub(super) latency_us: u64,
    /// For the table only.
    #[serde(skip)]
    pub(super) destination: String,
}

impl Row {
    /// Collects the evidence.
    pub(super) fn of(made: &Made, mesh: &Mesh, packets: &Packets) -> Result<Self> {
        let evidence = Evidence::find(made, mesh)?;
        let client = &mesh.pod(&made.from)?.host;
        let server = &mesh.pod(&made.to)?.host;
        // By the family that reached the server: a pod's IPv6 address stays IPv6.
        let ends = if made.address.is_ipv4() {
            [client.ipv4(), server.ipv4()]
        } else {
            [client.ipv6(), server.ipv6()]
        };
        let tunnelled = packets.count(ends, HBONE_PORT)? > 0;
        let same_node = mesh.pod(&made.from)?.node == mesh.pod(&made.to)?.node;
        let Evidence { outbound, inbound } = evidence;
        let record = outbound.as_ref().or(inbound.as_ref());
        let path = record.map(|record| record.path.clone());
        Ok(Self {
            from: made.from.clone(),
            to: made.to.clone(),
            path: path.unwrap_or_else(|| "unknown".to_owned()),
            captured: record.is_some(),
            encrypted: !same_node && tunnelled && !packets.contain(&made.marker),
            // Each identity as the other end saw it proven.
            client_identity: inbound.and_then(|record| record.source_identity),
            server_identity: outbound.and_then(|record| record.destination_identity),
            status: made.status.clone(),
            latency_us: made.latency_us,
            destination: match (made.destination, made.protocol) {
                (Destination::Service, _) => format!("service {}", made.address),
                (Destination::Pod | Destination::PodIpv6, Protocol::Http) => {
                    format!("http {}", made.address)
                }
                (Destination::Pod | Destination::PodIpv6, Protocol::Tcp) => {
                    format!("tcp {}", made.address)
                }
            },
        })
    }

    /// What is not as it should be.
    pub(super) fn problems(&self, made: &Made, packets: &Packets) -> Vec<String> {
        let expected = Expected::of(&self.from, &self.to);
        let mut problems = Vec::new();
        let mut check = |what: &str, holds: bool, seen: String| {
            if !holds {
                problems.push(format!("{what}, but it is {seen}"));
            }
        };
        check(
            &format!("the path should be {}", expected.path),
            self.path == expected.path,
            self.path.clone(),
        );
        check(
            "the call should be captured",
            self.captured,
            "not".to_owned(),
        );
        let encrypted = expected.path == "cross-node";
        check(
            &format!("encrypted should be {encrypted}"),
            self.encrypted == encrypted,
            self.encrypted.to_string(),
        );
        let visible = expected.path == "outside";
        check(
            &format!(
                "the text should be {} between the nodes",
                if visible { "visible" } else { "invisible" }
            ),
            packets.contain(&made.marker) == visible,
            "not so".to_owned(),
        );
        for (end, identity, wanted) in [
            ("client", &self.client_identity, &expected.client_identity),
            ("server", &self.server_identity, &expected.server_identity),
        ] {
            check(
                &format!("the {end}'s identity should be {wanted:?}"),
                identity == wanted,
                format!("{identity:?}"),
            );
        }
        let status = if made.protocol == Protocol::Http {
            Value::from(200)
        } else {
            Value::from("ok")
        };
        check(
            &format!("the status should be {status}"),
            self.status == status,
            self.status.to_string(),
        );
        problems
    }
}

/// How a call between two pods of the demo has to go.
struct Expected {
    path: &'static str,
    client_identity: Option<String>,
    server_identity: Option<String>,
}

impl Expected {
    fn of(from: &str, to: &str) -> Self {
        if from == "outside" || to == "outside" {
            return Self {
                path: "outside",
                client_identity: None,
                server_identity: None,
            };
        }
        let node = |pod| {
            if matches!(pod, "client" | "web-v1") {
                1
            } else {
                2
            }
        };
        let identity = |pod| Some(format!("spiffe://cluster.local/ns/default/sa/{pod}"));
        Self {
            path: if node(from) == node(to) {
                "same-node"
            } else {
                "cross-node"
            },
            client_identity: identity(from),
            server_identity: identity(to),
        }
    }
}

/// What the agents of both ends recorded.
struct Evidence {
    outbound: Option<AccessRecord>,
    inbound: Option<AccessRecord>,
}

impl Evidence {
    fn find(made: &Made, mesh: &Mesh) -> Result<Self> {
        let node = |pod: &str| -> Result<u8> {
            let name = &mesh.pod(pod)?.node;
            let node = mesh
                .topology()
                .nodes()
                .iter()
                .find(|node| node.name == *name);
            Ok(node.map_or(0, |node| node.number()))
        };
        let (client_node, server_node) = (node(&made.from)?, node(&made.to)?);
        let from_client = |record: &AccessRecord| {
            record.source_address.map(|address| address.port()) == Some(made.client_port)
        };
        let outbound = |record: &AccessRecord| {
            record.direction == "outbound"
                && from_client(record)
                && record.original_destination == Some(made.address)
        };
        let to_server = |address: Option<SocketAddr>| {
            let server = mesh.pod(&made.to).map(|pod| pod.host.addresses());
            address.is_some_and(|address| server.is_ok_and(|server| server.contains(&address.ip())))
        };
        let inbound = |record: &AccessRecord| {
            record.direction == "inbound"
                && from_client(record)
                && to_server(record.destination_address)
        };
        let expect = |pod: &str| pod != "outside";
        Ok(Self {
            outbound: expect(&made.from)
                .then(|| mesh.wait_record(client_node, outbound))
                .transpose()?,
            inbound: expect(&made.to)
                .then(|| mesh.wait_record(server_node, inbound))
                .transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_expect_follows_from_where_the_pods_are() {
        assert_eq!(Expected::of("client", "web-v2").path, "cross-node");
        assert_eq!(Expected::of("web-v2", "echo").path, "same-node");
        let outside = Expected::of("outside", "web-v1");
        assert_eq!((outside.path, outside.server_identity), ("outside", None));
    }
}
