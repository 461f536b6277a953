//! The programs that work on this node, and those that don't.

use std::fmt;

/// The programs that work on this node, tried for real: loaded, and attached to a cgroup
/// or namespace made for the purpose.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Capabilities {
    programs: Vec<(&'static str, Option<String>)>,
}

impl Capabilities {
    /// True when connections can be captured here.
    pub fn is_complete(&self) -> bool {
        self.failures().next().is_none()
    }

    /// All programs, each with the reason where it doesn't work.
    pub fn programs(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        let programs = self.programs.iter();
        programs.map(|(name, failure)| (*name, failure.as_deref()))
    }

    /// The programs that don't work, each with the reason.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.programs
            .iter()
            .filter_map(|(name, failure)| Some((*name, failure.as_deref()?)))
    }

    pub(super) fn record(&mut self, name: &'static str, result: Result<(), String>) {
        self.programs.push((name, result.err()));
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failures: Vec<String> = self
            .failures()
            .map(|(name, reason)| format!("{name}: {reason}"))
            .collect();
        match failures.is_empty() {
            true => write!(f, "all {} eBPF programs work", self.programs.len()),
            false => f.write_str(&failures.join("; ")),
        }
    }
}
