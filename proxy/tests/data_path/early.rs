//! Connections that are connected before they are accepted.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use weft_model::OriginalDestination;
use weft_model::ports::OUTBOUND_PORT;
use weft_proxy::listen::ConnectAnswer;
use weft_testing::tcp::{echo, exchange, fresh_address};
use weft_testing::wait::{in_time, wait_until};

use crate::application;
use crate::bed::{Bed, Counter, Pod};

/// An application's socket, which is not connected yet.
struct Application {
    socket: TcpSocket,
    end: SocketAddr,
    to: SocketAddr,
}

impl Application {
    fn of(to: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let end = socket.local_addr().unwrap();
        Self { socket, end, to }
    }

    /// What the proxy of its pod answers.
    async fn ask(&self, pod: &Pod) -> ConnectAnswer {
        let (sender, answer) = oneshot::channel();
        let tell = move |answer| {
            let _ = sender.send(answer);
        };
        let original = OriginalDestination::new(self.to);
        pod.proxy.connector().connect(self.end, original, tell);
        in_time(answer).await.unwrap()
    }

    /// Connects, as if captured.
    async fn connect(self, pod: &Pod) -> TcpStream {
        pod.sockets.captured(self.end, self.to);
        let proxy = (pod.address(), OUTBOUND_PORT);
        self.socket.connect(proxy.into()).await.unwrap()
    }
}

/// An application that counts its connections, now and ever.
async fn counting(pod: &Pod) -> (SocketAddr, Counter, Counter) {
    let (open, ever) = (Counter::default(), Counter::default());
    let counters = (Arc::clone(&open), Arc::clone(&ever));
    let address = application(pod, move |stream| {
        let (open, ever) = (Arc::clone(&counters.0), Arc::clone(&counters.1));
        async move {
            ever.fetch_add(1, Ordering::Relaxed);
            open.fetch_add(1, Ordering::Relaxed);
            echo(stream).await;
            open.fetch_sub(1, Ordering::Relaxed);
        }
    });
    (address.await, open, ever)
}

/// An address where nobody answers: its listener is full.
struct Silent {
    address: SocketAddr,
    _sockets: [Socket; 2],
}

fn silent_listener() -> Silent {
    let [socket, fills] = [(), ()].map(|()| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap());
    let address = SocketAddr::from((fresh_address(), 0));
    socket.bind(&address.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap();
    fills.connect(&address).unwrap();
    Silent {
        address: address.as_socket().unwrap(),
        _sockets: [socket, fills],
    }
}

fn read(counter: &AtomicUsize) -> usize {
    counter.load(Ordering::Relaxed)
}

#[tokio::test]
async fn what_was_connected_early_is_the_connection_that_is_accepted() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    for node in ["node-1", "node-2"] {
        let server = bed.pod(node, "server");
        let (address, _, ever) = counting(&server).await;
        let application = Application::of(address);
        assert_eq!(application.ask(&client).await, ConnectAnswer::Connected);
        wait_until("the server has it", || read(&ever) == 1).await;
        let mut stream = application.connect(&client).await;
        assert_eq!(exchange(&mut stream, "hello").await, "hello");
        assert_eq!(read(&ever), 1, "{node}: one connection, not two");
    }
}

#[tokio::test]
async fn a_refusal_is_told_and_recorded_once() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    for node in ["node-1", "node-2"] {
        let server = bed.pod(node, "server");
        let nobody = Application::of(server.at(9));
        let refused = ConnectAnswer::Failed(ErrorKind::ConnectionRefused);
        assert_eq!(nobody.ask(&client).await, refused, "{node}");
    }
    let parts = ["reporter=\"source\"", "response_flags=\"CONNECT\"} 2"];
    bed.counts("node-1", &parts).await;
    let service = bed.service("empty", 80, &[]);
    let refused = ConnectAnswer::Failed(ErrorKind::ConnectionRefused);
    assert_eq!(Application::of(service).ask(&client).await, refused);
}

#[tokio::test]
async fn where_the_first_bytes_decide_the_application_is_connected() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let service = bed.service_that_declares("http", "web", 80, &[]);
    let application = Application::of(service);
    assert_eq!(application.ask(&client).await, ConnectAnswer::Connected);
    let mut stream = application.connect(&client).await;
    let answer = exchange(&mut stream, "GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[tokio::test]
async fn an_endpoint_that_nobody_claims_is_let_go() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let (address, open, ever) = counting(&server).await;
    let gives_up = Application::of(address);
    assert_eq!(gives_up.ask(&client).await, ConnectAnswer::Connected);
    wait_until("the server has it", || read(&ever) == 1).await;
    wait_until("the server is left alone", || read(&open) == 0).await;
}

#[tokio::test]
async fn an_application_with_the_port_of_one_that_gave_up_goes_its_own_way() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let (other, _, _) = counting(&server).await;
    let address = application(&server, echo).await;
    let gives_up = Application::of(other);
    assert_eq!(gives_up.ask(&client).await, ConnectAnswer::Connected);
    let successor = Application {
        to: address,
        ..gives_up
    };
    let mut stream = successor.connect(&client).await;
    assert_eq!(exchange(&mut stream, "mine").await, "mine");
}

#[tokio::test]
async fn one_that_was_let_through_before_its_refusal_is_reset() {
    let mut bed = Bed::with(|settings| {
        settings.connect_timeout = Duration::from_millis(300);
    });
    let client = bed.pod("node-1", "client");
    let silent = silent_listener();
    let address = silent.address;
    let application = Application::of(address);
    let (sender, answer) = oneshot::channel();
    let tell = move |answer| {
        let _ = sender.send(answer);
    };
    let original = OriginalDestination::new(address);
    let connector = client.proxy.connector();
    connector.connect(application.end, original, tell);
    let mut stream = application.connect(&client).await;
    let unreachable = ConnectAnswer::Failed(ErrorKind::HostUnreachable);
    assert_eq!(in_time(answer).await.unwrap(), unreachable);
    let end = in_time(stream.read(&mut [0])).await.unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_pod_with_too_many_that_wait_is_connected_at_once() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let silent = silent_listener();
    let address = silent.address;
    let connector = client.proxy.connector();
    let (answered, mut answers) = tokio::sync::mpsc::unbounded_channel();
    for port in 1..=600 {
        let answered = answered.clone();
        let tell = move |answer| {
            let _ = answered.send(answer);
        };
        let end = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        connector.connect(end, OriginalDestination::new(address), tell);
    }
    // The others wait for the connect timeout of 2 s.
    for _ in 0..88 {
        let answer = in_time(answers.recv()).await;
        assert_eq!(answer, Some(ConnectAnswer::Connected));
    }
    assert!(answers.try_recv().is_err());
}
