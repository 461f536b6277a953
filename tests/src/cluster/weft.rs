//! Weft on a cluster, whoever's that is.

use std::path::Path;

use super::Kubectl;
use crate::error::Result;

/// What has to run before anything can be in the mesh.
const PARTS: [&str; 2] = ["deployment/weft-control-plane", "daemonset/weft-node-agent"];

/// Installs Weft as the README says, and waits until all of it runs.
///
/// # Errors
/// When the API server refuses it, or a part doesn't get ready.
pub fn install_weft(kubectl: &Kubectl, workspace: &Path) -> Result<()> {
    let deploy = workspace.join("deploy").display().to_string();
    kubectl.run(&["apply", "--server-side", "-k", &deploy])?;
    for part in PARTS {
        let line = [
            "rollout",
            "status",
            part,
            "-n=weft-system",
            "--timeout=120s",
        ];
        kubectl.run(&line)?;
    }
    Ok(())
}
