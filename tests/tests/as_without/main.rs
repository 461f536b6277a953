//! The same clients and servers with and without the mesh: what both ends see is the same,
//! or stands in the table of `differences.rs`, which is docs/as-without.md.
//!
//! * `programs.py`: the clients and servers; they say in JSON what they see
//! * [`cases`]: the cases, and whether their ports are declared as HTTP
//! * [`bed`]: pods in the mesh, and pods beside it for the control
//! * [`observation`]: what both ends saw, without what is different by nature
//! * [`differences`]: what differs on purpose, and why
//! * [`page`]: the page of the manual

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod bed;
mod cases;
mod differences;
mod observation;
mod page;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bed::{Bed, WAYS};
use cases::{CASES, Case};
use differences::{DIFFERENCES, Difference};

/// Cases that run at the same time.
const THREADS: usize = 4;

/// What a case has shown.
#[derive(Debug, Default)]
struct Findings {
    /// Differences that are in no table, in words.
    unexpected: Vec<String>,
    /// Cases and properties that differ and may.
    expected: BTreeSet<(&'static str, &'static str)>,
}

#[test]
fn applications_see_what_they_see_without_a_mesh() {
    let bed = Bed::start();
    let (next, findings) = (AtomicUsize::new(0), Mutex::new(Findings::default()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(case) = CASES.get(next.fetch_add(1, Ordering::Relaxed)) {
                    compare(&bed, case, &findings);
                }
            });
        }
    });
    let Findings {
        unexpected,
        expected,
    } = findings.into_inner().unwrap();
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
    let stale = DIFFERENCES.iter().map(Difference::key);
    let stale: Vec<_> = stale.filter(|key| !expected.contains(key)).collect();
    assert!(stale.is_empty(), "no difference any more: {stale:?}");
}

fn compare(bed: &Bed, case: &'static Case, findings: &Mutex<Findings>) {
    let controls = bed.observe_controls(case);
    for control in controls.values() {
        assert!(control.is_whole(case), "{}: {control:?}", case.name);
    }
    for way in WAYS {
        let control = &controls[way.server];
        let observed = bed.observe(case, way);
        for property in control.differences_from(&observed) {
            let mut findings = findings.lock().unwrap();
            match differences::find(case.name, &property) {
                Some(known) => {
                    findings.expected.insert(known.key());
                }
                None => findings.unexpected.push(format!(
                    "{}, {}, {property}: {} without the mesh, {} in it",
                    case.name,
                    way.name,
                    control.value(&property),
                    observed.value(&property),
                )),
            }
        }
    }
}

#[test]
fn every_difference_is_one_of_a_case() {
    for difference in DIFFERENCES {
        let known = CASES.iter().any(|case| case.name == difference.case);
        assert!(known, "{}", difference.case);
    }
}
