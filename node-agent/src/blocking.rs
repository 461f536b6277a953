//! Work that may take its time in the kernel: on other threads than the one that all pods' tasks
//! share, and only so much of it at once.

use std::io;

use tokio::sync::Semaphore;

/// Pieces of work at once.
const AT_ONCE: usize = 4;

/// The turns of such work.
#[derive(Debug)]
pub(crate) struct BlockingWork(Semaphore);

impl Default for BlockingWork {
    fn default() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }
}

impl BlockingWork {
    /// Does a piece of work, once there is a turn for it. Whoever asks may wait for other things
    /// meanwhile; the work itself ends by itself only.
    ///
    /// # Errors
    /// Those of the work.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        // It is never closed.
        let _turn = self.0.acquire().await;
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn work_that_blocks_holds_up_nobody_else_and_runs_in_turns() {
        let turns = Arc::new(BlockingWork::default());
        let started = Arc::<AtomicUsize>::default();
        let mut works = Vec::new();
        for _ in 0..AT_ONCE + 2 {
            let (end, ended) = mpsc::channel::<()>();
            let (turns, started) = (Arc::clone(&turns), Arc::clone(&started));
            let work = tokio::spawn(async move {
                turns
                    .run(move || {
                        started.fetch_add(1, Ordering::Relaxed);
                        ended.recv().map_err(io::Error::other)
                    })
                    .await
            });
            works.push((end, work));
        }
        // This thread goes on while all of them block.
        let all_turns = async {
            while started.load(Ordering::Relaxed) < AT_ONCE {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let deadline = Duration::from_secs(30);
        tokio::time::timeout(deadline, all_turns).await.unwrap();
        assert_eq!(started.load(Ordering::Relaxed), AT_ONCE);
        for (end, work) in works {
            end.send(()).unwrap();
            let done = tokio::time::timeout(deadline, work).await;
            done.unwrap().unwrap().unwrap();
        }
        assert_eq!(started.load(Ordering::Relaxed), AT_ONCE + 2);
    }
}
