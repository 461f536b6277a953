//! The settings of what runs on a node.

use std::net::IpAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::inside::{CONTAINERD, DIRECTORY};
use super::kube_proxy::KubeProxy;

/// Address of the cluster's DNS.
pub(super) const DNS_SERVICE: &str = "10.96.0.10";
/// What holds a pod's namespaces.
pub(super) const PAUSE_IMAGE: &str = "weft.test/pause:1";

/// All pods.
const PODS: &str = "10.244.0.0/16";

/// containerd's settings.
pub(super) fn containerd(runc: &str) -> String {
    // The pods of a control plane want a lower score than a root without
    // CAP_SYS_RESOURCE may give; AppArmor is not for containers in containers.
    format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
address = "{CONTAINERD}"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
disable_apparmor = true
restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/opt/cni/bin"]
conf_dir = "/etc/cni/net.d"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"#
    )
}

/// The network of pods: a bridge on each node, routes between the nodes.
pub(super) fn cni(number: u8) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": format!("10.244.{number}.0/24")}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// kubelet's settings.
pub(super) fn kubelet() -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": format!("{DIRECTORY}/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": "/etc/resolv.conf",
        "failSwapOn": false,
        "oomScoreAdj": 0,
        // A crashed node is to be seen within seconds.
        "nodeLeaseDurationSeconds": 8,
        "nodeStatusUpdateFrequency": "4s",
        // How full this machine's disk is is no business of the pods.
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "0%", "imagefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.inodesFree": "0%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "enforceNodeAllocatable": [],
        "registerNode": true,
        "shutdownGracePeriod": "0s",
    })
}

/// kube-proxy's settings.
pub(super) fn kube_proxy(mode: KubeProxy, node: &str) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode.name(),
        "hostnameOverride": node,
        "clusterCIDR": PODS,
        "clientConnection": {"kubeconfig": format!("{DIRECTORY}/kube-proxy.kubeconfig")},
        // These are this machine's to set.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        // Rules follow changes at once.
        "iptables": {"minSyncPeriod": "0s"},
        "nftables": {"minSyncPeriod": "0s"},
    })
}

/// What kubelet is called with.
pub(super) fn kubelet_command(program: &str, node: &str, address: IpAddr) -> Vec<String> {
    vec![
        program.to_owned(),
        format!("--config={DIRECTORY}/kubelet.json"),
        format!("--kubeconfig={DIRECTORY}/kubelet.kubeconfig"),
        format!("--hostname-override={node}"),
        format!("--node-ip={address}"),
    ]
}

/// The PATH of a node's services: their own folder, then this machine's.
pub(super) fn search_path(programs: &Path) -> String {
    let inherited = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    format!("{}:{inherited}", programs.display())
}
