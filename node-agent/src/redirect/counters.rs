//! Counters of the programs' verdicts.

use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray};
use weft_ebpf_common::finding::counter;
use weft_ebpf_common::{Finding, Verdict, map};

use super::error::RedirectError;
use super::object::take_map;

/// The number of times that a program came to a verdict.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counter {
    /// `connect`, `sockops` or `sk_lookup`.
    pub program: &'static str,
    /// `pass`, `capture` or `refuse`.
    pub verdict: &'static str,
    /// The finding that led to the verdict, for example `own_socket`.
    pub finding: &'static str,
    /// Since the programs were loaded, or since their maps were first pinned.
    pub count: u64,
}

/// The programs' counters, to be read.
pub(super) struct Counters(PerCpuArray<MapData, u64>);

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.read()).finish()
    }
}

impl Counters {
    pub(super) fn from_object(object: &mut Ebpf) -> Result<Self, RedirectError> {
        take_map(object, map::COUNTERS).map(Self)
    }

    /// Every counter that has counted.
    pub(super) fn read(&self) -> Vec<Counter> {
        let mut counters = Vec::new();
        for finding in Finding::ALL {
            for verdict in Verdict::ALL {
                let Ok(values) = self.0.get(&counter(finding, verdict), 0) else {
                    continue;
                };
                let count = values.iter().sum();
                if count > 0 {
                    counters.push(Counter {
                        program: finding.program().name(),
                        verdict: verdict.name(),
                        finding: finding.name(),
                        count,
                    });
                }
            }
        }
        counters
    }
}
