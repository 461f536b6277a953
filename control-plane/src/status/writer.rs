//! The one way in which a status gets into the API server: several objects at a time,
//! each again when it failed.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::queue::StatusQueue;

/// Writes at a time.
const WRITERS: usize = 16;
/// Wait after the first failure; it doubles with each further one of the same object.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest wait after a failure.
const LAST_RETRY: Duration = Duration::from_secs(10);

/// The end of a write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// The object's status is right now.
    Written,
    /// The object is gone, or is another than the one that was spoken of. If it matters
    /// still, the object itself brings it up again.
    Superseded,
    /// It has to be tried again.
    Failed,
}

/// Writes what the queue holds, by `write`. Of one object there is one write at a time: its
/// next value waits, during the wait before a retry, too, so that nothing older ever comes
/// after something newer. Never ends; what it was writing when it is dropped is lost.
pub(crate) async fn write_queued<K, V, F>(queue: &StatusQueue<K, V>, write: impl Fn(K, V) -> F)
where
    K: Ord + Clone,
    V: Clone,
    F: Future<Output = Outcome>,
{
    let (mut writes, mut retries) = (FuturesUnordered::new(), FuturesUnordered::new());
    let mut busy = BTreeSet::new();
    let mut failures = BTreeMap::<K, u32>::new();
    loop {
        while writes.len() < WRITERS
            && let Some((object, value)) = queue.pop(|object| !busy.contains(object))
        {
            busy.insert(object.clone());
            let written = write(object.clone(), value.clone());
            writes.push(async move { (object, value, written.await) });
        }
        let pushed = pin!(queue.pushed());
        tokio::select! {
            Some((object, value, outcome)) = writes.next() => match outcome {
                Outcome::Written | Outcome::Superseded => {
                    failures.remove(&object);
                    busy.remove(&object);
                }
                Outcome::Failed => {
                    let failed = failures.entry(object.clone()).or_default();
                    let wait = retry_delay(*failed);
                    *failed = failed.saturating_add(1);
                    retries.push(async move {
                        tokio::time::sleep(wait).await;
                        (object, value)
                    });
                }
            },
            Some((object, value)) = retries.next() => {
                busy.remove(&object);
                queue.push_again(object, value);
            }
            () = pushed => {}
        }
    }
}

fn retry_delay(failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
    FIRST_RETRY.saturating_mul(factor.max(1)).min(LAST_RETRY)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Writes that were begun, and how the next ones of an object end.
    #[derive(Debug, Default)]
    struct Bed {
        queue: StatusQueue<u32, &'static str>,
        begun: Mutex<Vec<(u32, &'static str)>>,
        failing: Mutex<BTreeSet<u32>>,
        slow: Mutex<BTreeSet<u32>>,
    }

    impl Bed {
        /// Writes for a while, by tokio's paused clock.
        async fn write_for(self: &Arc<Self>, time: Duration) -> Vec<(u32, &'static str)> {
            let writing = write_queued(&self.queue, |object, value| async move {
                self.begun.lock().unwrap().push((object, value));
                let is_slow = self.slow.lock().unwrap().contains(&object);
                if is_slow {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                match self.failing.lock().unwrap().contains(&object) {
                    true => Outcome::Failed,
                    false => Outcome::Written,
                }
            });
            let _ = tokio::time::timeout(time, writing).await;
            std::mem::take(&mut self.begun.lock().unwrap())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_tried_again_later_and_later_and_holds_up_nobody() {
        let bed = Arc::new(Bed::default());
        // As many as there are writers.
        bed.failing.lock().unwrap().extend(0..16);
        for object in 0..20 {
            bed.queue.push(object, "a");
        }
        let begun = bed.write_for(Duration::from_millis(900)).await;
        let all: Vec<_> = (0..20).map(|object| (object, "a")).collect();
        assert_eq!(
            begun, all,
            "each once, those that follow the failing ones too"
        );

        let bed = Arc::new(Bed::default());
        bed.failing.lock().unwrap().insert(7);
        bed.queue.push(7, "a");
        // At 0, 1, 3, 7, 15 and then every 10 seconds.
        let begun = bed.write_for(Duration::from_millis(36_500)).await;
        assert_eq!(begun.len(), 7, "{begun:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_value_is_never_followed_by_an_older_one() {
        let bed = Arc::new(Bed::default());
        bed.failing.lock().unwrap().insert(1);
        bed.queue.push(1, "old");
        let newer = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            bed.failing.lock().unwrap().clear();
            bed.queue.push(1, "new");
        };
        let (begun, ()) = tokio::join!(bed.write_for(Duration::from_secs(30)), newer);
        assert_eq!(begun, [(1, "old"), (1, "new")]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_object_has_one_write_at_a_time() {
        let bed = Arc::new(Bed::default());
        bed.slow.lock().unwrap().insert(1);
        bed.queue.push(1, "first");
        let more = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            for value in ["second", "third"] {
                bed.queue.push(1, value);
            }
            bed.queue.push(2, "other");
            tokio::time::sleep(Duration::from_millis(100)).await;
            bed.begun.lock().unwrap().clone()
        };
        let (begun, meanwhile) = tokio::join!(bed.write_for(Duration::from_secs(5)), more);
        assert_eq!(meanwhile, [(1, "first"), (2, "other")]);
        assert_eq!(begun, [(1, "first"), (2, "other"), (1, "third")]);
    }
}
