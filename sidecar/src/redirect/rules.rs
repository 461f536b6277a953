//! The chains and rules of the table. Pure.
//!
//! Out of the pod, all TCP is the proxy's but for the proxy's own connections, by its user, and
//! what never leaves: loopback, and link-local addresses of IPv6. Into the pod, all TCP to an
//! address of the pod's own, but for the ports that the proxy listens on itself. Both in the
//! hooks of address translation, which see the first packet of each connection.

use std::net::IpAddr;

use weft_model::AddressBlock;
use weft_model::ports::{HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT};

use super::expression::{Base, Expression, MetaKey, Operator};

/// Choices of an operator.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RedirectOptions {
    /// The user whose connections are left alone: the proxy's.
    pub proxy_uid: u32,
    /// Ports of the pod that are reached past the proxy, those of its own pages among them.
    pub excluded_inbound_ports: Vec<u16>,
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

/// A chain of the table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) hook: Hook,
    pub(super) rules: Vec<Rule>,
}

/// What a rule does, one after the other, as long as all comparisons hold.
pub(super) type Rule = Vec<Expression>;

/// Byte offset of the destination address in a header of IPv4, and of IPv6.
const DESTINATION_V4: u32 = 16;
const DESTINATION_V6: u32 = 24;
/// Byte offset of the destination port in a header of TCP.
const DESTINATION_PORT: u32 = 2;
/// The type of a route to an address of one's own (`linux/rtnetlink.h`, RTN_LOCAL).
const LOCAL: u32 = 2;
/// Bytes of an interface's name (IFNAMSIZ).
const INTERFACE_NAME: usize = 16;

/// Destinations that are never captured, as in node mode.
const LOOPBACK_AND_LINK_LOCAL: [&str; 3] = ["127.0.0.0/8", "::1", "fe80::/10"];

/// The chains of the table.
pub(super) fn chains(options: &RedirectOptions) -> [Chain; 2] {
    [outbound(options), inbound(options)]
}

fn outbound(options: &RedirectOptions) -> Chain {
    let user = options.proxy_uid.to_ne_bytes().to_vec();
    let mut rules = vec![
        leave_what_is_no_tcp(),
        vec![
            Expression::Meta(MetaKey::SocketUser),
            Expression::Compare(Operator::Equal, user),
            Expression::Return,
        ],
    ];
    let fixed = LOOPBACK_AND_LINK_LOCAL
        .iter()
        .filter_map(|block| block.parse().ok());
    let excluded = options.excluded_outbound_blocks.iter().copied();
    rules.extend(fixed.chain(excluded).map(leave_block));
    rules.extend(
        options
            .excluded_outbound_ports
            .iter()
            .copied()
            .map(leave_port),
    );
    rules.push(redirect(OUTBOUND_PORT));
    Chain {
        name: "outbound",
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
    rules.extend(
        options
            .excluded_inbound_ports
            .iter()
            .copied()
            .map(leave_port),
    );
    rules.push(redirect(INBOUND_PLAINTEXT_PORT));
    Chain {
        name: "inbound",
        hook: Hook::Prerouting,
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

fn leave_port(port: u16) -> Rule {
    vec![
        Expression::Payload {
            base: Base::Transport,
            offset: DESTINATION_PORT,
            length: 2,
        },
        Expression::Compare(Operator::Equal, port.to_be_bytes().to_vec()),
        Expression::Return,
    ]
}

fn leave_block(block: AddressBlock) -> Rule {
    let (family, offset, network) = match block.network() {
        IpAddr::V4(v4) => (libc::NFPROTO_IPV4, DESTINATION_V4, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::NFPROTO_IPV6, DESTINATION_V6, v6.octets().to_vec()),
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

fn redirect(port: u16) -> Rule {
    vec![Expression::Port(port), Expression::Redirect]
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
            proxy_uid: 1337,
            excluded_inbound_ports: vec![9100],
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
        for chain in chains(&options()) {
            let (last, others) = chain.rules.split_last().unwrap();
            assert_eq!(last.last(), Some(&Expression::Redirect), "{}", chain.name);
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
    fn exclusions_are_rules_of_their_own_direction() {
        let [outbound, inbound] = chains(&options());
        assert!(outbound.rules.contains(&leave_port(5432)));
        assert!(!outbound.rules.contains(&leave_port(9100)));
        assert!(
            outbound
                .rules
                .contains(&leave_block("10.96.0.0/12".parse().unwrap()))
        );
        assert!(inbound.rules.contains(&leave_port(9100)));
        assert!(!inbound.rules.contains(&leave_port(5432)));
        assert!(inbound.rules.contains(&leave_port(HBONE_PORT)));
    }

    #[test]
    fn loopback_and_link_local_addresses_are_left_alone_in_both_families() {
        let [outbound, _] = chains(&RedirectOptions::default());
        for block in LOOPBACK_AND_LINK_LOCAL {
            let rule = leave_block(block.parse().unwrap());
            assert!(outbound.rules.contains(&rule), "{block}");
        }
    }
}
