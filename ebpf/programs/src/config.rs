//! What user space sets before it loads the programs. The verifier takes these as
//! constants and drops the branches that can't be reached, and with them calls to
//! helpers that an older kernel doesn't have.

use aya_ebpf::Global;
use weft_ebpf_common::Policy;

/// See [`weft_ebpf_common::constant`].
#[unsafe(no_mangle)]
static REFUSE_UNKNOWN_PODS: Global<u8> = Global::new(0);
#[unsafe(no_mangle)]
static PODS_CGROUP: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static HAS_SET_RETVAL: Global<u8> = Global::new(0);
#[unsafe(no_mangle)]
static HAS_MPTCP: Global<u8> = Global::new(0);
#[unsafe(no_mangle)]
static HAS_INGRESS_INTERFACE: Global<u8> = Global::new(0);

#[inline(always)]
pub fn policy(strict: bool) -> Policy {
    Policy {
        unknown_pods_refused: REFUSE_UNKNOWN_PODS.load() != 0,
        strict,
    }
}

/// Id of the cgroup below which the processes of pods live.
#[inline(always)]
pub fn pods_cgroup() -> Option<u64> {
    match PODS_CGROUP.load() {
        0 => None,
        id => Some(id),
    }
}

#[inline(always)]
pub fn has_set_retval() -> bool {
    HAS_SET_RETVAL.load() != 0
}

#[inline(always)]
pub fn has_mptcp() -> bool {
    HAS_MPTCP.load() != 0
}

#[inline(always)]
pub fn has_ingress_interface() -> bool {
    HAS_INGRESS_INTERFACE.load() != 0
}
