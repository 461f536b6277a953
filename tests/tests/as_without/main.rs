//! The same clients and servers with and without the mesh: what both ends see is the same,
//! or stands in the table of `differences.rs`, which is docs/as-without.md.
//!
//! * `programs.py`: clients and servers of our own; they say in JSON what they see
//! * [`case`], [`cases`]: their cases, and whether their ports are declared as HTTP
//! * [`bed`]: pods in the mesh, and pods beside it for the control
//! * [`observation`]: what both ends saw, without what is different by nature
//! * [`packaged`]: clients and servers that others wrote
//! * [`differences`]: what differs on purpose, and why
//! * [`findings`]: what comes out, and whether the table has it
//! * [`page`]: the page of the manual

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod bed;
mod case;
mod cases;
mod differences;
mod findings;
mod observation;
mod packaged;
mod page;

use bed::{Bed, WAYS};
use case::Case;
use cases::CASES;
use differences::DIFFERENCES;
use findings::{Findings, for_each_of};

/// Cases that run at the same time.
const THREADS: usize = 4;
/// Runs a part of them: those whose names are in it.
const ONLY: &str = "WEFT_TEST_CASES";

#[test]
fn applications_see_what_they_see_without_a_mesh() {
    let only = std::env::var(ONLY).unwrap_or_default();
    let is_wanted = |case: &&Case| only.is_empty() || only.split(',').any(|name| name == case.name);
    let cases: Vec<_> = CASES.iter().filter(is_wanted).collect();
    let (bed, findings) = (Bed::start(), Findings::default());
    for_each_of(&cases, THREADS, |case| compare(&bed, case, &findings));
    findings.assert_as_known(|name| cases.iter().any(|case| case.name == name));
    let miscounted: Vec<_> = cases.iter().flat_map(|case| bed.miscounted(case)).collect();
    assert!(miscounted.is_empty(), "{}", miscounted.join("\n"));
}

fn compare(bed: &Bed, case: &Case, findings: &Findings) {
    let controls = bed.observe_controls(case);
    for control in controls.values() {
        assert!(control.is_whole(case), "{}: {control:?}", case.name);
    }
    for way in WAYS {
        let control = &controls[way.server];
        let observed = bed.observe(case, way);
        for property in control.differences_from(&observed, case) {
            let (without, within) = (control.value(&property), observed.value(&property));
            findings.add(case.name, way, &property, [&without, &within]);
        }
    }
}

#[test]
fn every_difference_is_one_of_a_case() {
    for difference in DIFFERENCES {
        let case = page::text_of(difference.case);
        assert!(case.is_some(), "{}", difference.case);
    }
}
