//! Running tests: passes on what they say, counts, and removes what crashed ones left.

use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use xtask::steps::Steps;
use xtask::workspace::Workspace;

use crate::interrupt;

/// What running tests can be told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Why some tests are not among them; each counts as one that failed.
    #[arg(long)]
    problem: Vec<String>,
    /// Cargo's arguments.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// What libtest says it did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Counts {
    passed: u64,
    failed: u64,
}

/// Runs them and says how it went; fails when one did, or when some couldn't be run.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> ExitCode {
    let mut problems = options.problem.clone();
    let arguments: Vec<_> = options.arguments.iter().map(String::as_str).collect();
    let mut steps = Steps::go_on(1);
    steps.next(&format!("running cargo {}", arguments.join(" ")));
    let mut counts = match run_tests(workspace.cargo(&arguments)) {
        Ok((counts, success)) => {
            if !success && counts.failed == 0 {
                problems.push("cargo test failed before it could run every test; see above".into());
            }
            counts
        }
        Err(error) => {
            problems.push(format!("can't run cargo test: {error}"));
            Counts::default()
        }
    };
    steps.end();
    // Whatever a crashed test left.
    weft_tests::run::collect_leftovers();
    for problem in &problems {
        eprintln!("{problem}");
    }
    counts.failed += problems.len() as u64;
    println!("{} passed, {} failed", counts.passed, counts.failed);
    if counts.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Passes the output through and counts. Also says whether the command succeeded.
fn run_tests(mut command: Command) -> io::Result<(Counts, bool)> {
    // A process group of its own: when told to stop we stop all of it, then clean up.
    let mut child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let interrupted = stop_when_interrupted(&child)?;
    let mut counts = Counts::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            counts.add(&line);
        }
    }
    let status = child.wait()?;
    if interrupted.load(Ordering::Acquire) {
        weft_tests::run::collect_leftovers();
        std::process::exit(interrupt::EXIT_CODE);
    }
    Ok((counts, status.success()))
}

fn stop_when_interrupted(child: &Child) -> io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let group = Pid::from_raw(child.id().cast_signed());
    let flag = Arc::clone(&interrupted);
    interrupt::on_interrupt(move || {
        flag.store(true, Ordering::Release);
        // Fails only when it is over already.
        let _ = killpg(group, Signal::SIGTERM);
    })?;
    Ok(interrupted)
}

impl Counts {
    /// Adds what a line like `test result: ok. 5 passed; 0 failed; ...` says.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result: ") else {
            return;
        };
        let count = |what: &str| {
            let mut parts = counts.split([';', '.']).map(str::trim);
            parts.find_map(|part| part.strip_suffix(what)?.trim().parse::<u64>().ok())
        };
        self.passed += count("passed").unwrap_or(0);
        self.failed += count("failed").unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed_and_other_lines_passed_over() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s",
            "test result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.9s",
            "test passed: 7 failed",
        ] {
            counts.add(line);
        }
        assert_eq!(
            counts,
            Counts {
                passed: 16,
                failed: 1
            }
        );
    }

    #[test]
    fn output_passes_through_and_failure_is_told_from_success() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'test result: ok. 2 passed; 0 failed;'; exit 3"]);
        assert_eq!(
            run_tests(command).unwrap(),
            (
                Counts {
                    passed: 2,
                    failed: 0
                },
                false
            )
        );
    }
}
