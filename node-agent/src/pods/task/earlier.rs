//! The end of a pod's connections from before, beside the thread that all pods' tasks share: a pod
//! may have very many.

use std::sync::Arc;

use super::{PodTask, State};
use crate::earlier_connections;

impl PodTask {
    /// Ends the pod's connections that were opened before it was refused or captured, or while
    /// more of them passed than now. Those that are not refused go on until it is captured.
    pub(super) async fn end_earlier_connections(&mut self) {
        let refused = self.workload.refused_uncaptured();
        let (sockets, wanted) = match &self.state {
            State::Enforced(pod) => (Arc::clone(pod.sockets()), refused),
            State::Captured(pod) => {
                let settings = &self.node.settings;
                let wanted = settings.earlier_connections_to_end(refused);
                (Arc::clone(pod.sockets()), wanted)
            }
            _ => return,
        };
        if let Some(directions) = wanted {
            let exclusions = self.workload.exclusions.clone();
            let draining = self.node.draining.clone();
            let work = move || {
                earlier_connections::end(sockets.namespace(), directions, &exclusions, &draining)
            };
            let result = self.node.blocking.run(work).await;
            self.report_earlier(result);
        }
    }

    /// Those of a pod that was refused have ended, as far as they were: ends the others, where a
    /// captured pod may not have them.
    pub(super) async fn end_connections_not_refused(&mut self) {
        let refused = self.workload.refused_uncaptured();
        if self.node.settings.earlier_connections_to_end(refused) != refused {
            self.end_earlier_connections().await;
        }
    }
}
