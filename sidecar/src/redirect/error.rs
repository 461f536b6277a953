//! Errors of the redirection, each with what to do about it.

use std::fmt;
use std::io;

/// A part of the kernel that the redirection is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Feature {
    /// Messages to netfilter.
    Netlink,
    /// nf_tables with tables for both families.
    NfTables,
    /// Chains that translate addresses, with connection tracking.
    NatChain,
    /// The expression `redir`.
    Redirect,
    /// The expression `fib`.
    RouteType,
    /// Chains that route packets again, or see each of them.
    PacketChain,
    /// The expression `tproxy`.
    Tproxy,
    /// The expression `ct`, and marks of connections.
    ConnectionMark,
    /// Routing tables that are chosen by a packet's mark.
    PolicyRouting,
    /// The expressions that every kernel with nf_tables has.
    BuiltIn,
}

impl Feature {
    /// Build option (Kconfig) and module.
    fn names(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Netlink => ("CONFIG_NETFILTER_NETLINK", Some("nfnetlink")),
            Self::NfTables => (
                "CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET",
                Some("nf_tables"),
            ),
            Self::NatChain => (
                "CONFIG_NFT_NAT and CONFIG_NF_CONNTRACK",
                Some("nft_chain_nat"),
            ),
            Self::Redirect => ("CONFIG_NFT_REDIR", Some("nft_redir")),
            Self::RouteType => ("CONFIG_NFT_FIB_INET", Some("nft_fib_inet")),
            Self::PacketChain => ("CONFIG_NF_TABLES_INET", Some("nf_tables")),
            Self::Tproxy => ("CONFIG_NFT_TPROXY", Some("nft_tproxy")),
            Self::ConnectionMark => ("CONFIG_NFT_CT and CONFIG_NF_CONNTRACK_MARK", Some("nft_ct")),
            Self::PolicyRouting => (
                "CONFIG_IP_MULTIPLE_TABLES and CONFIG_IPV6_MULTIPLE_TABLES",
                None,
            ),
            Self::BuiltIn => ("CONFIG_NF_TABLES", Some("nf_tables")),
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (option, module) = self.names();
        match module {
            Some(module) => write!(f, "{option} (`modprobe {module}` on the node)"),
            None => write!(f, "{option}"),
        }
    }
}

/// A reason that connections can't be redirected.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// The kernel was built without, or its module is not loaded and can't be from here.
    #[error(
        "the kernel can't redirect connections: it lacks {0}; load it, or use a node whose \
         kernel has it"
    )]
    Missing(Feature),
    /// It isn't allowed to.
    #[error(
        "not permitted to redirect connections; run `init` and `cleanup` as root with the \
         capability NET_ADMIN, in the pod's network namespace"
    )]
    Permission,
    /// The kernel doesn't take something that it has.
    #[error("the kernel refused a rule that needs {feature}: {error}")]
    Refused {
        /// What it needs.
        feature: Feature,
        /// The kernel's reason.
        error: io::Error,
    },
    /// The kernel doesn't answer.
    #[error("the kernel doesn't answer: {0}")]
    Io(#[from] io::Error),
}
