//! What tells the series of two connections apart: what their labels are made of, without
//! making them.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use weft_model::workload::Workload;

use super::budget::Account;
use crate::telemetry::info::{ConnectionInfo, Direction, Peer};

/// A connection, equal to any other that has the same labels.
#[derive(Clone, Debug)]
pub(super) struct ConnectionKey(pub(super) Arc<ConnectionInfo>);

impl ConnectionKey {
    /// Who makes its series necessary.
    pub(super) fn account(&self) -> Account {
        match self.0.direction {
            Direction::Outbound => Account::Outbound,
            Direction::Inbound => {
                let client = self.0.source.workload.as_ref();
                Account::Inbound(client.map(|client| client.namespace().into()))
            }
        }
    }
}

impl PartialEq for ConnectionKey {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (&*self.0, &*other.0);
        Arc::ptr_eq(&self.0, &other.0)
            || (a.direction == b.direction
                && a.security.is_mutual() == b.security.is_mutual()
                && a.service == b.service
                && a.service_hostname == b.service_hostname
                && is_same_end(a.remote(), b.remote())
                && is_same_end(a.local(), b.local()))
    }
}

impl Eq for ConnectionKey {}

impl Hash for ConnectionKey {
    /// The other end and the service: what differs between the connections of one pod.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let info = &*self.0;
        info.direction.hash(state);
        info.service_hostname.hash(state);
        let remote = info.remote();
        match &remote.workload {
            Some(workload) => workload_name(workload).hash(state),
            None => remote.identity.hash(state),
        }
    }
}

/// The name under which metrics know a workload: its owner's, else its own.
pub(super) fn workload_name(workload: &Workload) -> &Arc<str> {
    match workload.labels.workload.is_empty() {
        true => &workload.name,
        false => &workload.labels.workload,
    }
}

fn is_same_end(a: &Peer, b: &Peer) -> bool {
    let is_same_workload = match (&a.workload, &b.workload) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b) || have_same_labels(a, b),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    is_same_workload && a.identity == b.identity
}

fn have_same_labels(a: &Workload, b: &Workload) -> bool {
    workload_name(a) == workload_name(b)
        && a.namespace() == b.namespace()
        && a.labels.app == b.labels.app
        && a.labels.version == b.labels.version
}
