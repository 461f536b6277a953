//! Objects whose status may have to be written. It knows neither the objects nor who
//! writes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Objects that wait, each once however often it changes; the latest value counts. They
/// wait until somebody takes them, such as who holds the lease, first in, first out: one
/// that changes all the time holds up no other.
#[derive(Debug)]
pub(crate) struct StatusQueue<K, V = ()> {
    waiting: Mutex<Waiting<K, V>>,
    more: Notify,
}

/// The objects, and their order.
#[derive(Debug)]
struct Waiting<K, V> {
    /// With the place of each.
    objects: BTreeMap<K, (u64, V)>,
    /// By place.
    order: BTreeMap<u64, K>,
    /// The place of the next that comes.
    next: u64,
    /// Somebody writes what waits here, see [`StatusQueue::start_writing`].
    is_written: bool,
}

/// Somebody who writes what waits in a queue, until it is dropped.
#[derive(Debug)]
pub(crate) struct Writing<'a, K, V>(&'a StatusQueue<K, V>);

impl<K, V> Default for StatusQueue<K, V> {
    fn default() -> Self {
        let waiting = Waiting {
            objects: BTreeMap::new(),
            order: BTreeMap::new(),
            next: 0,
            is_written: false,
        };
        Self {
            waiting: Mutex::new(waiting),
            more: Notify::new(),
        }
    }
}

impl<K: Ord + Clone, V> StatusQueue<K, V> {
    /// The status of an object may have to be written. One that waits already keeps its
    /// place.
    pub(crate) fn push(&self, object: K, value: V) {
        let mut waiting = self.lock();
        match waiting.objects.get_mut(&object) {
            Some((_, before)) => *before = value,
            None => waiting.append(object, value),
        }
        drop(waiting);
        self.more.notify_one();
    }

    /// The same, but only while somebody writes: who begins to looks at all objects anyway,
    /// and names of those that are gone must not fill the memory of who never does.
    pub(crate) fn push_if_written(&self, object: K, value: V) {
        if self.lock().is_written {
            self.push(object, value);
        }
    }

    /// Somebody begins to write, and will look at all objects by himself.
    pub(crate) fn start_writing(&self) -> Writing<'_, K, V> {
        self.lock().is_written = true;
        Writing(self)
    }

    /// It could not be written: it waits again, behind the others, unless there is
    /// something newer.
    pub(super) fn push_again(&self, object: K, value: V) {
        let mut waiting = self.lock();
        if !waiting.objects.contains_key(&object) {
            waiting.append(object, value);
        }
        drop(waiting);
        self.more.notify_one();
    }

    /// The status of an object needs no writing any more.
    pub(crate) fn forget(&self, object: &K) {
        let mut waiting = self.lock();
        if let Some((place, _)) = waiting.objects.remove(object) {
            waiting.order.remove(&place);
        }
    }

    /// The object that waits longest of those that may be written now; it waits no more.
    /// Those that may not keep their places.
    pub(crate) fn pop(&self, may_be_written: impl Fn(&K) -> bool) -> Option<(K, V)> {
        let mut waiting = self.lock();
        let mut order = waiting.order.iter();
        let (&place, _) = order.find(|(_, object)| may_be_written(object))?;
        let object = waiting.order.remove(&place)?;
        let (_, value) = waiting.objects.remove(&object)?;
        Some((object, value))
    }

    /// Completes when there is one more, also if that was while nobody waited here.
    pub(super) async fn pushed(&self) {
        self.more.notified().await;
    }
}

impl<K, V> StatusQueue<K, V> {
    fn lock(&self) -> MutexGuard<'_, Waiting<K, V>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Drop for Writing<'_, K, V> {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.is_written = false;
        waiting.objects.clear();
        waiting.order.clear();
    }
}

impl<K: Ord + Clone, V> Waiting<K, V> {
    /// Puts an object that doesn't wait yet behind the others.
    fn append(&mut self, object: K, value: V) {
        let place = self.next;
        self.next += 1;
        self.order.insert(place, object.clone());
        self.objects.insert(object, (place, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all<V>(queue: &StatusQueue<&'static str, V>) -> Vec<(&'static str, V)> {
        std::iter::from_fn(|| queue.pop(|_| true)).collect()
    }

    #[test]
    fn an_object_waits_once_with_its_latest_value_until_it_is_taken_or_forgotten() {
        let queue = StatusQueue::default();
        for (object, value) in [("a", 1), ("b", 1), ("c", 1), ("a", 2)] {
            queue.push(object, value);
        }
        queue.forget(&"b");
        assert_eq!(all(&queue), [("a", 2), ("c", 1)]);
        assert_eq!(all(&queue), []);
    }

    #[test]
    fn nothing_waits_for_a_writer_who_is_not_there() {
        let queue = StatusQueue::default();
        queue.push_if_written("gone", ());
        assert_eq!(all(&queue), []);
        let writing = queue.start_writing();
        queue.push_if_written("a", ());
        queue.push_if_written("b", ());
        assert_eq!(queue.pop(|_| true), Some(("a", ())));
        drop(writing);
        queue.push_if_written("c", ());
        assert_eq!(all(&queue), []);
    }

    #[test]
    fn what_failed_does_not_replace_what_is_newer() {
        let queue = StatusQueue::default();
        queue.push_again("a", 1);
        queue.push("b", 2);
        queue.push_again("b", 1);
        assert_eq!(all(&queue), [("a", 1), ("b", 2)]);
    }

    #[test]
    fn one_that_may_not_be_written_lets_the_next_pass() {
        let queue = StatusQueue::default();
        queue.push("a", ());
        queue.push("b", ());
        assert_eq!(queue.pop(|object| *object != "a"), Some(("b", ())));
        assert_eq!(queue.pop(|object| *object != "a"), None);
        assert_eq!(all(&queue), [("a", ())]);
    }

    #[test]
    fn objects_that_are_pushed_again_and_again_do_not_hold_up_the_last() {
        let queue = StatusQueue::default();
        for object in ["z", "b", "a"] {
            queue.push(object, 1);
        }
        queue.push("z", 2);
        assert_eq!(
            queue.pop(|object| *object != "z"),
            Some(("b", 1)),
            "what is busy lets the next pass"
        );
        queue.push("b", 2);
        queue.push_again("b", 1);
        assert_eq!(all(&queue), [("z", 2), ("a", 1), ("b", 2)]);
    }
}
