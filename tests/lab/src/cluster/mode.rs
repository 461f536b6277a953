//! How kube-proxy does its work.

use weft_tests::cluster::KubeProxy;
use xtask::options::KubeProxyMode;

/// The test bed's word for it.
pub(super) fn mode(mode: KubeProxyMode) -> KubeProxy {
    match mode {
        KubeProxyMode::Iptables => KubeProxy::Iptables,
        KubeProxyMode::Nftables => KubeProxy::Nftables,
    }
}
