//! The end of a pod's connections from before, beside the thread that all pods' tasks share: a pod
//! may have very many.

use std::sync::Arc;

use super::{PodTask, State};
use crate::earlier_connections;

impl PodTask {
    /// Ends the pod's connections that were opened before it was refused or captured, or while
    /// more of them passed than now.
    pub(super) async fn end_earlier_connections(&mut self) {
        let refused = self.workload.refused_uncaptured();
        let wanted = self.node.settings.earlier_connections_to_end(refused);
        let sockets = match &self.state {
            State::Enforced(pod) => Arc::clone(pod.sockets()),
            State::Captured(pod) => Arc::clone(pod.sockets()),
            _ => return,
        };
        if let Some(directions) = wanted {
            let exclusions = self.workload.exclusions.clone();
            let work =
                move || earlier_connections::end(sockets.namespace(), directions, &exclusions);
            let result = self.node.blocking.run(work).await;
            self.report_earlier(result);
        }
    }
}
