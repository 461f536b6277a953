//! The chains and rules of the table. Pure.
//!
//! Out of the pod, all TCP is the proxy's but for the proxy's own connections, by its user, and
//! what never leaves: loopback, and link-local addresses of IPv6. Into the pod, all TCP to an
//! address of the pod's own, but for the ports that the proxy listens on itself. Both in the
//! hooks of address translation, which see the first packet of each connection.
//!
//! Whoever else in the pod listens on one of the proxy's ports, while it is away or in a family that
//! it doesn't listen in, gets no connection: the answer that would open it is dropped.
//!
//! By TPROXY nothing of what arrives is rewritten (`Documentation/networking/tproxy.rst`): packets
//! are given to the proxy's socket as they are, and a connection that begins without one is dropped,
//! as it would be the application's. The proxy connects to the application by the
//! client's address, so that the application's answers have to be led back: they get a mark, by
//! which [`super::routing`] takes them for the pod's own.

use std::net::IpAddr;

use weft_model::AddressBlock;
use weft_model::ports::{HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT};

use super::expression::{Base, ConnectionKey, Expression, MetaKey, Operator};

/// The mark of packets that are led back to the proxy, and of their connections. In the pod's own
/// namespace nobody else has it.
pub(super) const MARK: u32 = 1337;

/// The way in which connections that arrive are captured.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Capture {
    /// Destinations are rewritten, and the application sees the pod itself as its client.
    #[default]
    Redirect,
    /// Packets are given to the proxy as they are, and the application sees its client's address.
    Tproxy,
}

/// Choices of an operator.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RedirectOptions {
    /// The way in which connections that arrive are captured.
    pub capture: Capture,
    /// The user whose connections are left alone: the proxy's.
    pub proxy_uid: u32,
    /// Ports of the proxy's own pages, which are reached directly.
    pub page_ports: Vec<u16>,
    /// Ports of the pod that are reached past the proxy.
    pub excluded_inbound_ports: Vec<u16>,
    /// Addresses of clients that reach the pod past the proxy.
    pub excluded_inbound_blocks: Vec<AddressBlock>,
    /// Ports of destinations that are connected to past the proxy.
    pub excluded_outbound_ports: Vec<u16>,
    /// Addresses of destinations that are connected to past the proxy.
    pub excluded_outbound_blocks: Vec<AddressBlock>,
}

/// A hook of netfilter (`linux/netfilter.h`, `enum nf_inet_hooks`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hook {
    Prerouting = 0,
    Output = 3,
}

/// The kind of a chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ChainKind {
    /// Sees the first packet of a connection, and may translate its addresses.
    Translation,
    /// Sees every packet.
    Filter,
    /// Sees every packet, which is routed again where its mark has changed.
    Route,
}

impl ChainKind {
    /// The kernel's name for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Translation => "nat",
            Self::Filter => "filter",
            Self::Route => "route",
        }
    }

    /// Its place in the hook: that of translating destinations (NF_IP_PRI_NAT_DST), or of changing
    /// packets, which is before it and after connection tracking (NF_IP_PRI_MANGLE).
    pub(super) fn priority(self) -> i32 {
        match self {
            Self::Translation => -100,
            Self::Filter | Self::Route => -150,
        }
    }
}

/// A chain of the table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) kind: ChainKind,
    pub(super) hook: Hook,
    pub(super) rules: Vec<Rule>,
}

/// What a rule does, one after the other, as long as all comparisons hold.
pub(super) type Rule = Vec<Expression>;

/// Byte offsets of the addresses in a header of IPv4, and of IPv6.
const SOURCE_V4: u32 = 12;
const SOURCE_V6: u32 = 8;
const DESTINATION_V4: u32 = 16;
const DESTINATION_V6: u32 = 24;
/// Byte offsets of the ports and of the flags in a header of TCP.
const SOURCE_PORT: u32 = 0;
const DESTINATION_PORT: u32 = 2;
const FLAGS: u32 = 13;
/// The flags by which a connection begins: that of its first packet, and both of the answer to it.
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
/// The type of a route to an address of one's own (`linux/rtnetlink.h`, RTN_LOCAL).
const LOCAL: u32 = 2;
/// The direction of packets that answer a connection's first (`linux/netfilter/
/// nf_conntrack_tuple_common.h`, IP_CT_DIR_REPLY).
const REPLY: u8 = 1;
/// Bytes of an interface's name (IFNAMSIZ).
const INTERFACE_NAME: usize = 16;

/// Destinations that are never captured, as in node mode.
const LOOPBACK_AND_LINK_LOCAL: [&str; 3] = ["127.0.0.0/8", "::1", "fe80::/10"];

/// The chains of the table.
pub(super) fn chains(options: &RedirectOptions) -> Vec<Chain> {
    let mut chains = vec![outbound(options), inbound(options), listeners(options)];
    if options.capture == Capture::Tproxy {
        chains.push(answers(options));
    }
    chains
}

fn outbound(options: &RedirectOptions) -> Chain {
    let mut rules = vec![leave_what_is_no_tcp(), leave_proxy(options)];
    let fixed = LOOPBACK_AND_LINK_LOCAL
        .iter()
        .filter_map(|block| block.parse().ok());
    let excluded = options.excluded_outbound_blocks.iter().copied();
    rules.extend(fixed.chain(excluded).map(leave_destinations));
    rules.extend(
        options
            .excluded_outbound_ports
            .iter()
            .copied()
            .map(leave_port),
    );
    rules.push(vec![Expression::Port(OUTBOUND_PORT), Expression::Redirect]);
    Chain {
        name: "outbound",
        kind: ChainKind::Translation,
        hook: Hook::Output,
        rules,
    }
}

fn inbound(options: &RedirectOptions) -> Chain {
    let mut loopback = b"lo".to_vec();
    loopback.resize(INTERFACE_NAME, 0);
    let mut rules = vec![
        leave_what_is_no_tcp(),
        vec![
            Expression::Meta(MetaKey::InputInterface),
            Expression::Compare(Operator::Equal, loopback),
            Expression::Return,
        ],
        // What the pod forwards for others, such as containers inside it.
        vec![
            Expression::DestinationType,
            Expression::Compare(Operator::NotEqual, LOCAL.to_ne_bytes().to_vec()),
            Expression::Return,
        ],
        leave_port(HBONE_PORT),
    ];
    let direct = [&options.page_ports, &options.excluded_inbound_ports];
    rules.extend(direct.into_iter().flatten().copied().map(leave_port));
    let clients = options.excluded_inbound_blocks.iter().copied();
    rules.extend(clients.map(leave_sources));
    let (kind, last) = match options.capture {
        Capture::Redirect => (ChainKind::Translation, vec![Expression::Redirect]),
        // What a socket was found for would go on to the next rule.
        Capture::Tproxy => (
            ChainKind::Filter,
            vec![Expression::Tproxy, Expression::Return],
        ),
    };
    let port = Expression::Port(INBOUND_PLAINTEXT_PORT);
    rules.push([vec![port], last].concat());
    if options.capture == Capture::Tproxy {
        // No proxy has taken it. What is no beginning may belong to a connection of the pod's own.
        let mut begins = flags(Operator::Equal, SYN);
        begins.push(Expression::Drop);
        rules.push(begins);
    }
    Chain {
        name: "inbound",
        kind,
        hook: Hook::Prerouting,
        rules,
    }
}

/// Listeners on the proxy's ports that aren't the proxy's. Of packets that leave, only those that
/// answer the first of a connection are looked at further.
///
/// Of a SYN cookie, by which the kernel answers once a listener's queue is full, it doesn't say whose it
/// is. Where others may fill that queue cookies pass: dropped, they would keep everybody from the
/// proxy for as long as somebody sends it SYNs. The outbound port is reached by the pod itself alone.
fn listeners(options: &RedirectOptions) -> Chain {
    let mut goes_on = flags(Operator::NotEqual, SYN_ACK);
    goes_on.push(Expression::Return);
    let mut rules = vec![leave_what_is_no_tcp(), goes_on, leave_proxy(options)];
    let from = |port: u16| {
        let port = port.to_be_bytes().to_vec();
        vec![
            port_at(SOURCE_PORT),
            Expression::Compare(Operator::Equal, port),
        ]
    };
    let mut outbound = from(OUTBOUND_PORT);
    outbound.push(Expression::Drop);
    rules.push(outbound);
    let others = [INBOUND_PLAINTEXT_PORT, HBONE_PORT];
    rules.extend(others.iter().chain(&options.page_ports).map(|port| {
        let mut of_others = from(*port);
        // It compares nothing where there is no user.
        of_others.extend([
            Expression::Meta(MetaKey::SocketUser),
            Expression::Compare(Operator::NotEqual, options.proxy_uid.to_ne_bytes().to_vec()),
            Expression::Drop,
        ]);
        of_others
    }));
    Chain {
        name: "listeners",
        kind: ChainKind::Filter,
        hook: Hook::Output,
        rules,
    }
}

/// The application's answers to connections that the proxy has made by an address that isn't the
/// pod's own.
fn answers(options: &RedirectOptions) -> Chain {
    let mark = MARK.to_ne_bytes().to_vec();
    let rules = vec![
        leave_what_is_no_tcp(),
        vec![
            Expression::Meta(MetaKey::SocketUser),
            Expression::Compare(Operator::Equal, options.proxy_uid.to_ne_bytes().to_vec()),
            Expression::SourceType,
            Expression::Compare(Operator::NotEqual, LOCAL.to_ne_bytes().to_vec()),
            Expression::Mark(MARK),
            Expression::MarkConnection,
        ],
        vec![
            Expression::Connection(ConnectionKey::Direction),
            Expression::Compare(Operator::Equal, vec![REPLY]),
            Expression::Connection(ConnectionKey::Mark),
            Expression::Compare(Operator::Equal, mark),
            Expression::Mark(MARK),
            Expression::MarkPacket,
        ],
    ];
    Chain {
        name: "answers",
        kind: ChainKind::Route,
        hook: Hook::Output,
        rules,
    }
}

fn leave_what_is_no_tcp() -> Rule {
    vec![
        Expression::Meta(MetaKey::TransportProtocol),
        Expression::Compare(Operator::NotEqual, vec![libc::IPPROTO_TCP as u8]),
        Expression::Return,
    ]
}

fn leave_proxy(options: &RedirectOptions) -> Rule {
    vec![
        Expression::Meta(MetaKey::SocketUser),
        Expression::Compare(Operator::Equal, options.proxy_uid.to_ne_bytes().to_vec()),
        Expression::Return,
    ]
}

fn port_at(offset: u32) -> Expression {
    Expression::Payload {
        base: Base::Transport,
        offset,
        length: 2,
    }
}

/// Of the two flags with which connections begin, it has these, or others.
fn flags(operator: Operator, flags: u8) -> Rule {
    vec![
        Expression::Payload {
            base: Base::Transport,
            offset: FLAGS,
            length: 1,
        },
        Expression::Mask(vec![SYN_ACK]),
        Expression::Compare(operator, vec![flags]),
    ]
}

fn leave_port(port: u16) -> Rule {
    vec![
        port_at(DESTINATION_PORT),
        Expression::Compare(Operator::Equal, port.to_be_bytes().to_vec()),
        Expression::Return,
    ]
}

fn leave_destinations(block: AddressBlock) -> Rule {
    leave_block(block, DESTINATION_V4, DESTINATION_V6)
}

fn leave_sources(block: AddressBlock) -> Rule {
    leave_block(block, SOURCE_V4, SOURCE_V6)
}

/// What has an address of the block at that offset of its header.
fn leave_block(block: AddressBlock, offset_v4: u32, offset_v6: u32) -> Rule {
    let (family, offset, network) = match block.network() {
        IpAddr::V4(v4) => (libc::NFPROTO_IPV4, offset_v4, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::NFPROTO_IPV6, offset_v6, v6.octets().to_vec()),
    };
    let length = u32::try_from(network.len()).unwrap_or_default();
    vec![
        Expression::Meta(MetaKey::NetworkProtocol),
        Expression::Compare(Operator::Equal, vec![family as u8]),
        Expression::Payload {
            base: Base::Network,
            offset,
            length,
        },
        Expression::Mask(mask(network.len(), block.prefix_length())),
        Expression::Compare(Operator::Equal, network),
        Expression::Return,
    ]
}

/// The mask of a prefix, in that many bytes.
fn mask(bytes: usize, prefix_length: u8) -> Vec<u8> {
    let set = |byte: usize| {
        let bits = usize::from(prefix_length).saturating_sub(8 * byte).min(8);
        // Eight bits and more are all of them.
        !(0xff_u16 >> bits) as u8
    };
    (0..bytes).map(set).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> RedirectOptions {
        RedirectOptions {
            capture: Capture::Redirect,
            proxy_uid: 1337,
            page_ports: vec![15020, 15021],
            excluded_inbound_ports: vec![9100],
            excluded_inbound_blocks: vec!["192.0.2.0/24".parse().unwrap()],
            excluded_outbound_ports: vec![5432],
            excluded_outbound_blocks: vec!["10.96.0.0/12".parse().unwrap()],
        }
    }

    #[test]
    fn a_prefix_has_its_mask() {
        assert_eq!(mask(4, 12), [0xff, 0xf0, 0, 0]);
        assert_eq!(mask(4, 0), [0; 4]);
        assert_eq!(mask(4, 32), [0xff; 4]);
        assert_eq!(mask(16, 10)[..3], [0xff, 0xc0, 0]);
    }

    #[test]
    fn every_exception_comes_before_the_redirection_and_nothing_after_it() {
        let by_tproxy = RedirectOptions {
            capture: Capture::Tproxy,
            ..options()
        };
        let all = chains(&options()).into_iter().chain(chains(&by_tproxy));
        for mut chain in all.filter(|chain| ["outbound", "inbound"].contains(&chain.name)) {
            if chain.kind == ChainKind::Filter {
                let last = chain.rules.pop().unwrap();
                assert_eq!(last.last(), Some(&Expression::Drop), "nobody else's");
            }
            let (last, others) = chain.rules.split_last().unwrap();
            let expected = match chain.kind {
                ChainKind::Filter => vec![Expression::Tproxy, Expression::Return],
                _ => vec![Expression::Redirect],
            };
            assert_eq!(last[1..], expected, "{}", chain.name);
            for rule in others {
                assert_eq!(rule.last(), Some(&Expression::Return), "{rule:?}");
                let compares = |one: &Expression| matches!(one, Expression::Compare(..));
                assert!(
                    rule.iter().any(compares),
                    "{rule:?} would leave everything alone"
                );
            }
        }
    }

    #[test]
    fn by_tproxy_the_same_is_left_alone_and_answers_alone_are_led_back() {
        let by = |capture| {
            chains(&RedirectOptions {
                capture,
                ..options()
            })
        };
        let (redirected, given) = (by(Capture::Redirect), by(Capture::Tproxy));
        assert_eq!((redirected.len(), given.len()), (3, 4));
        assert_eq!(redirected[0], given[0], "outbound nothing changes");
        let exceptions = |chain: &Chain, others| chain.rules[..chain.rules.len() - others].to_vec();
        assert_eq!(exceptions(&redirected[1], 1), exceptions(&given[1], 2));
        assert_eq!(redirected[2], given[2]);
        let marks = |rule: &&Rule| rule.last() == Some(&Expression::MarkPacket);
        let answers = &given[3];
        assert_eq!(
            (answers.kind, answers.hook),
            (ChainKind::Route, Hook::Output)
        );
        let marking: Vec<_> = answers.rules.iter().filter(marks).collect();
        assert_eq!(marking.len(), 1);
        let direction = Expression::Connection(ConnectionKey::Direction);
        assert_eq!(marking[0].first(), Some(&direction));
    }

    #[test]
    fn exclusions_are_rules_of_their_own_direction() {
        let [outbound, inbound, listeners] = <[Chain; 3]>::try_from(chains(&options())).unwrap();
        assert!(outbound.rules.contains(&leave_port(5432)));
        assert!(!outbound.rules.contains(&leave_port(9100)));
        let destinations = leave_destinations("10.96.0.0/12".parse().unwrap());
        assert!(outbound.rules.contains(&destinations));
        let clients = leave_sources("192.0.2.0/24".parse().unwrap());
        assert!(inbound.rules.contains(&clients));
        assert!(!outbound.rules.contains(&clients));
        assert!(inbound.rules.contains(&leave_port(9100)));
        assert!(!inbound.rules.contains(&leave_port(5432)));
        assert!(inbound.rules.contains(&leave_port(HBONE_PORT)));
        // What is the application's may be listened on by the application.
        let guards = |port: u16| {
            let port = Expression::Compare(Operator::Equal, port.to_be_bytes().to_vec());
            listeners.rules.iter().any(|rule| rule.contains(&port))
        };
        assert!([15001, 15006, 15008, 15020, 15021].into_iter().all(guards));
        assert!(!guards(9100));
    }

    #[test]
    fn a_syn_cookie_which_is_nobodys_is_dropped_where_the_pod_alone_can_ask_for_it() {
        let chain = listeners(&options());
        let drops = chain.rules.iter();
        let drops = drops.filter(|rule| rule.last() == Some(&Expression::Drop));
        let asks_for_user = |rule: &&Rule| rule.contains(&Expression::Meta(MetaKey::SocketUser));
        let (known, any): (Vec<_>, Vec<_>) = drops.partition(asks_for_user);
        assert_eq!((known.len(), any.len()), (4, 1));
        let outbound = OUTBOUND_PORT.to_be_bytes().to_vec();
        assert!(any[0].contains(&Expression::Compare(Operator::Equal, outbound)));
    }

    #[test]
    fn loopback_and_link_local_addresses_are_left_alone_in_both_families() {
        let outbound = chains(&RedirectOptions::default()).swap_remove(0);
        for block in LOOPBACK_AND_LINK_LOCAL {
            let rule = leave_destinations(block.parse().unwrap());
            assert!(outbound.rules.contains(&rule), "{block}");
        }
    }
}
