//! What clients report: counts, the first errors, one line of JSON.

use std::fmt::Display;
use std::io;

use serde::Serialize;

const ERRORS_SHOWN: usize = 5;

/// Counts of what was tried.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Tally {
    /// Went well.
    pub(crate) ok: u64,
    /// Did not.
    pub(crate) failed: u64,
    /// The first reasons.
    pub(crate) errors: Vec<String>,
}

impl Tally {
    /// Counts one.
    pub(crate) fn add<E: Display>(&mut self, result: Result<(), E>) {
        match result {
            Ok(()) => self.ok += 1,
            Err(error) => {
                self.failed += 1;
                if self.errors.len() < ERRORS_SHOWN {
                    self.errors.push(error.to_string());
                }
            }
        }
    }
}

/// Writes the report.
#[allow(clippy::print_stdout)]
pub(crate) fn write(report: &impl Serialize) -> io::Result<()> {
    println!("{}", serde_json::to_string(report)?);
    Ok(())
}

/// Writes a line for whoever waits for it.
#[allow(clippy::print_stdout)]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Writes a line for whoever looks for errors.
#[allow(clippy::print_stderr)]
pub(crate) fn complain(error: &dyn Display) {
    eprintln!("{error}");
}
