//! What people read is true: every block of `sh` and `yaml` in README, docs/ and the like is
//! run or parsed, and what tables list is what there is.
//!
//! * [`blocks`]: finding them. Nothing that somebody could paste into a shell hides in a
//!   block of another language.
//! * [`script`]: the commands of a block of `sh`, and who checks it: Cargo and our own
//!   command-line parsers ([`programs`]), kubectl, Helm and a real API server ([`cluster`]),
//!   or a shell that runs it as it stands ([`playground`])
//! * [`manifests`]: every block of `yaml` goes where a reader would put it
//! * [`flags`], [`metrics`]: tables of flags, series and fields
//! * [`monitoring`]: dashboards and alerts ask for what there is; [`promql`] reads their queries
//! * [`claims`]: tests that pages name for what they promise
//! * [`kernel_maps`]: the table of the kernel's maps
//! * [`links`]: links lead somewhere, and the index has every page

// Helpers of tests: what fails there fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod blocks;
mod claims;
mod cluster;
mod flags;
mod kernel_maps;
mod links;
mod manifests;
mod metrics;
mod monitoring;
mod playground;
mod programs;
mod promql;
mod script;
