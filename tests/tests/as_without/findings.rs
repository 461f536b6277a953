//! What comes out of the comparison, and whether that is what the table says.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::bed::Way;
use crate::differences::{self, DIFFERENCES, Difference, Key};

/// What cases have shown, which run beside each other.
#[derive(Debug, Default)]
pub(crate) struct Findings(Mutex<Found>);

#[derive(Debug, Default)]
struct Found {
    /// Differences that are in no table, and cases that are none, in words.
    unexpected: Vec<String>,
    /// What differs and may.
    expected: BTreeSet<Key>,
}

impl Findings {
    /// A case that can't be compared.
    pub(crate) fn add_problem(&self, problem: String) {
        self.0.lock().unwrap().unexpected.push(problem);
    }

    /// A property of a case that differs on a way: without the mesh, and in it.
    pub(crate) fn add(
        &self,
        case: &str,
        way: Way,
        property: &str,
        [without, within]: [&dyn Display; 2],
    ) {
        match differences::find(case, property, way) {
            Some(known) => {
                self.0.lock().unwrap().expected.insert(known);
            }
            None => self.add_problem(format!(
                "{case}, {}, {property}: {without} without the mesh, {within} in it",
                way.name
            )),
        }
    }

    /// Asserts that what differs is in the table, and that what the table has of these cases
    /// still differs.
    pub(crate) fn assert_as_known(&self, is_of_these: impl Fn(&str) -> bool) {
        let found = self.0.lock().unwrap();
        let unexpected = &found.unexpected;
        assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
        let known = DIFFERENCES.iter().flat_map(Difference::keys);
        let stale = known.filter(|key| is_of_these(key.0) && !found.expected.contains(key));
        let stale: Vec<_> = stale.collect();
        assert!(stale.is_empty(), "no difference any more: {stale:?}");
    }
}

/// Does something with each, that many at the same time.
pub(crate) fn for_each_of<T: Sync>(all: &[T], at_once: usize, work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(one);
                }
            });
        }
    });
}
