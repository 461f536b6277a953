//! A small HTTP/1.1 server with keep-alive, and the client's half of it.

use std::io;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::address::plain;
use crate::servers::{self, Listen};

/// Where to serve, and as whom.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    listen: Listen,
    /// What it says it is.
    #[arg(long)]
    name: String,
}

pub(crate) async fn serve(arguments: Arguments) -> io::Result<()> {
    // A server's name is the process's: handlers are plain functions.
    let _ = NAME.set(arguments.name);
    servers::serve(arguments.listen, handle).await
}

static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();

async fn handle(stream: TcpStream) -> io::Result<()> {
    let (local, peer) = (plain(stream.local_addr()?), plain(stream.peer_addr()?));
    let mut stream = BufReader::new(stream);
    while let Some(head) = read_head(&mut stream).await? {
        let length = content_length(&head);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let path = head.split(' ').nth(1).unwrap_or_default();
        let name = NAME.get().map(String::as_str).unwrap_or_default();
        let body =
            json!({ "name": name, "path": path, "local": local, "peer": peer, "received": length });
        let body = format!("{body}\n");
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.get_mut().write_all(answer.as_bytes()).await?;
        if head.to_ascii_lowercase().contains("\r\nconnection: close") {
            break;
        }
    }
    stream.get_mut().shutdown().await
}

/// Reads up to the empty line; `None` when the peer closed before the first byte.
async fn read_head(stream: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut head = String::new();
    loop {
        let read = stream.read_line(&mut head).await?;
        if read == 0 && head.is_empty() {
            return Ok(None);
        }
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if head.ends_with("\r\n\r\n") {
            return Ok(Some(head));
        }
    }
}

fn content_length(head: &str) -> usize {
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    };
    head.lines().find_map(header).unwrap_or(0)
}

/// Makes a request on an open connection and reads the whole answer's body.
pub(crate) async fn request(stream: &mut BufReader<TcpStream>, path: &str) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes()).await?;
    let closed = || io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the answer");
    let head = read_head(stream).await?.ok_or_else(closed)?;
    if !head.starts_with("HTTP/1.1 200 ") {
        let status = head.lines().next().unwrap_or_default();
        return Err(io::Error::other(format!("answered {status}")));
    }
    let mut body = vec![0; content_length(&head)];
    stream.read_exact(&mut body).await?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}
