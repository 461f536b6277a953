//! Why a cluster could not be started, asked or ended.

use std::io;

use super::state::StateError;

/// Why a cluster could not be started, asked or ended. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    /// The Gateway API's tests said no.
    #[error("not conformant:\n{0}")]
    Conformance(String),
    /// The control needs a cluster without Weft.
    #[error("Weft is on this cluster: --without-mesh needs one that never had it")]
    HasMesh,
    /// A part of it can't be built or doesn't run.
    #[error("{0}")]
    Cluster(#[from] weft_tests::Error),
    /// A program from outside of the workspace is not to be had.
    #[error(transparent)]
    Provision(#[from] weft_provision::ProvisionError),
    /// What is known about it can't be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// `cargo xtask` does that by itself.
    #[error("run it by `cargo xtask cluster test`")]
    NotHere,
    /// There is one.
    #[error("a cluster is up: use its kubeconfig {0}, or end it with `cargo xtask cluster down`")]
    IsUp(String),
    /// There is none.
    #[error("no cluster is up: start one with `cargo xtask cluster up`")]
    IsDown,
    /// It ended before it was ready.
    #[error("the cluster did not start; its log {log} ends with:\n{end}")]
    Start {
        /// Path of the log.
        log: String,
        /// Its last lines.
        end: String,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}
