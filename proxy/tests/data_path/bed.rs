//! A test bed without eBPF: pods are addresses of 127.0.0.0/8, their "namespaces"
//! this process's own. TLS, HTTP/2 and sockets are real.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test bed")]

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpSocket, TcpStream};
use weft_model::authorization::PlaintextOrigin;
use weft_model::mtls::MtlsMode;
use weft_model::ports::OUTBOUND_PORT;
use weft_model::service::{Endpoint, EndpointKey, Service, ServiceKind, ServicePort};
use weft_model::workload::{CaptureExclusions, Enrolment, Workload, WorkloadLabels, WorkloadUid};
use weft_model::{Change, NamespacedName, OriginalDestination, SpiffeId};
use weft_proxy::identity::Certificate;
use weft_proxy::listen::workers::Workers;
use weft_proxy::sockets::{Purpose, Sockets};
use weft_proxy::{IdleTimeouts, Node, PodProxy, Settings};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Addresses of this process that no other test uses.
pub(crate) fn fresh_address() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let process = u8::try_from(std::process::id() % 250).unwrap() + 2;
    Ipv4Addr::new(127, process, high, low)
}

/// Polls until the condition holds.
pub(crate) async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let polled = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, polled)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// The root itself, X.509 in DER.
    pub(crate) fn root(&self) -> Arc<[u8]> {
        self.0.der().as_ref().into()
    }

    /// A certificate that says it is `name`, valid for an hour from `from`.
    pub(crate) fn issue(&self, name: &str, from: SystemTime) -> (Arc<CertifiedKey>, SystemTime) {
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::default();
        let not_after = from + Duration::from_secs(3600);
        (leaf.not_before, leaf.not_after) = (from.into(), not_after.into());
        leaf.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
        leaf.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = leaf.signed_by(&key, &self.0).unwrap().der().clone();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let key = aws_lc_rs::sign::any_ecdsa_type(&key).unwrap();
        (
            Arc::new(CertifiedKey::new(vec![certificate], key)),
            not_after,
        )
    }

    /// What a web server of that name uses.
    pub(crate) fn web_server(&self, name: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = leaf.signed_by(&key, &self.0).unwrap().der().clone();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key);
        Arc::new(config.unwrap())
    }

    /// What a web client uses that trusts this authority only.
    pub(crate) fn web_client(&self) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        Arc::new(config)
    }

    /// A good certificate of a workload.
    pub(crate) fn certificate(&self, identity: &SpiffeId) -> Certificate {
        self.certificate_that_says(identity, &identity.to_string())
    }

    /// A certificate filed under an identity that says something else.
    pub(crate) fn certificate_that_says(&self, identity: &SpiffeId, name: &str) -> Certificate {
        let (key, not_after) = self.issue(name, SystemTime::now() - Duration::from_secs(60));
        let (identity, roots, serial) = (identity.clone(), self.roots(), String::new());
        Certificate {
            key,
            identity,
            roots,
            not_after,
            serial,
        }
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

    fn plaintext_origin(&self, _accepted: &TcpStream) -> PlaintextOrigin {
        PlaintextOrigin::Network
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
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let client = socket.local_addr()?;
        self.sockets
            .originals
            .lock()
            .unwrap()
            .insert(client, destination);
        socket.connect((self.address(), OUTBOUND_PORT).into()).await
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
    nodes: HashMap<&'static str, TestNode>,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self {
            authority: Authority::new(),
            nodes: HashMap::new(),
        }
    }

    pub(crate) fn node(&mut self, name: &'static str) -> &TestNode {
        self.nodes.entry(name).or_insert_with(|| {
            let settings = Settings {
                connect_timeout: Duration::from_secs(2),
                handshake_timeout: Duration::from_secs(2),
                idle: IdleTimeouts {
                    open: Duration::from_secs(60),
                    half_closed: Duration::from_secs(60),
                },
                ..Settings::default()
            };
            TestNode {
                node: Arc::new(Node::new(name, settings)),
                workers: Workers::start(1).unwrap(),
            }
        })
    }

    /// Tells every node.
    pub(crate) fn tell(&self, change: &Change) {
        self.nodes
            .values()
            .for_each(|node| node.node.store.apply([change.clone()]));
    }

    /// Starts a captured pod on a node with a good certificate.
    pub(crate) fn pod(&mut self, node: &'static str, name: &str) -> Pod {
        let identity = identity(name);
        let certificate = self.authority.certificate(&identity);
        self.pod_with(node, name, certificate)
    }

    pub(crate) fn pod_with(
        &mut self,
        node: &'static str,
        name: &str,
        certificate: Certificate,
    ) -> Pod {
        let address = fresh_address();
        let workload = Workload {
            uid: WorkloadUid::from(format!("{name}-{address}").as_str()),
            name: name.into(),
            identity: identity(name),
            addresses: vec![address.into()],
            node: node.into(),
            enrolment: Enrolment::Captured,
            mtls_mode: MtlsMode::Permissive,
            egress_mode: Default::default(),
            exclusions: CaptureExclusions::default(),
            locality: Default::default(),
            network_namespace: "".into(),
            labels: WorkloadLabels::default(),
        };
        self.node(node)
            .node
            .certificates
            .publish(Arc::new(certificate));
        let sockets = Arc::new(HostSockets {
            address,
            originals: Mutex::default(),
            dials: Mutex::default(),
            shown: Mutex::default(),
        });
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
        let (key, address) = (
            NamespacedName::new("default", name),
            IpAddr::from(fresh_address()),
        );
        self.tell(&Change::Service(Service {
            key: key.clone(),
            hostname: name.into(),
            kind: ServiceKind::ClusterIp(vec![address]),
            ports: vec![ServicePort {
                name: "".into(),
                port: 80,
                app_protocol: app_protocol.into(),
            }],
        }));
        for (address, pod) in endpoints {
            self.tell(&Change::Endpoint(Endpoint {
                key: EndpointKey {
                    service: key.clone(),
                    address: *address,
                },
                workload: pod.map(|pod| pod.workload.uid.clone()),
                ports: vec![(80, port)],
                ready: true,
            }));
        }
        (address, 80).into()
    }
}

pub(crate) fn identity(name: &str) -> SpiffeId {
    SpiffeId::new("cluster.local".parse().unwrap(), "default", name).unwrap()
}

/// Counts what happens in tasks.
pub(crate) type Counter = Arc<AtomicUsize>;
