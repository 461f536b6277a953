//! The agent and the sidecar on kernels of earlier Debians, in a virtual machine without any help
//! of this machine's processor: `cargo xtask test old-kernels`.
//!
//! * [`kernel`]: the kernels, as Debian's packages have them
//! * [`machine`]: the machine that one boots in
//! * [`guest`]: what happens in there

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod guest;
mod kernel;
mod machine;

use std::sync::{Mutex, PoisonError};

use guest::Outcome;
use kernel::Kernel;

/// One machine at a time: it has all of the cores.
static TURN: Mutex<()> = Mutex::new(());

/// No cookies of network namespaces: what the kernel programs know pods by.
#[test]
fn on_linux_5_10_pods_have_sidecars_and_their_agent_says_why() {
    check("bullseye", "5.10", Outcome::Sidecars);
}

#[test]
fn on_linux_6_1_agents_capture() {
    check("bookworm", "6.1", Outcome::Agents);
}

/// A call passes by mutual TLS between sidecars, and what the agents say of their node is so.
fn check(suite: &str, version: &str, expected: Outcome) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let kernel = Kernel::ensure(suite).unwrap();
    let started = format!("{version}.");
    assert!(kernel.version().starts_with(&started), "{kernel:?}");
    let output = machine::run(&kernel, &std::env::current_exe().unwrap());
    let line = format!("{}{}", guest::OUTCOME, expected.name());
    assert!(output.contains(&line), "no `{line}` in\n{output}");
    assert!(output.contains("test result: ok. 1 passed"), "{output}");
}
