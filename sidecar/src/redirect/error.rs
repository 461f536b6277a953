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
    /// The expressions that every kernel with nf_tables has.
    BuiltIn,
}

impl Feature {
    /// Build option (Kconfig) and module.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Netlink => ("CONFIG_NETFILTER_NETLINK", "nfnetlink"),
            Self::NfTables => ("CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET", "nf_tables"),
            Self::NatChain => ("CONFIG_NFT_NAT and CONFIG_NF_CONNTRACK", "nft_chain_nat"),
            Self::Redirect => ("CONFIG_NFT_REDIR", "nft_redir"),
            Self::RouteType => ("CONFIG_NFT_FIB_INET", "nft_fib_inet"),
            Self::BuiltIn => ("CONFIG_NF_TABLES", "nf_tables"),
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (option, module) = self.names();
        write!(f, "{option} (`modprobe {module}` on the node)")
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
    #[error("netfilter doesn't answer: {0}")]
    Io(#[from] io::Error),
}
