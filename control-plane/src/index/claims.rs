//! What only one pod can have: an address, a UID.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use weft_model::NamespacedName;
use weft_model::workload::WorkloadUid;

use super::conflict::Conflict;
use crate::kinds::PodObject;

/// The pods that claim what only one can have.
#[derive(Debug, Default)]
pub(super) struct Claims {
    claimants: HashMap<Claim, BTreeSet<Claimant>>,
}

/// Something that only one pod can have.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Claim {
    Address(IpAddr),
    Uid(WorkloadUid),
}

/// A pod that claims something. Of several, the first has it: the newest, as a pod
/// that is just ending may still list an address that another has got by now.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Claimant {
    created: Reverse<i64>,
    pod: NamespacedName,
}

impl Claims {
    /// A pod claims what it lists. Returns who else does.
    pub(super) fn add(&mut self, pod: &PodObject) -> Vec<NamespacedName> {
        let mut others = Vec::new();
        for claim in claims_of(pod) {
            let claimants = self.claimants.entry(claim).or_default();
            others.extend(claimants.iter().map(|other| other.pod.clone()));
            claimants.insert(Claimant::of(pod));
        }
        others
    }

    /// A pod doesn't claim what it lists any more. Returns who else does.
    pub(super) fn remove(&mut self, pod: &PodObject) -> Vec<NamespacedName> {
        let claimant = Claimant::of(pod);
        let mut others = Vec::new();
        for claim in claims_of(pod) {
            let Some(claimants) = self.claimants.get_mut(&claim) else {
                continue;
            };
            claimants.remove(&claimant);
            others.extend(claimants.iter().map(|other| other.pod.clone()));
            if claimants.is_empty() {
                self.claimants.remove(&claim);
            }
        }
        others
    }

    /// The conflict of a pod whose UID another has: nobody could tell them apart.
    pub(super) fn conflict(&self, pod: &PodObject, origin: &str) -> Option<Conflict> {
        let first = self.taken_by(pod, &Claim::Uid(pod.uid.clone()))?;
        Some(Conflict::Uid {
            pod: pod.key.clone(),
            origin: origin.to_owned(),
            uid: pod.uid.to_string(),
            first: first.clone(),
        })
    }

    /// The addresses of a pod that no other has, and the conflicts about those that one has. A
    /// pod without an address is still what it was: whoever lists that of another may not take
    /// it out of the mesh.
    pub(super) fn addresses(&self, pod: &PodObject, origin: &str) -> (Vec<IpAddr>, Vec<Conflict>) {
        let (mut addresses, mut conflicts) = (Vec::new(), Vec::new());
        for address in &pod.addresses {
            match self.taken_by(pod, &Claim::Address(*address)) {
                None => addresses.push(*address),
                Some(first) => conflicts.push(Conflict::Address {
                    pod: pod.key.clone(),
                    origin: origin.to_owned(),
                    address: address.to_string(),
                    first: first.clone(),
                }),
            }
        }
        (addresses, conflicts)
    }

    /// The other pod that has what a pod claims.
    fn taken_by(&self, pod: &PodObject, claim: &Claim) -> Option<&NamespacedName> {
        let first = self.claimants.get(claim)?.first()?;
        (first.pod != pod.key).then_some(&first.pod)
    }
}

impl Claimant {
    fn of(pod: &PodObject) -> Self {
        Self {
            created: Reverse(pod.created),
            pod: pod.key.clone(),
        }
    }
}

fn claims_of(pod: &PodObject) -> Vec<Claim> {
    let addresses = pod.addresses.iter().copied().map(Claim::Address);
    addresses.chain([Claim::Uid(pod.uid.clone())]).collect()
}
