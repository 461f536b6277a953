//! One pod's proxy, from its start to its drain.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use weft_model::address::canonical;
use weft_model::workload::{Workload, WorkloadUid};

use super::accept::{Lifetime, Serve, accept};
use super::connector::Connector;
use super::listeners::{Listener, Listeners};
use super::upkeep::follow_changes;
use crate::admission::{Admission, Direction, Handshake};
use crate::inbound::same_node::SameNodeListener;
use crate::node::Node;
use crate::outbound::EarlyConnections;
use crate::pod::Pod;
use crate::sockets::Sockets;
use crate::telemetry::CutReason;
use crate::upstream::SameNodeInbound;
use crate::{inbound, outbound};

/// The time that tunnel connections have to end once nothing uses them any more.
const CLOSING: Duration = Duration::from_secs(2);

/// A running proxy of one pod. Dropped without [`PodProxy::drain`], it stops taking
/// connections and cuts those it has.
#[derive(Debug)]
pub struct PodProxy {
    pod: Arc<Pod>,
    inbox: Arc<dyn SameNodeInbound>,
    listeners: Listeners,
    lifetime: Lifetime,
    early: Arc<EarlyConnections>,
    worker: Handle,
    tasks: Vec<JoinHandle<()>>,
}

/// The kind of connections that a listener takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Outbound,
    Plaintext,
    Hbone,
}

/// Serves the connections of one listener.
struct Server {
    kind: Kind,
    pod: Arc<Pod>,
    early: Arc<EarlyConnections>,
    lifetime: Lifetime,
}

/// What lets a connection in: a place among the pod's, or among the handshakes of clients that
/// have proven nothing.
enum Permit {
    Connection(Admission),
    Handshake(Handshake),
}

impl Server {
    fn admit_connection(&self, direction: Direction) -> Option<Permit> {
        self.pod.admit(direction).map(Permit::Connection)
    }
}

impl Serve for Server {
    type Permit = Permit;

    fn admit(&self, peer: SocketAddr) -> Option<Permit> {
        match self.kind {
            Kind::Outbound => self.admit_connection(Direction::Outbound),
            Kind::Plaintext => self.admit_connection(Direction::Inbound),
            Kind::Hbone => {
                let client = canonical(peer).ip();
                self.pod.begin_handshake(client).map(Permit::Handshake)
            }
        }
    }

    fn serve(
        &self,
        permit: Permit,
        accepted: TcpStream,
        peer: SocketAddr,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (kind, pod) = (self.kind, Arc::clone(&self.pod));
        let early = Arc::clone(&self.early);
        let draining = self.lifetime.draining.clone();
        async move {
            match permit {
                Permit::Handshake(begun) => {
                    inbound::hbone::serve(pod, begun, accepted, peer, draining).await;
                }
                Permit::Connection(_admission) if kind == Kind::Outbound => {
                    outbound::serve(pod, early, accepted, peer, draining).await;
                }
                Permit::Connection(_admission) => {
                    inbound::plaintext::serve(pod, accepted, peer, draining).await;
                }
            }
        }
    }

    fn refuse_over_limit(&self, accepted: TcpStream, peer: SocketAddr) {
        match self.kind {
            Kind::Outbound => outbound::refuse_over_limit(&self.pod, accepted, peer),
            Kind::Plaintext => inbound::plaintext::refuse_over_limit(&self.pod, accepted, peer),
            Kind::Hbone => inbound::hbone::refuse_over_limit(&self.pod, accepted, peer),
        }
    }
}

impl PodProxy {
    /// Opens the listeners inside the pod's namespace and serves them on `worker`.
    ///
    /// # Errors
    /// When a listener can't be opened; IPv6 may be missing.
    pub fn start(
        node: Arc<Node>,
        workload: Arc<Workload>,
        sockets: Arc<dyn Sockets>,
        worker: &Handle,
    ) -> io::Result<Self> {
        let listeners = Listeners::bind(&*sockets)?;
        Self::start_with(listeners, node, workload, sockets, worker)
    }

    /// Serves listeners that are there already, such as a predecessor's, on `worker`.
    ///
    /// # Errors
    /// When the worker can't accept from them.
    pub fn start_with(
        listeners: Listeners,
        node: Arc<Node>,
        workload: Arc<Workload>,
        sockets: Arc<dyn Sockets>,
        worker: &Handle,
    ) -> io::Result<Self> {
        let pod = Arc::new(Pod::new(node, workload, sockets));
        let mut proxy = Self {
            inbox: Arc::new(SameNodeListener(Arc::clone(&pod))),
            pod,
            listeners,
            lifetime: Lifetime::default(),
            early: Arc::default(),
            worker: worker.clone(),
            tasks: Vec::new(),
        };
        let _runtime = worker.enter();
        proxy.serve_all()?;
        let (pod, inbox) = (&proxy.pod, Arc::clone(&proxy.inbox));
        pod.node.neighbours.insert(pod.uid().clone(), inbox);
        Ok(proxy)
    }

    /// The listeners, to steer connections to.
    pub fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// Connects the pod's connections before they are accepted.
    pub fn connector(&self) -> Connector {
        Connector {
            pod: Arc::clone(&self.pod),
            early: Arc::clone(&self.early),
            lifetime: self.lifetime.clone(),
            worker: self.worker.clone(),
        }
    }

    /// The pod that it serves.
    pub fn uid(&self) -> &WorkloadUid {
        self.pod.uid()
    }

    /// Connections that it serves now.
    pub fn open_connections(&self) -> usize {
        self.pod.telemetry.connections().len()
    }

    /// Takes no new connections, from now on; connections that were not accepted yet are
    /// reset, and the ports are free for a successor.
    pub fn stop_accepting(&self) {
        self.pod.node.neighbours.remove(self.uid(), &self.inbox);
        self.pod.http_pool.close();
        self.lifetime.draining.cancel();
        self.listeners.shut_down();
    }

    /// Takes no new connections, tells tunnel clients so, serves what is open for up to
    /// `deadline`, then cuts the rest.
    pub async fn drain(self, deadline: Duration) {
        self.stop_accepting();
        let ended = self.pod.all_connections_ended();
        if tokio::time::timeout(deadline, ended).await.is_err() {
            let open = self.open_connections();
            tracing::warn!(pod = %self.uid(), open, "cutting connections at the drain deadline");
            return;
        }
        // Peers get all that they were sent.
        let closed = self.pod.dialer.tunnels.close();
        if tokio::time::timeout(CLOSING, closed).await.is_err() {
            tracing::debug!(pod = %self.uid(), "tunnel connections are still open");
        }
    }

    fn serve_all(&mut self) -> io::Result<()> {
        for kind in [Kind::Outbound, Kind::Plaintext, Kind::Hbone] {
            for socket in self.listener(kind).accepting()? {
                let (pod, lifetime) = (Arc::clone(&self.pod), self.lifetime.clone());
                let server = Server {
                    kind,
                    pod: Arc::clone(&pod),
                    early: Arc::clone(&self.early),
                    lifetime: lifetime.clone(),
                };
                self.tasks
                    .push(tokio::spawn(accept(socket, pod, lifetime, server)));
            }
        }
        self.tasks
            .push(tokio::spawn(follow_changes(Arc::clone(&self.pod))));
        Ok(())
    }

    fn listener(&self, kind: Kind) -> &Listener {
        match kind {
            Kind::Outbound => &self.listeners.outbound,
            Kind::Plaintext => &self.listeners.plaintext,
            Kind::Hbone => &self.listeners.hbone,
        }
    }
}

impl Drop for PodProxy {
    fn drop(&mut self) {
        self.stop_accepting();
        self.lifetime.gone.cancel();
        self.tasks.iter().for_each(JoinHandle::abort);
        self.pod
            .telemetry
            .connections()
            .cut_all(CutReason::ProxyStopped);
        self.pod.telemetry.retire();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_an_accepted_connection_is_small() {
        fn size<F: Future>(
            _: impl FnOnce(&'static Server, Permit, TcpStream, SocketAddr) -> F,
        ) -> usize {
            size_of::<F>()
        }
        let serving = size(|server, permit, accepted, peer| server.serve(permit, accepted, peer));
        // It is copied to the heap once for every connection, and stays there as long as that.
        assert!(serving <= 7 * 1024, "{serving} bytes");
    }
}
