//! Processes of the node, and the ports of strict pods that are open to them.

const _: () = assert!(size_of::<NodeProcess>() == 8);
const _: () = assert!(size_of::<NodePort>() == 12);

/// A process of the node that connected to a captured pod.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NodeProcess {
    /// Its thread group, as the first PID namespace numbers it.
    pub process: [u8; 4],
    /// 1 when it is kubelet, or nobody knows which process that is.
    pub is_kubelet: u8,
    /// Always zero.
    pub reserved: [u8; 3],
}

impl NodeProcess {
    /// A process by its number.
    #[inline(always)]
    pub const fn new(process: u32, is_kubelet: bool) -> Self {
        Self {
            process: process.to_ne_bytes(),
            is_kubelet: is_kubelet as u8,
            reserved: [0; 3],
        }
    }
}

/// The cgroup in which kubelet runs, by its id: the key of the map of kubelets.
pub type KubeletCgroup = [u8; 8];
/// Stands for every cgroup: nobody knows which process is kubelet.
pub const ANY_CGROUP: KubeletCgroup = [0; 8];
/// Stands for every process of the cgroup.
pub const ANY_PROCESS: [u8; 4] = [0; 4];

/// A port of a pod that is open to processes of its node.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct NodePort {
    /// Network namespace cookie.
    pub namespace: [u8; 8],
    /// Network order. Zero stands for all ports, and is open to every process; any other is
    /// open to kubelet.
    pub port: [u8; 2],
    /// Always zero.
    pub reserved: [u8; 2],
}

impl NodePort {
    /// Every port.
    pub const ALL: [u8; 2] = [0; 2];

    /// A port, in network order, of one namespace.
    #[inline(always)]
    pub const fn new(namespace: [u8; 8], port: [u8; 2]) -> Self {
        Self {
            namespace,
            port,
            reserved: [0; 2],
        }
    }
}

#[cfg(feature = "user")]
mod user {
    use super::*;

    // SAFETY: bytes only, no padding, every bit pattern is a value.
    unsafe impl aya::Pod for NodeProcess {}
    // SAFETY: as above.
    unsafe impl aya::Pod for NodePort {}
}
