//! Connections and servers on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::wait::in_time;

/// An address of 127.0.0.0/8 that no other test uses, of this process or of one beside it.
pub fn fresh_address() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let process = u8::try_from(std::process::id() % 250).unwrap() + 2;
    Ipv4Addr::new(127, process, high, low)
}

/// A listener on an address of its own.
pub async fn listen() -> TcpListener {
    TcpListener::bind((fresh_address(), 0)).await.unwrap()
}

/// Where nobody listens: connections are refused.
pub async fn closed_port() -> SocketAddr {
    listen().await.local_addr().unwrap()
}

/// Both ends of a connection: the client's and the accepted one.
pub async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(client, listener.accept());
    (client.unwrap(), accepted.unwrap().0)
}

/// Does this with each connection, in a task of its own, for as long as the test runs.
pub fn serve<F>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let address = listener.local_addr().unwrap();
    tokio::spawn(accept(listener, serve));
    address
}

/// The same on a thread of its own, for tests that have no runtime and for listeners of
/// other network namespaces.
pub fn serve_on_thread<F>(
    listener: std::net::TcpListener,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(async { accept(TcpListener::from_std(listener).unwrap(), serve).await });
    });
}

async fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream));
    }
}

/// Sends back what comes, and ends when it ends.
pub async fn echo(stream: impl AsyncRead + AsyncWrite) {
    let (mut read, mut write) = tokio::io::split(stream);
    // However the client ends it.
    let _ = tokio::io::copy(&mut read, &mut write).await;
    let _ = write.shutdown().await;
}

/// Sends a text and reads as much back.
pub async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = vec![0; text.len()];
    in_time(stream.read_exact(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}
