//! A virtual machine whose processor is software (qemu's TCG), with this machine's files as its own.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::kernel::{Kernel, run as run_program, text};

/// How long one boots, tests and ends on a loaded machine.
const LIMIT: Duration = Duration::from_secs(1200);
const INTERVAL: Duration = Duration::from_millis(500);
/// Process 1.
const INIT: &str = include_str!("init.sh");

/// Ends the machine when a test fails.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots the kernel, runs the test program's `guest::in_the_machine` in there, and returns what
/// both said.
pub(crate) fn run(kernel: &Kernel, test: &Path) -> String {
    let folder = tempfile::tempdir().unwrap();
    let initial = initial_files(kernel, folder.path());
    let console = folder.path().join("console");
    let said = || String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
    // A kernel that finds its timers slow, as they are here, must not give up.
    let line = format!(
        "console=ttyS0 quiet panic=-1 no_timer_check WEFT_TEST={}",
        text(test)
    );
    let share = "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap";
    let machine = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "2048"])
        .args(["-nodefaults", "-no-reboot", "-display", "none"])
        .args(["-serial", "stdio", "-virtfs", share])
        .args(["-kernel", &text(&kernel.image()), "-initrd", &initial])
        .args(["-append", &line])
        .stdin(Stdio::null())
        .stdout(File::create(&console).unwrap())
        .stderr(Stdio::inherit())
        .spawn();
    let mut machine = Machine(machine.unwrap());
    let deadline = Instant::now() + LIMIT;
    while machine.0.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "not in time:\n{}", said());
        sleep(INTERVAL);
    }
    said()
}

/// What the machine begins with: busybox, modules, and [`INIT`].
fn initial_files(kernel: &Kernel, folder: &Path) -> String {
    let root = folder.join("initial");
    for name in [
        "bin",
        "lib/modules",
        "proc",
        "sys",
        "dev",
        "lower",
        "layer",
        "root",
    ] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::write(root.join("init"), INIT).unwrap();
    let archive = text(&folder.join("initial.gz"));
    let script = format!(
        "chmod +x init && cp \"$(command -v busybox)\" bin/ && cp -a {} lib/modules/ && \
         find . | cpio -o -H newc --quiet | gzip -1 > {archive}",
        text(&kernel.modules())
    );
    run_program("sh", &["-c", &script], &root).unwrap();
    archive
}
