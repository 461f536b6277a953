//! Blocks of `sh` that are for a shell: all of them, run as they stand, in one shell with
//! network, mounts, processes and cgroups of its own.
//!
//! docs/by-hand.md sets up what the blocks of other pages look at, and takes it down in its
//! last block.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use weft_provision::{cgroup2, prerequisites};
use weft_tests::cgroup::Cgroup;
use weft_tests::process::Process;
use weft_tests::run::RunId;

use crate::metrics;
use crate::programs::programs;
use crate::script::{Checker, scripts};

const PAGE: &str = "docs/by-hand.md";
/// How long the shell may take for all.
const LIMIT: Duration = Duration::from_secs(180);

/// What comes before: nothing of this machine is seen or changed. The hierarchy of cgroups
/// begins at the test's own; process 1 is the shell, so that everything ends with it.
const PREPARE: &str = "
mount -t tmpfs tmpfs /run
mkdir /run/netns
umount /sys/fs/bpf 2>/dev/null || true
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmpfs /sys/fs/cgroup
mkdir /sys/fs/cgroup/unified
mount -t cgroup2 none /sys/fs/cgroup/unified
ip link set lo up
";

/// What is looked at before all is taken down, beside what the pages do.
const LOOK: &str = "
curl -sSf http://127.0.0.1:15000/metrics > \"$RESULTS/agent.metrics\"
curl -sSf http://127.0.0.1:15011/metrics > \"$RESULTS/control-plane.metrics\"
curl -sSf http://127.0.0.1:15011/errors > \"$RESULTS/errors\"
cp agent.log control-plane.log \"$RESULTS\"
";

#[test]
#[cfg_attr(
    not(feature = "end-to-end"),
    ignore = "needs root and the programs built"
)]
fn a_shell_runs_the_commands_of_all_pages() {
    if let Some(missing) = prerequisites::missing() {
        panic!("{missing}");
    }
    let run = RunId::new().unwrap();
    let results = tempfile::tempdir().unwrap();
    let script = script(results.path());
    let cgroup = Cgroup::create(&run.name("documents")).unwrap();
    let mut shell = shell(&script, results.path(), &cgroup);
    let status = shell.wait(LIMIT);
    let output = shell.stdout() + &shell.stderr();
    let succeeded = status.as_ref().is_ok_and(|status| status.success());
    assert!(succeeded, "{output}\n{status:?}; the last `at` says where");

    let result = |name: &str| fs::read_to_string(results.path().join(name)).unwrap();
    metrics::check_labels(&(result("agent.metrics") + &result("control-plane.metrics")));
    metrics::check_fields(&result("agent.log"));
    let errors: serde_json::Value = serde_json::from_str(&result("errors")).unwrap();
    assert_eq!(errors, serde_json::json!({ "files": {}, "objects": [] }));
}

/// All blocks: those of the page, but for its last one; those of other pages; the last one.
fn script(results: &Path) -> String {
    let blocks = scripts(Checker::Playground);
    let (mut page, others): (Vec<_>, Vec<_>) =
        blocks.into_iter().partition(|block| block.file == PAGE);
    let last = page.pop().unwrap();
    let mut script = format!("set -eu\nRESULTS={}\n{PREPARE}", results.display());
    for block in page.iter().chain(&others) {
        write!(script, "echo 'at {block}'\n{}", block.text).unwrap();
    }
    write!(script, "{LOOK}\necho 'at {last}'\n{}", last.text).unwrap();
    script
}

fn shell(script: &str, directory: &Path, cgroup: &Cgroup) -> Process {
    let path = std::env::var("PATH").unwrap_or_default();
    let programs = programs();
    let file = directory.join("script.sh");
    // The shell that enters the cgroup becomes the one that leaves everything else.
    let enter = format!(
        "echo $$ > {}/cgroup.procs && exec unshare --cgroup --mount --net --pid --fork \
         --kill-child --mount-proc sh {}",
        cgroup.path().display(),
        file.display()
    );
    fs::write(&file, script).unwrap();
    assert!(cgroup2::root().is_ok());
    let mut command = Command::new("sh");
    command
        .args(["-c", &enter])
        .current_dir(directory)
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("TMPDIR", directory)
        .stdin(Stdio::null());
    Process::spawn_bound(command, "shell", directory).unwrap()
}
