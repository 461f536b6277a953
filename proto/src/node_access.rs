//! Access of a pod's own node to it, on the wire.

use std::sync::Arc;

use weft_model::node_access::{MOST_PROBES, NodeAccess, Probe, ProbeKind};

use crate::address::parse_port;
use crate::v1;

/// The access that a message means. Probes that this version can't read are left out: they
/// open nothing.
pub(crate) fn node_access(message: Option<v1::NodeAccess>) -> NodeAccess {
    // A control plane that knows no probes: its agents' pods would lose theirs.
    let Some(message) = message else {
        return NodeAccess::All;
    };
    if message.all {
        return NodeAccess::All;
    }
    let probes = message.probes.into_iter().filter_map(probe);
    NodeAccess::Probes(probes.take(MOST_PROBES).collect())
}

fn probe(message: v1::Probe) -> Option<Probe> {
    let kind = match message.kind() {
        v1::ProbeKind::Unspecified => return None,
        v1::ProbeKind::Tcp => ProbeKind::Tcp,
        v1::ProbeKind::Http => ProbeKind::Http(Arc::from(message.target)),
        v1::ProbeKind::Https => ProbeKind::Https,
        v1::ProbeKind::Grpc => ProbeKind::Grpc,
    };
    let port = parse_port(message.port)?;
    Some(Probe { port, kind })
}

/// The message of an access.
pub(crate) fn message(access: &NodeAccess) -> v1::NodeAccess {
    match access {
        NodeAccess::All => v1::NodeAccess {
            all: true,
            probes: Vec::new(),
        },
        NodeAccess::Probes(probes) => v1::NodeAccess {
            all: false,
            probes: probes.iter().map(probe_message).collect(),
        },
    }
}

fn probe_message(probe: &Probe) -> v1::Probe {
    let (kind, target) = match &probe.kind {
        ProbeKind::Tcp => (v1::ProbeKind::Tcp, ""),
        ProbeKind::Http(target) => (v1::ProbeKind::Http, &**target),
        ProbeKind::Https => (v1::ProbeKind::Https, ""),
        ProbeKind::Grpc => (v1::ProbeKind::Grpc, ""),
    };
    v1::Probe {
        port: probe.port.into(),
        kind: kind.into(),
        target: target.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(port: u32) -> v1::Probe {
        v1::Probe {
            port,
            kind: v1::ProbeKind::Tcp.into(),
            target: String::new(),
        }
    }

    fn probes(probes: Vec<v1::Probe>) -> NodeAccess {
        node_access(Some(v1::NodeAccess { all: false, probes }))
    }

    #[test]
    fn a_control_plane_that_knows_no_probes_closes_no_port() {
        assert_eq!(node_access(None), NodeAccess::All);
        let none = node_access(Some(v1::NodeAccess::default()));
        assert_eq!(none, NodeAccess::default());
    }

    #[test]
    fn what_can_not_be_read_opens_nothing() {
        let unknown = v1::Probe {
            kind: 99,
            ..tcp(80)
        };
        let access = probes(vec![unknown, tcp(0), tcp(70_000), tcp(81)]);
        assert_eq!(access.ports(), [81]);
    }

    #[test]
    fn there_are_never_more_than_a_pod_may_have() {
        let access = probes((1..1000).map(tcp).collect());
        assert_eq!(access.ports().len(), MOST_PROBES);
    }
}
