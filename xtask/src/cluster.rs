//! `cargo xtask cluster`: builds a real Kubernetes; the lab runs it.

use std::path::Path;

use weft_provision::go::Kit;
use weft_provision::prerequisites;
use xtask::options::{BuildEbpf, Cluster, ClusterTest, Conformance};
use xtask::steps::Steps;
use xtask::workspace::Workspace;

use crate::build_ebpf;
use crate::error::CommandError;
use crate::go::{GoBuild, WAITING};
use crate::images::pack_development;
use crate::lab::{APP, COMPILING, COMPILING_EBPF, NAME, become_lab};

/// Does it.
///
/// # Errors
/// With what went wrong, and what to do about it.
pub(crate) fn run(workspace: &Workspace, action: &Cluster) -> Result<(), CommandError> {
    match action {
        Cluster::Up(_) => {
            let mut steps = Steps::new(4);
            build_cluster(workspace, &mut steps, &[Kit::Cluster])?;
            steps.next("starting it");
            match become_lab(&workspace.programs(), &mut steps)? {}
        }
        Cluster::Test(options) => test(workspace, options),
        Cluster::Conformance(options) => conformance(workspace, options),
        Cluster::Load { .. } | Cluster::Down | Cluster::Status | Cluster::Hold(_) => {
            let mut steps = Steps::new(1);
            workspace.build_programs(&[NAME], &[])?;
            match become_lab(&workspace.programs(), &mut steps)? {}
        }
    }
}

/// Three steps: what a cluster without Weft needs.
fn build_cluster(
    workspace: &Workspace,
    steps: &mut Steps,
    kits: &[Kit],
) -> Result<(), CommandError> {
    steps.next("looking for what this needs");
    prerequisites::ensure().map_err(CommandError::Prerequisite)?;
    let go = GoBuild::start(workspace, kits.to_vec());
    steps.next(COMPILING);
    workspace.build_programs(&[NAME, APP], &[])?;
    steps.next(WAITING);
    Ok(go.wait()?)
}

/// Five steps: the same, and Weft's images.
fn build_all(
    workspace: &Workspace,
    steps: &mut Steps,
    kits: &[Kit],
    features: &[&str],
) -> Result<(), CommandError> {
    steps.next("looking for what this needs");
    let go = GoBuild::start(workspace, kits.to_vec());
    steps.next(COMPILING_EBPF);
    build_ebpf::run(&BuildEbpf::default())?;
    steps.next(COMPILING);
    workspace.build_programs(&[], features)?;
    steps.next(WAITING);
    go.wait()?;
    steps.next("packing the images");
    Ok(pack_development(workspace)?)
}

fn conformance(workspace: &Workspace, options: &Conformance) -> Result<(), CommandError> {
    let kits = match options.kubeconfig {
        Some(_) => [Kit::ApiServer, Kit::Conformance],
        None => [Kit::Cluster, Kit::Conformance],
    };
    if options.kubeconfig.is_none() {
        prerequisites::ensure().map_err(CommandError::Prerequisite)?;
    }
    let mut steps = Steps::new(if options.without_mesh { 4 } else { 6 });
    match options.without_mesh {
        true => build_cluster(workspace, &mut steps, &kits)?,
        false => build_all(workspace, &mut steps, &kits, &[])?,
    }
    steps.next("running the suite");
    match become_lab(&workspace.programs(), &mut steps)? {}
}

fn test(workspace: &Workspace, options: &ClusterTest) -> Result<(), CommandError> {
    let features = ["weft-tests/cluster"];
    let mut kits = vec![Kit::ApiServer];
    if options.kubeconfig.is_none() {
        prerequisites::ensure().map_err(CommandError::Prerequisite)?;
        kits.extend([Kit::Cluster, Kit::Conformance]);
    }
    let mut steps = Steps::new(6);
    build_all(workspace, &mut steps, &kits, &features)?;
    steps.next("running the tests");
    let line = [
        "test",
        "--workspace",
        "--features=weft-tests/cluster",
        "--test=kubernetes",
    ];
    let mut tests = workspace.cargo(&line);
    if let Some(kubeconfig) = &options.kubeconfig {
        let absolute = std::path::absolute(kubeconfig);
        tests.env(
            "WEFT_TEST_KUBECONFIG",
            absolute.as_deref().unwrap_or(Path::new("")),
        );
        if let Some(command) = &options.load_image {
            tests.env("WEFT_TEST_LOAD_IMAGE", command);
        }
    } else {
        tests.arg("--test=cluster");
    }
    tests.arg("--").args(&options.filter).arg("--nocapture");
    let status = tests.status().map_err(xtask::workspace::BuildError::from)?;
    steps.end();
    match status.success() {
        true => Ok(()),
        false => Err(CommandError::Tests(status)),
    }
}
