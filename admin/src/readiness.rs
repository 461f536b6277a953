//! Whether a process is ready, and if not, why.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What has to be so before the process is ready, by name.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<BTreeMap<&'static str, Result<(), String>>>);

impl Readiness {
    /// The named condition holds.
    pub fn met(&self, condition: &'static str) {
        self.lock().insert(condition, Ok(()));
    }

    /// The named condition doesn't hold, and why.
    pub fn unmet(&self, condition: &'static str, why: impl Into<String>) {
        self.lock().insert(condition, Err(why.into()));
    }

    /// Whether all conditions hold.
    pub fn is_ready(&self) -> bool {
        self.lock().values().all(Result::is_ok)
    }

    /// A line for each condition.
    pub(crate) fn describe(&self) -> String {
        let conditions = self.lock();
        let line = |(name, state): (&&str, &Result<(), String>)| match state {
            Ok(()) => format!("{name}: ok\n"),
            Err(why) => format!("{name}: {why}\n"),
        };
        conditions.iter().map(line).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Result<(), String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
