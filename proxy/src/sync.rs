//! What tasks share: locks, and whose turn it is.
//!
//! Locks whose holders may have panicked: what they guard here stays consistent at every
//! step, so one connection's panic must not take the others down.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// Locks a mutex.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for reading.
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for writing.
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Work that many could do and one has to, every now and then.
#[derive(Debug, Default)]
pub(crate) struct SharedTurn(Mutex<Option<Instant>>);

impl SharedTurn {
    /// Whether it is due, at most once in that time: whoever is told so does it.
    pub(crate) fn is_due(&self, now: Instant, interval: Duration) -> bool {
        let mut last = lock(&self.0);
        let is_due = last.is_none_or(|last| now.saturating_duration_since(last) >= interval);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_who_ask_one_has_the_work_to_do_and_the_next_after_the_interval() {
        let (turn, began) = (SharedTurn::default(), Instant::now());
        let interval = Duration::from_secs(10);
        let due = |after| {
            let now = began + Duration::from_secs(after);
            (0..100).filter(|_| turn.is_due(now, interval)).count()
        };
        assert_eq!([due(0), due(9), due(10), due(19)], [1, 0, 1, 0]);
    }
}
