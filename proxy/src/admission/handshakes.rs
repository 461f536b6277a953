//! Connections whose clients have proven nothing yet. They take no place among the pod's
//! connections: anybody may begin as many as the network carries.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use super::descriptors::{DescriptorShare, PodDescriptors};
use super::turns::Turns;
use crate::sync::lock;

/// The handshakes of one pod that are under way.
#[derive(Debug)]
pub(crate) struct Handshakes {
    limits: HandshakeLimits,
    open: Mutex<Open>,
    turns: Turns,
    descriptors: Arc<PodDescriptors>,
}

/// How many handshakes a pod may have under way.
#[derive(Clone, Copy, Debug)]
struct HandshakeLimits {
    all: u32,
    of_one_address: u32,
}

#[derive(Debug, Default)]
struct Open {
    all: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// One handshake under way; given back when dropped.
#[derive(Debug)]
pub(crate) struct Handshake {
    handshakes: Arc<Handshakes>,
    address: IpAddr,
    _descriptors: DescriptorShare,
}

impl Handshakes {
    /// None under way, of as many as the settings allow.
    pub(crate) fn new(all: u32, of_one_address: u32, descriptors: Arc<PodDescriptors>) -> Self {
        Self {
            limits: HandshakeLimits {
                all,
                of_one_address,
            },
            open: Mutex::default(),
            turns: Turns::default(),
            descriptors,
        }
    }

    /// One more, of a client at that address; `None` when there are as many as may be.
    pub(crate) fn begin(self: &Arc<Self>, address: IpAddr) -> Option<Handshake> {
        let descriptors = self.descriptors.take()?;
        let mut open = lock(&self.open);
        if open.all >= self.limits.all {
            return None;
        }
        let of_address = open.by_address.entry(address).or_default();
        if *of_address >= self.limits.of_one_address {
            return None;
        }
        *of_address += 1;
        open.all += 1;
        drop(open);
        Some(Handshake {
            handshakes: Arc::clone(self),
            address,
            _descriptors: descriptors,
        })
    }
}

impl Handshake {
    /// Runs the handshake itself, one step of one client of the pod at a time.
    pub(crate) async fn run<T>(&self, handshake: impl Future<Output = T>) -> T {
        self.handshakes.turns.run(handshake).await
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut open = lock(&self.handshakes.open);
        open.all -= 1;
        if let Some(of_address) = open.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn one_address_has_a_part_of_what_all_have() {
        let handshakes = Arc::new(Handshakes::new(5, 3, Arc::default()));
        let begin = |last| handshakes.begin(address(last));
        let mut first: Vec<_> = std::iter::from_fn(|| begin(1)).collect();
        assert_eq!(first.len(), 3);
        let second: Vec<_> = std::iter::from_fn(|| begin(2)).collect();
        assert_eq!(second.len(), 2);
        assert!(begin(3).is_none());
        first.pop();
        assert!(begin(3).is_some());
        drop((first, second));
        assert!(lock(&handshakes.open).by_address.is_empty());
    }
}
