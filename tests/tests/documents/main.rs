//! What people read is true: every block of `sh` and `yaml` in README, docs/ and the like
//! is run or parsed.
//!
//! * [`blocks`]: finding them
//! * [`commands`]: every line of `sh` has a rule: it is a command line of our own programs,
//!   which these parse; or a suite runs it; or the table says why nobody does
//! * [`manifests`]: every block of `yaml` goes where a reader would put it
//!
//! A block that no rule covers fails: add it to the table in its module.

// Helpers of tests: what fails there fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod blocks;
mod commands;
mod manifests;
