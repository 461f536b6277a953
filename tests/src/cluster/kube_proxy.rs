//! Modes of kube-proxy.

/// How kube-proxy does its work.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum KubeProxy {
    /// With iptables.
    #[default]
    Iptables,
    /// With nftables.
    Nftables,
}

impl KubeProxy {
    /// As kube-proxy calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        }
    }
}
