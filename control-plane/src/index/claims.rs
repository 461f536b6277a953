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

    /// The conflict of a pod that claims what another has.
    pub(super) fn conflict(&self, pod: &PodObject, origin: &str) -> Option<Conflict> {
        claims_of(pod).into_iter().find_map(|claim| {
            let first = self.claimants.get(&claim)?.first()?;
            let is_taken = first.pod != pod.key;
            is_taken.then(|| taken(&pod.key, origin, &claim, &first.pod))
        })
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

fn taken(pod: &NamespacedName, origin: &str, claim: &Claim, first: &NamespacedName) -> Conflict {
    let (pod, origin, first) = (pod.clone(), origin.to_owned(), first.clone());
    match claim {
        Claim::Address(address) => Conflict::Address {
            pod,
            origin,
            address: address.to_string(),
            first,
        },
        Claim::Uid(uid) => Conflict::Uid {
            pod,
            origin,
            uid: uid.to_string(),
            first,
        },
    }
}
