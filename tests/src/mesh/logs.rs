//! What is left of a mesh for whoever has to find out what went wrong: the ends of its
//! logs on standard error, and a copy of its files.

// It is meant to be read.
#![allow(clippy::print_stderr)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How much of each log is shown.
const TAIL_LINES: usize = 60;
/// Asks for the files of every mesh, not only of those that a test fails on.
const KEEP: &str = "WEFT_TEST_KEEP";

/// Shows the end of a log.
pub(super) fn show(title: &str, log: &str) {
    eprintln!("--- {title}\n{}", tail(log, TAIL_LINES));
}

/// The last lines of a text.
pub(super) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Whether the files of every mesh are wanted.
pub(super) fn are_wanted() -> bool {
    std::env::var_os(KEEP).is_some_and(|value| !value.is_empty())
}

/// Copies the files of a mesh, logs, manifests and state, to where they outlive it:
/// `target/logs`, in a folder with the name of the test. Says where.
pub(super) fn keep(directory: &Path) {
    let Some(kept) = folder() else {
        return;
    };
    let _ = fs::remove_dir_all(&kept);
    match copy(directory, &kept) {
        Ok(()) => eprintln!("--- logs, manifests and state: {}", kept.display()),
        Err(error) => eprintln!("--- logs can't be kept in {}: {error}", kept.display()),
    }
}

/// Libtest names each test's thread after it; its program is in `target/PROFILE/deps`.
fn folder() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let profile = program
        .ancestors()
        .find(|folder| folder.join("deps").is_dir())?;
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("mesh").replace("::", "-");
    Some(profile.parent()?.join("logs").join(name))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_kept_under_the_name_of_the_test() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("manifests")).unwrap();
        fs::write(directory.path().join("manifests/pod.yaml"), "kind: Pod").unwrap();
        keep(directory.path());
        let kept = folder().unwrap();
        assert!(kept.ends_with("logs/mesh-logs-tests-files_are_kept_under_the_name_of_the_test"));
        let file = fs::read_to_string(kept.join("manifests/pod.yaml")).unwrap();
        assert_eq!(file, "kind: Pod");
        fs::remove_dir_all(kept).unwrap();
    }
}
