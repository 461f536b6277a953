//! Work of many connections of one pod, beside that of others on the same thread.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::ready;

use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// Turns of one pod. Whoever has had one gives it on when everything else that is ready on the
/// thread has run, and what the network has made ready since: of thousands of connections that
/// all have work to do, a neighbour waits for one.
#[derive(Debug)]
pub(super) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Turns {
    /// Runs a future, each of its steps in a turn of its own.
    pub(super) async fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let next = || Arc::clone(&self.0).acquire_owned();
        let (mut future, mut turn) = (pin!(future), pin!(next()));
        poll_fn(|context| {
            let permit = ready!(turn.as_mut().poll(context));
            turn.set(next());
            let output = future.as_mut().poll(context);
            // Not here: the next would run before the network is looked at.
            tokio::spawn(async move {
                yield_now().await;
                drop(permit);
            });
            output
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::task::JoinSet;

    use super::*;

    const STEPS: usize = 3;
    const MANY: usize = 200;

    /// Steps that others had between two turns of a neighbour, at most; `of_pods` pods with
    /// many connections each.
    async fn most_between(of_pods: usize, in_turns: bool) -> usize {
        let steps = Arc::<AtomicUsize>::default();
        let mut connections = JoinSet::new();
        for _ in 0..of_pods {
            let turns = Arc::new(Turns::default());
            for _ in 0..MANY {
                let (turns, steps) = (Arc::clone(&turns), Arc::clone(&steps));
                connections.spawn(async move {
                    let work = async {
                        for _ in 0..STEPS {
                            steps.fetch_add(1, Ordering::Relaxed);
                            yield_now().await;
                        }
                    };
                    match in_turns {
                        true => turns.run(work).await,
                        false => work.await,
                    }
                });
            }
        }
        let (mut most, mut before) = (0, 0);
        while before < of_pods * MANY * STEPS {
            yield_now().await;
            let now = steps.load(Ordering::Relaxed);
            most = most.max(now - before);
            before = now;
        }
        connections.join_all().await;
        most
    }

    #[tokio::test]
    async fn a_neighbour_waits_for_one_step_of_each_pod_however_many_connections_that_has() {
        assert!(most_between(1, false).await > 20);
        assert!(most_between(1, true).await <= 2);
        assert!(most_between(3, true).await <= 6);
    }
}
