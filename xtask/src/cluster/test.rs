//! `cargo xtask cluster test`: the tests that need a cluster.

use std::path::PathBuf;

use weft_tests::cluster::Binaries;
use weft_tests::conformance;

use super::ClusterError;
use crate::images;
use crate::prerequisites;
use crate::workspace::Workspace;

/// What `cluster test` can be told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// A cluster of somebody else's, where Weft is or will be installed: nothing of it
    /// is crashed, and Weft stays. When left out, the tests make their own.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The command that gives an image to the nodes of that cluster, such as
    /// `kind load image-archive`; the file follows it.
    #[arg(long, value_name = "COMMAND", requires = "kubeconfig")]
    load_image: Option<String>,
    /// Only tests with this in their name.
    filter: Option<String>,
}

/// Everything that tests on clusters of their own need: built here, so that no test
/// waits for it.
///
/// # Errors
/// When something can't be had or built.
pub(crate) fn prepare(workspace: &Workspace) -> Result<(), ClusterError> {
    let mut binaries = Binaries::ensure(workspace.root())?;
    binaries.add_modules(workspace.root(), &["helm"])?;
    conformance::add_programs(&mut binaries, workspace.root())?;
    images::run(workspace, &images::Options::development())?;
    Ok(())
}

pub(super) fn run(workspace: &Workspace, options: &Options) -> Result<(), ClusterError> {
    let mut tests = workspace.cargo(&["test", "--package=weft-tests", "--features=cluster"]);
    tests.arg("--test=kubernetes");
    match &options.kubeconfig {
        Some(kubeconfig) => {
            images::run(workspace, &images::Options::development())?;
            let absolute = |source| ClusterError::System {
                what: "find the kubeconfig",
                source,
            };
            tests.env(
                "WEFT_TEST_KUBECONFIG",
                std::path::absolute(kubeconfig).map_err(absolute)?,
            );
            if let Some(command) = &options.load_image {
                tests.env("WEFT_TEST_LOAD_IMAGE", command);
            }
        }
        None => {
            prerequisites::ensure().map_err(ClusterError::Prerequisite)?;
            prepare(workspace)?;
            tests.arg("--test=cluster");
        }
    }
    tests.arg("--").args(&options.filter).arg("--nocapture");
    let status = tests.status().map_err(|source| ClusterError::System {
        what: "run cargo test",
        source,
    })?;
    match status.success() {
        true => Ok(()),
        false => Err(ClusterError::Tests(status)),
    }
}
