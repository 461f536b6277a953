//! What a program finds out about a connection, and what follows from it.

/// Which program came to a finding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Program {
    /// `cgroup/connect4` and `cgroup/connect6`.
    Connect,
    /// `sockops`.
    SockOps,
    /// `sk_lookup`.
    Lookup,
    /// `cgroup_skb/ingress`.
    Ingress,
}

impl Program {
    /// The name that metrics use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::SockOps => "sockops",
            Self::Lookup => "sk_lookup",
            Self::Ingress => "ingress",
        }
    }
}

/// What a program found out about one connection.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Finding {
    /// Connect: to a loopback or unspecified address.
    Loopback = 0,
    /// Connect: to an IPv6 link-local address, which means nothing without its link.
    LinkLocal,
    /// Connect: from the node's own namespace.
    HostNamespace,
    /// Connect: from the node's own namespace to a captured pod, by a process that
    /// is no pod's. Recorded, so that the proxy can tell it from the network.
    NodeProcess,
    /// Connect: from a pod that is not in the mesh.
    OutsideNamespace,
    /// Connect: from a namespace that nobody has told us about.
    UnknownNamespace,
    /// Connect: by the proxy itself.
    OwnSocket,
    /// Connect: to a port that the pod wants left alone.
    ExcludedPort,
    /// Connect: to an address that the pod wants left alone.
    ExcludedBlock,
    /// Connect: by the application of a captured pod.
    Outbound,
    /// Connect: the kernel has no memory to keep the original destination.
    NoStorage,
    /// Connect: the socket is bound to a device and can't be bound to loopback.
    BoundToDevice,
    /// Sockops: an original destination reached the proxy's socket.
    DestinationKept,
    /// Sockops: an original destination was lost; the proxy refuses the connection.
    DestinationLost,
    /// Sockops: an application's socket knows its client.
    ClientKept,
    /// Sockops: an application will see the proxy's address instead of its client's.
    ClientLost,
    /// Sockops: the proxy's socket knows that a process of the node is its client.
    NodeKept,
    /// Sockops: a process of the node will be taken for the network.
    NodeLost,
    /// Lookup: over the loopback interface, or between loopback addresses.
    WithinPod,
    /// Lookup: from the pod's own address.
    SameAddress,
    /// Lookup: the proxy's connection to the application.
    OwnConnection,
    /// Lookup: from the network, with the proxy listening.
    Inbound,
    /// Lookup: by a process of the node while the proxy isn't listening, to a port that is open
    /// to it.
    NodeWithoutListener,
    /// Lookup: from the network while the proxy isn't listening.
    ListenerMissing,
    /// Lookup: to an address of the namespace that isn't known as the pod's.
    UnknownAddress,
    /// Connect: by the application of a pod that is to be captured and isn't.
    NotCaptured,
    /// Lookup: from the network, to a port of a captured pod where no application listens.
    NobodyListens,
    /// Sockops: what arrives at a listener can't be refused while nobody has told of its pod.
    ListenerUnmarked,
    /// Ingress: by a process of the node, to a pod that nobody has told us about.
    NodeToUnknown,
    /// Ingress: from the network, to a pod that nobody has told us about.
    UnknownListener,
}

/// What happens to the connection.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a verdict that isn't acted on lets the connection through"]
pub enum Verdict {
    /// Goes on as if the mesh weren't there.
    Pass = 0,
    /// Goes to the proxy.
    Capture,
    /// Is refused.
    Refuse,
}

/// What the operator chose for the cases that leave a choice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    /// Refuse the connections of pods that nobody has told us about.
    pub unknown_pods_refused: bool,
    /// The pod accepts mutual TLS only.
    pub strict: bool,
}

/// What follows from a finding. Every choice between failing open and failing closed
/// is made here and nowhere else.
#[inline(always)]
pub const fn decide(finding: Finding, policy: Policy) -> Verdict {
    match finding {
        // The mesh has no part in these.
        Finding::Loopback
        | Finding::LinkLocal
        | Finding::HostNamespace
        | Finding::NodeProcess
        | Finding::OutsideNamespace
        | Finding::WithinPod
        | Finding::SameAddress => Verdict::Pass,
        // The proxy would otherwise capture itself.
        Finding::OwnSocket | Finding::OwnConnection => Verdict::Pass,
        // The pod asked for it.
        Finding::ExcludedPort | Finding::ExcludedBlock => Verdict::Pass,
        Finding::Outbound | Finding::Inbound => Verdict::Capture,
        // Passing would put a captured pod's bytes on the wire in the clear.
        Finding::NoStorage | Finding::BoundToDevice => Verdict::Refuse,
        // It is strict, or may reach registered destinations only, and nobody asks yet.
        Finding::NotCaptured => Verdict::Refuse,
        // As the kernel would without the proxy, whose listener takes every port.
        Finding::NobodyListens => Verdict::Refuse,
        Finding::UnknownNamespace | Finding::UnknownListener => match policy.unknown_pods_refused {
            true => Verdict::Refuse,
            false => Verdict::Pass,
        },
        // Without a proxy nobody can tell who calls: a strict pod takes no risk, a
        // permissive one would have taken plaintext anyway.
        Finding::ListenerMissing | Finding::UnknownAddress => match policy.strict {
            true => Verdict::Refuse,
            false => Verdict::Pass,
        },
        // The kernel saw kubelet connect, to a port for which the pod declares a probe: without
        // that it would restart every pod of a node whose agent restarts. Nobody compares paths
        // meanwhile.
        Finding::NodeWithoutListener => Verdict::Pass,
        // Kubelet would otherwise restart every pod that starts while no agent runs.
        Finding::NodeToUnknown => Verdict::Pass,
        // Sockops can't refuse: the proxy does, when it finds no destination.
        Finding::ListenerUnmarked
        | Finding::DestinationKept
        | Finding::DestinationLost
        | Finding::ClientKept
        | Finding::ClientLost
        | Finding::NodeKept
        | Finding::NodeLost => Verdict::Pass,
    }
}

impl Verdict {
    /// How many there are.
    pub const COUNT: u32 = 3;
    /// All of them.
    pub const ALL: [Self; Self::COUNT as usize] = [Self::Pass, Self::Capture, Self::Refuse];

    /// The name that metrics use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Capture => "capture",
            Self::Refuse => "refuse",
        }
    }
}

impl Finding {
    /// How many there are.
    pub const COUNT: u32 = 30;
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT as usize] = [
        Self::Loopback,
        Self::LinkLocal,
        Self::HostNamespace,
        Self::NodeProcess,
        Self::OutsideNamespace,
        Self::UnknownNamespace,
        Self::OwnSocket,
        Self::ExcludedPort,
        Self::ExcludedBlock,
        Self::Outbound,
        Self::NoStorage,
        Self::BoundToDevice,
        Self::DestinationKept,
        Self::DestinationLost,
        Self::ClientKept,
        Self::ClientLost,
        Self::NodeKept,
        Self::NodeLost,
        Self::WithinPod,
        Self::SameAddress,
        Self::OwnConnection,
        Self::Inbound,
        Self::NodeWithoutListener,
        Self::ListenerMissing,
        Self::UnknownAddress,
        Self::NotCaptured,
        Self::NobodyListens,
        Self::ListenerUnmarked,
        Self::NodeToUnknown,
        Self::UnknownListener,
    ];

    /// Which program comes to it.
    pub const fn program(self) -> Program {
        match self {
            Self::Loopback
            | Self::LinkLocal
            | Self::HostNamespace
            | Self::NodeProcess
            | Self::OutsideNamespace
            | Self::UnknownNamespace
            | Self::OwnSocket
            | Self::ExcludedPort
            | Self::ExcludedBlock
            | Self::Outbound
            | Self::NoStorage
            | Self::BoundToDevice
            | Self::NotCaptured => Program::Connect,
            Self::DestinationKept
            | Self::DestinationLost
            | Self::ClientKept
            | Self::ClientLost
            | Self::NodeKept
            | Self::NodeLost
            | Self::ListenerUnmarked => Program::SockOps,
            Self::WithinPod
            | Self::SameAddress
            | Self::OwnConnection
            | Self::Inbound
            | Self::NodeWithoutListener
            | Self::ListenerMissing
            | Self::UnknownAddress
            | Self::NobodyListens => Program::Lookup,
            Self::NodeToUnknown | Self::UnknownListener => Program::Ingress,
        }
    }

    /// The name that metrics use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::LinkLocal => "link_local",
            Self::HostNamespace => "host_namespace",
            Self::NodeProcess => "node_process",
            Self::OutsideNamespace => "outside_namespace",
            Self::UnknownNamespace => "unknown_namespace",
            Self::OwnSocket => "own_socket",
            Self::ExcludedPort => "excluded_port",
            Self::ExcludedBlock => "excluded_block",
            Self::Outbound => "outbound",
            Self::NoStorage => "no_storage",
            Self::BoundToDevice => "bound_to_device",
            Self::DestinationKept => "destination_kept",
            Self::DestinationLost => "destination_lost",
            Self::ClientKept => "client_kept",
            Self::ClientLost => "client_lost",
            Self::NodeKept => "node_kept",
            Self::NodeLost => "node_lost",
            Self::WithinPod => "within_pod",
            Self::SameAddress => "same_address",
            Self::OwnConnection => "own_connection",
            Self::Inbound => "inbound",
            Self::NodeWithoutListener => "node_without_listener",
            Self::ListenerMissing => "listener_missing",
            Self::UnknownAddress => "unknown_address",
            Self::NotCaptured => "not_captured",
            Self::NobodyListens => "nobody_listens",
            Self::ListenerUnmarked => "listener_unmarked",
            Self::NodeToUnknown => "node_to_unknown",
            Self::UnknownListener => "unknown_listener",
        }
    }
}

/// How many counters there are.
pub const COUNTERS: u32 = Finding::COUNT * Verdict::COUNT;

/// Index of the counter for a finding that led to a verdict.
#[inline(always)]
pub const fn counter(finding: Finding, verdict: Verdict) -> u32 {
    finding as u32 * Verdict::COUNT + verdict as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Policy = Policy {
        unknown_pods_refused: false,
        strict: false,
    };
    const CLOSED: Policy = Policy {
        unknown_pods_refused: true,
        strict: true,
    };

    #[test]
    fn findings_are_listed_in_the_order_of_their_numbers() {
        for (number, finding) in Finding::ALL.into_iter().enumerate() {
            assert_eq!(finding as usize, number, "{}", finding.name());
        }
        assert!(counter(Finding::UnknownListener, Verdict::Refuse) < COUNTERS);
    }

    #[test]
    fn a_strict_pod_without_its_proxy_refuses_the_network_but_not_the_node() {
        assert_eq!(decide(Finding::ListenerMissing, CLOSED), Verdict::Refuse);
        assert_eq!(decide(Finding::UnknownAddress, CLOSED), Verdict::Refuse);
        assert_eq!(decide(Finding::NodeWithoutListener, CLOSED), Verdict::Pass);
        assert_eq!(decide(Finding::ListenerMissing, OPEN), Verdict::Pass);
    }

    #[test]
    fn unknown_pods_follow_the_operators_choice() {
        for finding in [Finding::UnknownNamespace, Finding::UnknownListener] {
            assert_eq!(decide(finding, CLOSED), Verdict::Refuse);
            assert_eq!(decide(finding, OPEN), Verdict::Pass);
        }
        // Kubelet's probes.
        assert_eq!(decide(Finding::NodeToUnknown, CLOSED), Verdict::Pass);
    }

    #[test]
    fn a_pods_connection_never_passes_for_lack_of_resources_or_of_its_capture() {
        for policy in [OPEN, CLOSED] {
            for finding in [
                Finding::NoStorage,
                Finding::BoundToDevice,
                Finding::NotCaptured,
            ] {
                assert_eq!(
                    decide(finding, policy),
                    Verdict::Refuse,
                    "{}",
                    finding.name()
                );
            }
        }
    }
}
