//! Serving TCP.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::address::plain;
use crate::report;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;
const BUFFER: usize = 64 * 1024;

/// Where to serve.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Listen {
    /// Address; an IPv6 wildcard serves IPv4 too. With port 0 it says `at ADDRESS:PORT`
    /// first.
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// How many ports, counted up from the address's.
    #[arg(long, default_value_t = 1)]
    pub(crate) ports: u16,
}

/// Accepts until the process ends; each connection gets its own task.
pub(crate) async fn serve<F>(listen: Listen, handle: fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let ports = listen.listen.port()..listen.listen.port() + listen.ports;
    let listeners: io::Result<Vec<_>> = ports
        .map(|port| bind(SocketAddr::new(listen.listen.ip(), port)))
        .collect();
    let listeners = listeners?;
    if listen.listen.port() == 0 {
        for listener in &listeners {
            report::say(&format!("at {}", listener.local_addr()?));
        }
    }
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| tokio::spawn(accept(listener, handle)))
        .collect();
    report::say("listening");
    for accept in accepting {
        accept.await??;
    }
    Ok(())
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept<F>(listener: TcpListener, handle: fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            let result = handle(stream).await;
            if let Err(error) = &result {
                report::complain(error);
            }
            result
        });
    }
}

/// Sends everything back.
pub(crate) async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..read]).await?;
    }
}

/// Says at which address it was reached and by whom.
pub(crate) async fn identify(mut stream: TcpStream) -> io::Result<()> {
    let (local, peer) = (plain(stream.local_addr()?), plain(stream.peer_addr()?));
    stream
        .write_all(format!("{local} {peer}\n").as_bytes())
        .await?;
    stream.shutdown().await
}

/// Speaks first, as mail and database servers do, then sends everything back.
pub(crate) async fn talk_first(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(b"220 welcome\n").await?;
    echo(stream).await
}
