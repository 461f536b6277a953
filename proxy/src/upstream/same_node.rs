//! Pods of one node as each other's destinations. One process holds both ends, so a
//! connection is handed from one pod's outbound side to the other's inbound side: it never
//! reaches a wire, and is authorized and recorded like any other.
//!
//! The trait stands here so that connecting knows no inbound walk.

use std::collections::HashMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, RwLock};

use weft_model::workload::{Workload, WorkloadUid};

use super::connection::UpstreamConnection;
use super::error::SameNodeRefusal;
use crate::sync::{read, write};

/// A connection that one pod of this node makes to another.
#[derive(Clone, Debug)]
pub(crate) struct SameNodeArrival {
    /// The pod that it comes from; this process vouches for its identity.
    pub(crate) source: Arc<Workload>,
    /// The application's end, with the source pod's address.
    pub(crate) client: SocketAddr,
    /// Address and port of the destination pod.
    pub(crate) destination: SocketAddr,
}

/// A connection that is being handed over.
pub(crate) type HandOver<'a> =
    Pin<Box<dyn Future<Output = Result<UpstreamConnection, SameNodeRefusal>> + Send + 'a>>;

/// The inbound side of a pod, as its neighbours reach it.
pub(crate) trait SameNodeInbound: Debug + Send + Sync {
    /// Authorizes a connection, connects it to the pod's application and opens the pod's
    /// own record of it.
    fn hand_over(&self, arrival: SameNodeArrival) -> HandOver<'_>;
}

/// The pods that this process serves, as each other's neighbours.
#[derive(Debug, Default)]
pub(crate) struct Neighbours(RwLock<HashMap<WorkloadUid, Arc<dyn SameNodeInbound>>>);

impl Neighbours {
    /// The inbound side of a pod.
    pub(crate) fn get(&self, uid: &WorkloadUid) -> Option<Arc<dyn SameNodeInbound>> {
        let neighbours = read(&self.0);
        neighbours.get(uid).map(Arc::clone)
    }

    /// Adds a pod, or a later run of its proxy.
    pub(crate) fn insert(&self, uid: WorkloadUid, inbound: Arc<dyn SameNodeInbound>) {
        let mut neighbours = write(&self.0);
        neighbours.insert(uid, inbound);
    }

    /// Removes a pod, unless a later run of its proxy has taken its place.
    pub(crate) fn remove(&self, uid: &WorkloadUid, inbound: &Arc<dyn SameNodeInbound>) {
        let mut neighbours = write(&self.0);
        if neighbours
            .get(uid)
            .is_some_and(|current| Arc::ptr_eq(current, inbound))
        {
            neighbours.remove(uid);
        }
    }
}
