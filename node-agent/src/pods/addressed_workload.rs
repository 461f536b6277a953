//! The addresses of a pod: those that the control plane knows, else those of its namespace.

use std::net::IpAddr;
use std::sync::Arc;

use weft_model::workload::Workload;

use super::error::CaptureError;
use crate::namespaces::NetworkNamespace;
use crate::redirect::{PodAddresses, PodRedirect, RedirectError};

/// A workload with the addresses that its pod has.
pub(super) struct AddressedWorkload {
    /// The workload.
    pub(super) workload: Arc<Workload>,
    /// The control plane says so.
    is_assigned: bool,
}

impl AddressedWorkload {
    /// Where the control plane knows no address yet, those of the namespace that no other pod
    /// has: kubelet tells only after the pod's first container was started.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn new(
        workload: &Arc<Workload>,
        namespace: &NetworkNamespace,
        redirect: &PodRedirect,
    ) -> Result<Self, CaptureError> {
        if !workload.addresses.is_empty() {
            return Ok(Self {
                workload: Arc::clone(workload),
                is_assigned: true,
            });
        }
        let found = namespace.addresses().map_err(CaptureError::Addresses)?;
        let addresses = redirect.without_others(&found);
        match (addresses.as_slice(), found.first()) {
            ([], None) => return Err(CaptureError::NoAddress),
            ([], Some(&taken)) => return Err(RedirectError::AddressTaken(taken).into()),
            _ => {}
        }
        let workload = Workload::clone(workload);
        Ok(Self {
            workload: Arc::new(Workload {
                addresses,
                ..workload
            }),
            is_assigned: false,
        })
    }

    /// Its addresses, by who says so.
    pub(super) fn addresses(&self) -> PodAddresses<'_> {
        match self.is_assigned {
            true => PodAddresses::Assigned(&self.workload.addresses),
            false => PodAddresses::Found(&self.workload.addresses),
        }
    }
}

/// False where a pod's connections can't be this kernel's: gVisor takes the pod's addresses out
/// of its namespace, and has sockets of its own.
pub(super) fn has_kernel_sockets(pod: &[IpAddr], namespace: &[IpAddr]) -> bool {
    pod.iter()
        .any(|address| namespace.contains(&address.to_canonical()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_whose_addresses_are_not_in_its_namespace_is_not_taken_for_captured() {
        let addresses = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let pod = addresses(&["10.0.0.1", "fd00::1"]);
        assert!(has_kernel_sockets(&pod, &pod));
        // IPv6 may come a moment later.
        assert!(has_kernel_sockets(&pod, &addresses(&["10.0.0.1"])));
        assert!(!has_kernel_sockets(&pod, &addresses(&["10.0.0.2"])));
        assert!(!has_kernel_sockets(&pod, &[]));
    }
}
