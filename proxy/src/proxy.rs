//! One pod's proxy: its listeners, their accept loops, and its end.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use weft_model::ports::{HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT};
use weft_model::workload::{Workload, WorkloadUid};

use crate::accept::accept;
use crate::metrics::PodLabels;
use crate::net::Net;
use crate::shared::{LocalPod, Shared};
use crate::{inbound, outbound};

/// How often a drain looks whether the last connection has ended.
const DRAIN_POLL: Duration = Duration::from_millis(20);
/// How often pooled connections are counted and those of gone peers dropped.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// A listener of one kind, in each family that the pod has.
#[derive(Debug)]
pub struct Listener {
    /// On 127.0.0.1.
    pub v4: TcpListener,
    /// On ::1; `None` where the namespace has no IPv6.
    pub v6: Option<TcpListener>,
}

/// The listeners inside a pod.
#[derive(Debug)]
pub struct Listeners {
    /// For the pod's own captured connections.
    pub outbound: Listener,
    /// For plaintext that arrives.
    pub plaintext: Listener,
    /// For tunnels that arrive.
    pub hbone: Listener,
}

/// A running proxy of one pod. Dropped without [`PodProxy::drain`], it stops taking
/// connections and cuts those it has.
#[derive(Debug)]
pub struct PodProxy<N: Net> {
    shared: Arc<Shared<N>>,
    pod: Arc<LocalPod<N>>,
    listeners: Listeners,
    draining: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl<N: Net> PodProxy<N> {
    /// Opens the listeners inside the pod's namespace and serves them on `worker`.
    /// Nothing reaches them until capture is set up.
    ///
    /// # Errors
    /// When a listener can't be opened; IPv6 may be missing.
    pub fn start(
        shared: Arc<Shared<N>>,
        workload: Arc<Workload>,
        net: Arc<N>,
        worker: &Handle,
    ) -> io::Result<Self> {
        let listeners = Listeners {
            outbound: Listener::bind(&*net, OUTBOUND_PORT)?,
            plaintext: Listener::bind(&*net, INBOUND_PLAINTEXT_PORT)?,
            hbone: Listener::bind(&*net, HBONE_PORT)?,
        };
        let pod = Arc::new(LocalPod::new(workload, net, &shared));
        let (draining, _) = watch::channel(false);
        let mut proxy = Self {
            shared,
            pod,
            listeners,
            draining,
            tasks: Vec::new(),
        };
        let _runtime = worker.enter();
        proxy.serve_all()?;
        proxy.shared.pods.insert(Arc::clone(&proxy.pod));
        Ok(proxy)
    }

    /// The listeners, to steer connections to.
    pub fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// The pod that it serves.
    pub fn uid(&self) -> &WorkloadUid {
        &self.pod.started_as.uid
    }

    /// Connections that it serves now.
    pub fn open_connections(&self) -> usize {
        self.shared.connections.count(self.pod.proxy)
    }

    /// Takes no new connections, from now on; connections that were not accepted yet
    /// are reset, and the ports are free for a successor.
    pub fn stop_accepting(&self) {
        self.shared.pods.remove(&self.pod);
        self.pod.http.pool.close();
        self.draining.send_replace(true);
        for listener in self.listeners.all() {
            // Closing wouldn't do: the accept loops hold the sockets, too.
            if let Err(error) = SockRef::from(listener).shutdown(Shutdown::Read) {
                tracing::debug!(%error, "shutting down a listener");
            }
        }
    }

    /// Takes no new connections, tells tunnel clients so, serves what is open for up
    /// to `deadline`, then cuts the rest.
    pub async fn drain(self, deadline: Duration) {
        self.stop_accepting();
        let ended = async {
            // Counts what was accepted but isn't decided yet, too, and tunnel clients.
            while self.pod.open() > 0 {
                tokio::time::sleep(DRAIN_POLL).await;
            }
        };
        if tokio::time::timeout(deadline, ended).await.is_err() {
            let open = self.open_connections();
            tracing::warn!(pod = %self.uid(), open, "cutting connections at the drain deadline");
        }
    }

    fn serve_all(&mut self) -> io::Result<()> {
        for listener in self.listeners.outbound.sockets()? {
            let (shared, pod) = (Arc::clone(&self.shared), Arc::clone(&self.pod));
            let draining = self.draining.subscribe();
            self.spawn(listener, move |stream, peer| {
                let (shared, pod) = (Arc::clone(&shared), Arc::clone(&pod));
                outbound::serve(shared, pod, stream, peer, draining.clone())
            });
        }
        for listener in self.listeners.plaintext.sockets()? {
            let (shared, pod) = (Arc::clone(&self.shared), Arc::clone(&self.pod));
            self.spawn(listener, move |stream, peer| {
                inbound::plaintext::serve(Arc::clone(&shared), Arc::clone(&pod), stream, peer)
            });
        }
        for listener in self.listeners.hbone.sockets()? {
            let (shared, pod) = (Arc::clone(&self.shared), Arc::clone(&self.pod));
            let draining = self.draining.subscribe();
            self.spawn(listener, move |stream, peer| {
                let (shared, pod) = (Arc::clone(&shared), Arc::clone(&pod));
                inbound::hbone::serve(shared, pod, stream, peer, draining.clone())
            });
        }
        let (shared, pod) = (Arc::clone(&self.shared), Arc::clone(&self.pod));
        self.tasks.push(tokio::spawn(follow_changes(shared, pod)));
        Ok(())
    }

    fn spawn<F>(
        &mut self,
        listener: tokio::net::TcpListener,
        serve: impl Fn(tokio::net::TcpStream, SocketAddr) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let (pod, draining) = (Arc::clone(&self.pod), self.draining.subscribe());
        self.tasks
            .push(tokio::spawn(accept(listener, pod, draining, serve)));
    }
}

impl<N: Net> Drop for PodProxy<N> {
    fn drop(&mut self) {
        self.stop_accepting();
        self.tasks.iter().for_each(JoinHandle::abort);
        self.shared.connections.cut_proxy(self.pod.proxy);
        if self.shared.pods.get(self.uid()).is_none() {
            self.shared.metrics.forget(self.uid());
        }
    }
}

impl Listeners {
    fn all(&self) -> impl Iterator<Item = &TcpListener> {
        let kinds = [&self.outbound, &self.plaintext, &self.hbone];
        kinds
            .into_iter()
            .flat_map(|kind| std::iter::once(&kind.v4).chain(&kind.v6))
    }
}

impl Listener {
    fn bind<N: Net>(net: &N, port: u16) -> io::Result<Self> {
        let v4 = net.bind((Ipv4Addr::LOCALHOST, port).into())?;
        let v6 = match net.bind((Ipv6Addr::LOCALHOST, port).into()) {
            Ok(listener) => Some(listener),
            // No IPv6 in this namespace, or none on its loopback.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
                ) || error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
            {
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Self { v4, v6 })
    }

    fn sockets(&self) -> io::Result<Vec<tokio::net::TcpListener>> {
        let socket =
            |listener: &TcpListener| tokio::net::TcpListener::from_std(listener.try_clone()?);
        std::iter::once(&self.v4)
            .chain(&self.v6)
            .map(socket)
            .collect()
    }
}

/// Authorization is a subscription: whenever the mesh changes, connections that are
/// not allowed any more are cut, and pooled connections to gone peers forgotten.
async fn follow_changes<N: Net>(shared: Arc<Shared<N>>, pod: Arc<LocalPod<N>>) {
    let mut changes = shared.store.subscribe();
    let labels = PodLabels::new(&pod.started_as);
    loop {
        let changed = tokio::time::timeout(HOUSEKEEPING, changes.changed()).await;
        match changed {
            Ok(Err(_)) => return,
            Ok(Ok(())) => {
                shared.connections.recheck(&pod.workload(&shared));
                tidy_http(&shared, &pod);
            }
            Err(_) => {
                tidy_http(&shared, &pod);
                let now = Instant::now();
                pod.clients.forget_unused(now);
                shared.resilience.forget_unused(now);
                let mesh = shared.store.snapshot();
                shared.rule_sequences.forget_removed(&mesh);
                pod.pool.retain(|peer| {
                    let known = mesh.workload(&peer.workload);
                    known.is_some_and(|workload| workload.identity == peer.identity)
                });
                let uid = &pod.started_as.uid;
                shared
                    .metrics
                    .set_tunnel_connections(uid, labels.clone(), pod.pool.len());
            }
        }
    }
}

/// Connections for requests end when their endpoint does, or when nobody needs them.
fn tidy_http<N: Net>(shared: &Shared<N>, pod: &LocalPod<N>) {
    let mesh = shared.store.snapshot();
    let longest_idle = shared.settings.http_idle;
    pod.http.pool.tidy(&mesh, &shared.node, longest_idle);
    pod.http.rate_limits.forget_unused();
}
