//! What connections have of the process's descriptors.
//!
//! A part of all is kept for what keeps pods in the mesh: listeners, discovery, certificates,
//! capture, the admin endpoints. Of the rest a pod may have as much as is left: one that takes
//! all it gets has half of it, two have a third each, and there is always some for the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The part of all that is kept for control, as a divisor; and more than this is not needed.
const CONTROL_DIVISOR: usize = 4;
const MOST_FOR_CONTROL: usize = 16 * 1024;

/// The descriptors of the process, as far as connections may have them.
#[derive(Debug)]
pub(crate) struct DescriptorAccount {
    limit: usize,
    used: AtomicUsize,
}

/// The part that one pod has of them.
#[derive(Debug)]
pub(crate) struct PodDescriptors {
    account: Arc<DescriptorAccount>,
    used: AtomicUsize,
}

/// One of them, of a connection's end; given back when dropped.
#[derive(Debug)]
pub(crate) struct DescriptorShare(Arc<PodDescriptors>);

impl DescriptorAccount {
    /// For a process that may have that many open files (getrlimit(2), `RLIMIT_NOFILE`).
    pub(crate) fn new(open_files: usize) -> Self {
        let control = (open_files / CONTROL_DIVISOR).min(MOST_FOR_CONTROL);
        Self {
            limit: open_files - control,
            used: AtomicUsize::new(0),
        }
    }

    /// Descriptors that connections may have, and those that they have now.
    #[cfg(test)]
    pub(crate) fn usage(&self) -> (usize, usize) {
        (self.limit, self.used.load(Ordering::Relaxed))
    }
}

/// Whether a pod that has `own` may have one more where all have `used` of `limit`.
fn may_take(limit: usize, used: usize, own: usize) -> bool {
    own < limit.saturating_sub(used).saturating_sub(1)
}

impl PodDescriptors {
    /// A pod's part, of which it has nothing yet.
    pub(crate) fn new(account: Arc<DescriptorAccount>) -> Self {
        Self {
            account,
            used: AtomicUsize::new(0),
        }
    }

    /// That of one more end of a connection, accepted or opened; `None` when the pod has as many
    /// as it may.
    pub(crate) fn take(self: &Arc<Self>) -> Option<DescriptorShare> {
        let account = &self.account;
        let used = account.used.fetch_add(1, Ordering::Relaxed);
        let own = self.used.fetch_add(1, Ordering::Relaxed);
        // Given back when it is dropped, also where it is too much.
        let share = DescriptorShare(Arc::clone(self));
        may_take(account.limit, used, own).then_some(share)
    }
}

impl Default for PodDescriptors {
    /// Of a process that may have as many as it likes.
    fn default() -> Self {
        Self::new(Arc::new(DescriptorAccount::new(usize::MAX)))
    }
}

impl Drop for DescriptorShare {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
        self.0.account.used.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pods(open_files: usize, count: usize) -> Vec<Arc<PodDescriptors>> {
        let account = Arc::new(DescriptorAccount::new(open_files));
        let pod = || Arc::new(PodDescriptors::new(Arc::clone(&account)));
        std::iter::repeat_with(pod).take(count).collect()
    }

    /// As many as a pod gets.
    fn take_all(pod: &Arc<PodDescriptors>) -> Vec<DescriptorShare> {
        std::iter::from_fn(|| pod.take()).collect()
    }

    #[test]
    fn a_pod_that_takes_all_it_gets_leaves_as_much_for_the_others() {
        let pods = pods(4000, 2);
        let greedy = take_all(&pods[0]);
        assert_eq!(greedy.len(), 1500, "half of what is not for control");
        let another = take_all(&pods[1]);
        assert!(another.len() >= 600, "{}", another.len());
        drop((greedy, another));
        assert_eq!(pods[0].account.usage(), (3000, 0));
        assert_eq!(take_all(&pods[0]).len(), 1500);
    }

    #[test]
    fn without_a_limit_all_are_admitted() {
        assert!(Arc::<PodDescriptors>::default().take().is_some());
    }

    proptest! {
        #[test]
        fn all_pods_together_never_have_more_than_there_is(
            open_files in 0usize..5000,
            turns in prop::collection::vec(0usize..4, 0..3000),
        ) {
            let pods = pods(open_files, 4);
            let mut held = Vec::new();
            for pod in turns {
                held.extend(pods[pod].take());
            }
            let (limit, used) = pods[0].account.usage();
            prop_assert_eq!(used, held.len());
            prop_assert!(used <= limit && limit <= open_files);
        }
    }
}
