//! The entries that one pod has in the tables, and how many it may have.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use weft_ebpf_common::{NamespaceCookie, capacity};
use weft_model::node_access::MOST_PROBES;
use weft_model::workload::CaptureExclusions;

use super::blocks::{TrieKey, trie_entries};
use super::error::RedirectError;

const _: () = assert!(capacity::EXCLUDED_PORTS as usize == CaptureExclusions::MOST_PORTS);
const _: () = assert!(capacity::NODE_PORTS as usize == MOST_PROBES);
const _: () = assert!(capacity::EXCLUDED_BLOCKS as usize == CaptureExclusions::MOST_BLOCKS);

/// The entries that were, or are about to be, written for one pod, to be removed later.
#[derive(Debug, Default)]
pub(super) struct PodEntries {
    pub(super) exclusions: Exclusions,
    pub(super) addresses: Vec<IpAddr>,
    /// Ports that stay open to the node while no proxy runs.
    pub(super) node_ports: HashSet<u16>,
}

/// Traffic left alone, as the tables hold it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Exclusions {
    pub(super) ports: HashSet<u16>,
    pub(super) blocks: HashMap<TrieKey, u8>,
}

impl Exclusions {
    /// Of a namespace.
    ///
    /// # Errors
    /// When they are more than one pod may have, whoever has allowed them.
    pub(super) fn new(cookie: u64, exclusions: &CaptureExclusions) -> Result<Self, RedirectError> {
        let CaptureExclusions { ports, blocks } = exclusions;
        let most = CaptureExclusions::MOST_PORTS;
        at_most(most, ports.len(), "excluded outbound ports")?;
        let most = CaptureExclusions::MOST_BLOCKS;
        at_most(most, blocks.len(), "excluded outbound blocks")?;
        Ok(Self {
            ports: ports.iter().copied().collect(),
            blocks: trie_entries(NamespaceCookie::new(cookie), blocks),
        })
    }

    /// Those that others don't have.
    pub(super) fn without(&self, others: &Self) -> Self {
        let blocks = self.blocks.iter();
        let blocks = blocks.filter(|(key, _)| !others.blocks.contains_key(key));
        Self {
            ports: &self.ports - &others.ports,
            blocks: blocks.map(|(key, excluded)| (*key, *excluded)).collect(),
        }
    }

    /// Adds others.
    pub(super) fn extend(&mut self, others: &Self) {
        self.ports.extend(&others.ports);
        self.blocks.extend(&others.blocks);
    }
}

/// A pod's addresses, each once.
///
/// # Errors
/// When they are more than one pod may have.
pub(super) fn canonical(addresses: &[IpAddr]) -> Result<Vec<IpAddr>, RedirectError> {
    let mut canonical: Vec<IpAddr> = Vec::new();
    for address in addresses.iter().map(IpAddr::to_canonical) {
        if !canonical.contains(&address) {
            canonical.push(address);
        }
    }
    at_most(capacity::ADDRESSES as usize, canonical.len(), "addresses")?;
    Ok(canonical)
}

fn at_most(most: usize, count: usize, of: &'static str) -> Result<(), RedirectError> {
    match count <= most {
        true => Ok(()),
        false => Err(RedirectError::TooMany { of, count, most }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_no_more_entries_than_its_share() {
        let ports = |count: u16| CaptureExclusions {
            ports: (1..=count).collect(),
            ..CaptureExclusions::default()
        };
        assert_eq!(Exclusions::new(7, &ports(64)).unwrap().ports.len(), 64);
        let error = Exclusions::new(7, &ports(65)).unwrap_err().to_string();
        assert!(
            error.contains("65 excluded outbound ports, at most 64"),
            "{error}"
        );

        let block = |number: u8| format!("10.{number}.0.0/16").parse().unwrap();
        let blocks = |count: u8| CaptureExclusions {
            blocks: (0..count).map(block).collect(),
            ..CaptureExclusions::default()
        };
        assert_eq!(Exclusions::new(7, &blocks(64)).unwrap().blocks.len(), 64);
        let error = Exclusions::new(7, &blocks(65)).unwrap_err().to_string();
        assert!(
            error.contains("65 excluded outbound blocks, at most 64"),
            "{error}"
        );

        let addresses = |count: u8| -> Vec<IpAddr> {
            let address = |number: u8| IpAddr::from([10, 0, 0, number]);
            (0..count).chain(0..count).map(address).collect()
        };
        assert_eq!(canonical(&addresses(8)).unwrap().len(), 8);
        let error = canonical(&addresses(9)).unwrap_err().to_string();
        assert!(error.contains("9 addresses, at most 8"), "{error}");
    }

    #[test]
    fn what_changes_is_told_from_what_stays() {
        let exclusions = |ports: &[u16], block: &str| CaptureExclusions {
            ports: ports.to_vec(),
            blocks: vec![block.parse().unwrap()],
        };
        let old = Exclusions::new(7, &exclusions(&[1, 2], "10.0.0.0/8")).unwrap();
        let wanted = Exclusions::new(7, &exclusions(&[2, 3], "10.0.0.0/8")).unwrap();
        let new = wanted.without(&old);
        assert_eq!((new.ports, new.blocks.len()), (HashSet::from([3]), 0));
        let mut all = old.clone();
        all.extend(&wanted);
        assert_eq!(all.without(&wanted).ports, HashSet::from([1]));
        assert_eq!(all.blocks, wanted.blocks);
    }
}
