//! `--keep`: a script that runs commands in the demo's pods, and what to try.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use weft_tests::mesh::Mesh;
use weft_tests::process::Place;
use weft_tests::topology::FABRIC_BRIDGE;

use super::addresses::{HTTP_PORT, WEB_SERVICE};
use super::error::DemoError;
use xtask::workspace::Workspace;

const PODS: [&str; 5] = ["client", "web-v1", "web-v2", "echo", "outside"];

/// Writes the script; gives back what to tell the user.
pub(super) fn write(mesh: &Mesh, workspace: &Workspace) -> Result<String, DemoError> {
    let directory = workspace.target().join("demo");
    let path = directory.join("in");
    let failed = |source| DemoError::System {
        what: "can't write target/demo/in",
        source,
    };
    fs::create_dir_all(&directory).map_err(failed)?;
    fs::write(&path, script(mesh)?).map_err(failed)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    let run = path
        .strip_prefix(workspace.root())
        .unwrap_or(&path)
        .display();
    let files = mesh.directory().display();
    let outside = mesh.pod("outside")?.host.ipv4();
    Ok(format!(
        "The mesh stays up; Ctrl-C removes it. In another terminal, as root:

  {run} client curl -s http://{WEB_SERVICE}/                  # the service, version v1 or v2
  {run} client curl -s http://{outside}:{HTTP_PORT}/          # a pod outside the mesh
  {run} node-1 curl -s http://127.0.0.1:15000/connections    # what the agent of node-1 carries now
  {run} node-1 curl -s http://127.0.0.1:15000/metrics        # its metrics; also /config
  {run} fabric curl -s http://127.0.0.1:15011/agents         # who the control plane serves
  {run} fabric tcpdump -ni {FABRIC_BRIDGE} tcp port 15008          # the tunnels between the nodes

The manifests are in {files}/manifests: change them and the mesh follows. In
mesh-config.json set the mode to strict, and `outside` can't reach the mesh any more:
  {run} outside curl -s http://{web}:{HTTP_PORT}/
The agents' logs, with a line per connection: {files}/agent-node-1.err, agent-node-2.err",
        web = mesh.pod("web-v1")?.host.ipv4(),
    ))
}

fn script(mesh: &Mesh) -> Result<String, DemoError> {
    let mut places: Vec<(&str, &Place)> = vec![("fabric", mesh.topology().fabric().place())];
    for node in mesh.topology().nodes() {
        places.push((&node.name, node.host.place()));
    }
    for pod in PODS {
        places.push((pod, mesh.pod(pod)?.host.place()));
    }
    let names: Vec<_> = places.iter().map(|(name, _)| *name).collect();
    let cases: String = places
        .iter()
        .map(|(name, Place { namespace, cgroup })| {
            format!(
                "{name}) namespace={} cgroup={} ;;\n",
                namespace.display(),
                cgroup.display()
            )
        })
        .collect();
    Ok(format!(
        "#!/bin/sh
# Runs a command in a pod or node of the running demo: its network namespace, its cgroup.
set -e
case \"$1\" in
{cases}*) echo \"usage: $0 {} COMMAND...\" >&2; exit 2 ;;
esac
shift
echo $$ > \"$cgroup/cgroup.procs\"
exec nsenter --net=\"$namespace\" \"$@\"
",
        names.join("|")
    ))
}
