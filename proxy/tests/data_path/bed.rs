//! A test bed without eBPF: pods are addresses of 127.0.0.0/8, their "namespaces"
//! this process's own. TLS, HTTP/2 and sockets are real.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test bed")]

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use weft_model::authorization::PlaintextOrigin;
use weft_model::authorization_policy::{AuthorizationMembership, AuthorizationPolicy};
use weft_model::mtls::MtlsMode;
use weft_model::ports::OUTBOUND_PORT;
use weft_model::workload::{Workload, WorkloadUid};
use weft_model::{Change, OriginalDestination, SpiffeId};
use weft_proxy::identity::Certificate;
use weft_proxy::listen::workers::Workers;
use weft_proxy::sockets::{Purpose, Sockets};
use weft_proxy::{Component, Node, PodProxy, Settings};
use weft_testing::authority::{Authority, Leaf};
use weft_testing::fixtures::{self, PORT, identity};
use weft_testing::tcp::{self, fresh_address};
use weft_testing::wait::wait_until;

/// A good certificate of a workload.
pub(crate) fn certificate(authority: &Authority, identity: &SpiffeId) -> Certificate {
    certificate_that_says(authority, identity, &identity.to_string())
}

/// A certificate filed under an identity that says something else.
pub(crate) fn certificate_that_says(
    authority: &Authority,
    identity: &SpiffeId,
    name: &str,
) -> Certificate {
    let issued = authority.issue(&Leaf::uri(name));
    Certificate {
        key: issued.certified_key(),
        identity: identity.clone(),
        roots: authority.roots(),
        not_after: issued.not_after,
        serial: String::new(),
    }
}

/// The sockets of one pod.
#[derive(Debug)]
pub(crate) struct HostSockets {
    address: Ipv4Addr,
    originals: Mutex<HashMap<SocketAddr, SocketAddr>>,
    /// Connections that the proxy opened, by port.
    pub(crate) dials: Mutex<HashMap<u16, usize>>,
    /// Clients that the application was told of.
    pub(crate) shown: Mutex<Vec<SocketAddr>>,
    /// The port of the pod that plaintext arrives for, as if steered.
    pub(crate) steered_for: Mutex<Option<u16>>,
    /// Plaintext comes from an address of the pod's node.
    pub(crate) is_from_node: AtomicBool,
}

impl HostSockets {
    /// Sockets of a pod with this address.
    pub(crate) fn new(address: Ipv4Addr) -> Self {
        Self {
            address,
            originals: Mutex::default(),
            dials: Mutex::default(),
            shown: Mutex::default(),
            steered_for: Mutex::default(),
            is_from_node: AtomicBool::default(),
        }
    }

    /// A connection of the pod's application to `destination`, as if captured.
    pub(crate) async fn connect(&self, destination: SocketAddr) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let client = socket.local_addr()?;
        self.captured(client, destination);
        socket.connect((self.address, OUTBOUND_PORT).into()).await
    }
}

impl HostSockets {
    /// The connection that the application will open from `client` is as if captured.
    pub(crate) fn captured(&self, client: SocketAddr, destination: SocketAddr) {
        self.originals.lock().unwrap().insert(client, destination);
    }
}

impl Sockets for HostSockets {
    fn bind(&self, address: SocketAddr) -> io::Result<std::net::TcpListener> {
        if address.is_ipv6() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let listener = std::net::TcpListener::bind((self.address, address.port()))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    fn socket(&self, to: SocketAddr, purpose: Purpose) -> io::Result<TcpSocket> {
        *self.dials.lock().unwrap().entry(to.port()).or_default() += 1;
        if let Purpose::Application { client } = purpose {
            self.shown.lock().unwrap().push(client);
        }
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.address, 0).into())?;
        Ok(socket)
    }

    fn original_destination(&self, accepted: &TcpStream) -> io::Result<OriginalDestination> {
        let original = self
            .originals
            .lock()
            .unwrap()
            .remove(&accepted.peer_addr()?);
        original
            .map(OriginalDestination::new)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn inbound_destination(&self, accepted: &TcpStream) -> io::Result<SocketAddr> {
        match *self.steered_for.lock().unwrap() {
            Some(port) => Ok((self.address, port).into()),
            None => accepted.local_addr(),
        }
    }

    fn plaintext_origin(&self, _accepted: &TcpStream) -> PlaintextOrigin {
        match self.is_from_node.load(Ordering::Relaxed) {
            true => PlaintextOrigin::NodeAddress,
            false => PlaintextOrigin::Network,
        }
    }
}

/// One pod with its proxy.
pub(crate) struct Pod {
    pub(crate) workload: Arc<Workload>,
    pub(crate) sockets: Arc<HostSockets>,
    pub(crate) proxy: PodProxy,
}

impl Pod {
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.sockets.address
    }

    /// Where the pod's application listens.
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        (self.address(), port).into()
    }

    /// A connection of the pod's application to `destination`, as if captured.
    pub(crate) async fn connect(&self, destination: SocketAddr) -> io::Result<TcpStream> {
        self.sockets.connect(destination).await
    }

    /// The pod's application: what it does with each connection.
    pub(crate) async fn serve<F>(
        &self,
        port: u16,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> SocketAddr
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(self.at(port)).await.unwrap();
        tcp::serve(listener, serve)
    }

    pub(crate) fn dials(&self, port: u16) -> usize {
        self.sockets
            .dials
            .lock()
            .unwrap()
            .get(&port)
            .copied()
            .unwrap_or_default()
    }
}

/// One node, and the threads that serve its pods.
pub(crate) struct TestNode {
    pub(crate) node: Arc<Node>,
    workers: Workers,
}

/// A mesh of nodes that know the same.
pub(crate) struct Bed {
    pub(crate) authority: Authority,
    settings: Settings,
    nodes: HashMap<&'static str, TestNode>,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Nodes whose settings are changed so.
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            connect_timeout: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(2),
            ..Settings::default()
        };
        change(&mut settings);
        Self {
            authority: Authority::new(),
            settings,
            nodes: HashMap::new(),
        }
    }

    /// The root of its authority, DER.
    pub(crate) fn root(&self) -> Arc<[u8]> {
        self.authority.root().as_ref().into()
    }

    pub(crate) fn node(&mut self, name: &'static str) -> &TestNode {
        let settings = self.settings;
        self.nodes.entry(name).or_insert_with(|| TestNode {
            node: Arc::new(Node::new(name, Component::NodeAgent, settings)),
            workers: Workers::start(1).unwrap(),
        })
    }

    /// Tells every node.
    pub(crate) fn tell(&self, change: &Change) {
        self.nodes
            .values()
            .for_each(|node| node.node.store.apply([change.clone()]));
    }

    /// Waits until one line of a node's metrics has all of these parts: clients hear of
    /// their connections' end before that is counted.
    pub(crate) async fn counts(&self, node: &str, parts: &[&str]) {
        let has_all = |line: &str| parts.iter().all(|part| line.contains(part));
        wait_until(&format!("{parts:?}"), || {
            let text = self.nodes[node].node.telemetry.encode().unwrap();
            text.lines().any(has_all)
        })
        .await;
    }

    /// Starts a captured pod on a node with a good certificate.
    pub(crate) fn pod(&mut self, node: &'static str, name: &str) -> Pod {
        let identity = identity(name);
        let certificate = certificate(&self.authority, &identity);
        self.pod_with(node, name, certificate)
    }

    /// The same for a pod of that identity.
    pub(crate) fn pod_of(&mut self, node: &'static str, identity: SpiffeId) -> Pod {
        let certificate = certificate(&self.authority, &identity);
        let name = identity.service_account().to_owned();
        self.start_pod(node, &name, identity, certificate)
    }

    pub(crate) fn pod_with(
        &mut self,
        node: &'static str,
        name: &str,
        certificate: Certificate,
    ) -> Pod {
        self.start_pod(node, name, identity(name), certificate)
    }

    fn start_pod(
        &mut self,
        node: &'static str,
        name: &str,
        identity: SpiffeId,
        certificate: Certificate,
    ) -> Pod {
        let address = fresh_address();
        let workload = Workload {
            identity,
            uid: WorkloadUid::from(format!("{name}-{address}").as_str()),
            name: name.into(),
            mtls_mode: MtlsMode::Permissive,
            ..fixtures::workload(name, address, node)
        };
        self.node(node)
            .node
            .certificates
            .publish(Arc::new(certificate));
        let sockets = Arc::new(HostSockets::new(address));
        self.tell(&Change::Workload(workload.clone()));
        let workload = Arc::new(workload);
        let TestNode { node, workers } = self.node(node);
        let of_pod = Arc::<HostSockets>::clone(&sockets);
        let proxy = PodProxy::start(
            Arc::clone(node),
            Arc::clone(&workload),
            of_pod,
            workers.assign(),
        );
        Pod {
            workload,
            sockets,
            proxy: proxy.unwrap(),
        }
    }

    /// These AuthorizationPolicies, and no others, select a pod.
    pub(crate) fn authorize(&self, pod: &Pod, policies: Vec<AuthorizationPolicy>) {
        let mut names: Vec<_> = policies.iter().map(|policy| policy.key.clone()).collect();
        names.sort();
        for policy in policies {
            self.tell(&Change::AuthorizationPolicy(policy));
        }
        self.tell(&Change::Workload(Workload {
            authorization: Arc::new(AuthorizationMembership {
                policies: names,
                ..AuthorizationMembership::default()
            }),
            ..Workload::clone(&pod.workload)
        }));
    }

    /// Starts one more proxy for a pod whose first one ends.
    pub(crate) fn again(&mut self, pod: &Workload, sockets: &Arc<HostSockets>) -> PodProxy {
        let node = self.nodes.get(&*pod.node).unwrap();
        let (of_node, pod) = (Arc::clone(&node.node), Arc::new(pod.clone()));
        let sockets = Arc::<HostSockets>::clone(sockets);
        PodProxy::start(of_node, pod, sockets, node.workers.assign()).unwrap()
    }

    /// A service at a virtual address, with these endpoints on `port`.
    pub(crate) fn service(
        &self,
        name: &str,
        port: u16,
        endpoints: &[(IpAddr, Option<&Pod>)],
    ) -> SocketAddr {
        self.service_that_declares("", name, port, endpoints)
    }

    /// The same, with that `appProtocol`.
    pub(crate) fn service_that_declares(
        &self,
        app_protocol: &str,
        name: &str,
        port: u16,
        endpoints: &[(IpAddr, Option<&Pod>)],
    ) -> SocketAddr {
        let address = fresh_address();
        self.tell(&Change::Service(fixtures::service(
            name,
            address,
            app_protocol,
        )));
        for (endpoint, pod) in endpoints {
            let uid = pod.map(|pod| &pod.workload.uid);
            let endpoint = fixtures::endpoint(name, *endpoint, port, uid);
            self.tell(&Change::Endpoint(endpoint));
        }
        (address, PORT).into()
    }
}

/// Counts what happens in tasks.
pub(crate) type Counter = Arc<AtomicUsize>;
