//! Connections from anybody who can reach a port: handshakes beside each other, so that a slow
//! client holds up nobody, and no more of strangers than there is room for. Whoever has shown who
//! it is counts no more.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use weft_model::address::canonical_ip;

use super::node_limit::{NodeLimit, NodeShare};

/// Time limit of a client's handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that a node may have: its agent's, and those that it has lost and that we haven't
/// noticed yet.
const MOST_OF_NODE: usize = 64;

/// Room for strangers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StrangerLimits {
    /// Connections of all of them.
    pub(crate) all: usize,
    /// Connections of one address, or of one IPv6 network of 64 bits.
    pub(crate) of_one: usize,
    /// Time for one to show who it is, from its handshake on. None where nobody does.
    pub(crate) patience: Option<Duration>,
    /// Bytes that are taken of one that doesn't.
    pub(crate) bytes: u64,
}

/// The strangers that are connected.
#[derive(Debug)]
struct Strangers {
    limits: StrangerLimits,
    /// Connections of those that are none any more.
    known: Arc<NodeLimit>,
    by_source: Mutex<BySource>,
}

#[derive(Debug, Default)]
struct BySource {
    all: usize,
    /// The oldest first.
    connections: HashMap<IpAddr, VecDeque<Arc<Eviction>>>,
}

/// The end of a stranger's connection that has to make room for one of another source.
#[derive(Debug, Default)]
struct Eviction {
    is_due: AtomicBool,
    waker: AtomicWaker,
}

impl Eviction {
    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        self.waker.register(context.waker());
        match self.is_due.load(Ordering::Relaxed) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn evict(&self) {
        self.is_due.store(true, Ordering::Relaxed);
        self.waker.wake();
    }
}

/// A connection's place among the strangers, until its client is one no more.
#[derive(Debug)]
pub(crate) struct Place {
    strangers: Arc<Strangers>,
    peer: SocketAddr,
    is_known: AtomicBool,
    /// Of the node that its client speaks for.
    share: OnceLock<NodeShare>,
    eviction: Arc<Eviction>,
}

/// The client of a call.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Arc<Place>);

/// A connection that was let in.
#[derive(Debug)]
pub(crate) struct Accepted {
    stream: TlsStream<TcpStream>,
    place: Arc<Place>,
    /// The end of the patience with a stranger.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Bytes that are taken while it is a stranger's.
    bytes_left: u64,
}

impl Strangers {
    /// A place for a connection from that address; none when they are taken.
    fn admit(self: &Arc<Self>, peer: SocketAddr) -> Option<Place> {
        let source = source(peer.ip());
        let mut by_source = self.lock();
        let BySource { all, connections } = &mut *by_source;
        let of_one = connections.get(&source).map_or(0, VecDeque::len);
        if of_one >= self.limits.of_one {
            return None;
        }
        if *all >= self.limits.all {
            // Whoever has most makes room, unless that were to take one for one.
            let most = connections.values_mut().max_by_key(|places| places.len());
            let most = most.filter(|places| places.len() > of_one + 1)?;
            most.pop_front()?.evict();
            *all -= 1;
        }
        let eviction = Arc::<Eviction>::default();
        let places = connections.entry(source).or_default();
        places.push_back(Arc::clone(&eviction));
        *all += 1;
        Some(Place {
            strangers: Arc::clone(self),
            peer,
            is_known: AtomicBool::new(false),
            share: OnceLock::new(),
            eviction,
        })
    }

    fn give_back(&self, source: IpAddr, place: &Arc<Eviction>) {
        let mut by_source = self.lock();
        let BySource { all, connections } = &mut *by_source;
        let Some(places) = connections.get_mut(&source) else {
            return;
        };
        let before = places.len();
        places.retain(|one| !Arc::ptr_eq(one, place));
        // One that was evicted has given it back.
        *all -= before - places.len();
        if places.is_empty() {
            connections.remove(&source);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BySource> {
        self.by_source
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever has an IPv6 address has the others of its network.
fn source(address: IpAddr) -> IpAddr {
    match canonical_ip(address) {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => {
            let network = v6.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(network).into()
        }
    }
}

impl Place {
    fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    fn give_up(&self) {
        if !self.is_known.swap(true, Ordering::Relaxed) {
            let source = source(self.peer.ip());
            self.strangers.give_back(source, &self.eviction);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Caller {
    /// It has shown that it speaks for a node. False when that has as many connections as it
    /// may: this one stays a stranger's.
    pub(crate) fn is_known(&self, node: &str) -> bool {
        if self.0.share.get().is_none() {
            let Some(share) = self.0.strangers.known.take(node) else {
                return false;
            };
            // Another call on the same connection may have been faster.
            let _ = self.0.share.set(share);
        }
        self.0.give_up();
        true
    }

    /// Its address.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.0.peer
    }
}

impl Connected for Accepted {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        Caller(Arc::clone(&self.place))
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.place.is_known() {
            self.deadline = None;
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.bytes_left == 0 || self.place.eviction.poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let taken = buffer.filled().len() - before;
        let taken = u64::try_from(taken).unwrap_or(u64::MAX);
        self.bytes_left = self.bytes_left.saturating_sub(taken);
        read
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Accepts until nobody takes the connections any more.
pub(crate) async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    limits: StrangerLimits,
    connections: mpsc::Sender<io::Result<Accepted>>,
) {
    let strangers = Arc::new(Strangers {
        limits,
        known: NodeLimit::new(MOST_OF_NODE),
        by_source: Mutex::default(),
    });
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting connections");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(place) = strangers.admit(peer) else {
            tracing::debug!(%peer, "refused a connection: too many of strangers");
            continue;
        };
        let (acceptor, connections) = (acceptor.clone(), connections.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let handshake = acceptor.accept(stream);
            let evicted = poll_fn(|context| place.eviction.poll(context));
            let handshake = async {
                tokio::select! {
                    stream = handshake => stream,
                    () = evicted => Err(io::ErrorKind::ConnectionAborted.into()),
                }
            };
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                Ok(Ok(stream)) => {
                    let patience = limits.patience;
                    let accepted = Accepted {
                        stream,
                        place: Arc::new(place),
                        deadline: patience.map(|time| Box::pin(tokio::time::sleep(time))),
                        bytes_left: limits.bytes,
                    };
                    // The server is stopping when nobody takes it.
                    let _ = connections.send(Ok(accepted)).await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake"),
                Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use weft_testing::wait::in_time;

    use super::*;
    use crate::ca::Authority;
    use crate::serve::ServerCertificate;

    fn strangers(all: usize, of_one: usize) -> Arc<Strangers> {
        let limits = StrangerLimits {
            all,
            of_one,
            patience: None,
            bytes: 1000,
        };
        Arc::new(Strangers {
            limits,
            known: NodeLimit::new(MOST_OF_NODE),
            by_source: Mutex::default(),
        })
    }

    fn ip(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 1000)
    }

    #[test]
    fn one_source_can_not_take_the_places_of_others_and_all_are_given_back() {
        let strangers = strangers(3, 2);
        let first = strangers.admit(ip("10.0.0.1")).unwrap();
        let second = strangers.admit(ip("::ffff:10.0.0.1")).unwrap();
        assert!(strangers.admit(ip("10.0.0.1")).is_none());
        let other = strangers.admit(ip("10.0.0.2")).unwrap();
        // All are taken: whoever has most makes room, the oldest first.
        let fourth = strangers.admit(ip("10.0.0.3")).unwrap();
        assert!(first.eviction.is_due.load(Ordering::Relaxed));
        assert!(strangers.admit(ip("10.0.0.4")).is_none(), "one for one");
        drop((first, fourth));
        let first = strangers.admit(ip("10.0.0.1")).unwrap();
        // Whoever has shown who it is makes room, once.
        let caller = Caller(Arc::new(first));
        assert!(caller.is_known("node-1"));
        assert!(caller.is_known("node-1"));
        drop(caller);
        let third = strangers.admit(ip("10.0.0.1")).unwrap();
        assert!(strangers.admit(ip("10.0.0.1")).is_none());
        drop((second, other, third));
        let by_source = strangers.lock();
        assert_eq!((by_source.all, by_source.connections.len()), (0, 0));
    }

    #[test]
    fn a_node_with_many_connections_is_a_stranger_on_the_next() {
        let strangers = strangers(200, 200);
        let caller = || {
            let place = strangers.admit(ip("10.0.0.1")).unwrap();
            Caller(Arc::new(place))
        };
        let mut callers: Vec<_> = (0..MOST_OF_NODE).map(|_| caller()).collect();
        assert!(callers.iter().all(|caller| caller.is_known("node-1")));
        let another = caller();
        assert!(!another.is_known("node-1"));
        assert_eq!(strangers.lock().all, 1, "it counts");
        assert!(caller().is_known("node-2"));
        callers.pop();
        assert!(another.is_known("node-1"));
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let strangers = strangers(10, 1);
        let _place = strangers.admit(ip("fd00::1")).unwrap();
        assert!(strangers.admit(ip("fd00::2")).is_none());
        assert!(strangers.admit(ip("fd00:0:0:1::1")).is_some());
    }

    /// What accepts at that address, within limits.
    async fn start(
        limits: StrangerLimits,
    ) -> (
        SocketAddr,
        mpsc::Receiver<io::Result<Accepted>>,
        rustls::ClientConfig,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path(), time::Duration::HOUR).unwrap();
        let authority = Arc::new(authority);
        let mut roots = rustls::RootCertStore::empty();
        for root in authority.roots() {
            roots.add(root).unwrap();
        }
        let client = rustls::ClientConfig::builder().with_root_certificates(roots);
        let server = ServerCertificate::new(authority, vec!["localhost".to_owned()]).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server.config().unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, accepted) = mpsc::channel(8);
        tokio::spawn(accept(listener, acceptor, limits, connections));
        (address, accepted, client.with_no_client_auth())
    }

    async fn connect(address: SocketAddr, config: &rustls::ClientConfig) -> io::Result<u8> {
        let tcp = TcpStream::connect(address).await?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config.clone()));
        let name = "localhost".try_into().unwrap();
        let mut tls = connector.connect(name, tcp).await?;
        tls.read_u8().await
    }

    #[tokio::test]
    async fn handshakes_that_never_end_take_only_so_many_places() {
        let limits = StrangerLimits {
            all: 10,
            of_one: 2,
            patience: None,
            bytes: 1000,
        };
        let (address, _accepted, _) = start(limits).await;
        let mut silent = Vec::new();
        for _ in 0..2 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut third = TcpStream::connect(address).await.unwrap();
        let refused = in_time(third.read(&mut [0])).await;
        assert!(matches!(refused, Ok(0) | Err(_)), "{refused:?}");
        let mut first = silent.remove(0);
        let mut byte = [0];
        let early = first.read(&mut byte);
        assert!(
            tokio::time::timeout(Duration::from_millis(50), early)
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn a_stranger_that_shows_nothing_is_cut_and_whoever_did_stays() {
        let limits = StrangerLimits {
            all: 10,
            of_one: 10,
            patience: Some(Duration::from_millis(200)),
            bytes: 1000,
        };
        let (address, mut accepted, config) = start(limits).await;
        for shows in [false, true] {
            let served = async {
                let mut stream = accepted.recv().await.unwrap().unwrap();
                if shows {
                    assert!(stream.connect_info().is_known("node-1"));
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    return stream.write_u8(7).await.map(|()| 0);
                }
                stream.read_u8().await
            };
            let both = async { tokio::join!(served, connect(address, &config)) };
            let (served, got) = in_time(both).await;
            match shows {
                true => assert_eq!((served.unwrap(), got.unwrap()), (0, 7)),
                false => {
                    assert_eq!(served.unwrap_err().kind(), io::ErrorKind::TimedOut);
                    assert!(got.is_err());
                }
            }
        }
    }

    #[tokio::test]
    async fn a_stranger_that_sends_too_much_is_cut() {
        let limits = StrangerLimits {
            all: 10,
            of_one: 10,
            patience: None,
            bytes: 1000,
        };
        let (address, mut accepted, config) = start(limits).await;
        let flooding = async {
            let tcp = TcpStream::connect(address).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            let name = "localhost".try_into().unwrap();
            let mut tls = connector.connect(name, tcp).await.unwrap();
            while tls.write_all(&[0; 100]).await.is_ok() {}
        };
        let reading = async {
            let mut stream = accepted.recv().await.unwrap().unwrap();
            let mut all = Vec::new();
            (stream.read_to_end(&mut all).await, all.len())
        };
        let (read, length) = in_time(async {
            tokio::select! {
                () = flooding => panic!("it was cut before it was read"),
                read = reading => read,
            }
        })
        .await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert!((1000..20_000).contains(&length), "{length}");
    }
}
