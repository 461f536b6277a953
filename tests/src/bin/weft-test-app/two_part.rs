//! Requests whose head and body are written one after the other: where a proxy holds back small
//! packets until others are acknowledged, the answer waits for a delayed acknowledgement.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::report;

/// Time between the two parts, and between an answer and the next request: long enough for a
/// proxy to have passed the first part on.
const PAUSE: Duration = Duration::from_millis(1);
const BODY: &[u8] = b"body";

/// Whom to ask, for how long.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A server of HTTP/1.1.
    #[arg(long)]
    to: SocketAddr,
    /// For how long, in milliseconds.
    #[arg(long, default_value_t = 2000)]
    milliseconds: u64,
}

pub(crate) async fn run(arguments: Arguments) -> io::Result<()> {
    let mut stream = connect(arguments.to).await?;
    let end = Instant::now() + Duration::from_millis(arguments.milliseconds);
    let (mut latencies, mut failed, mut why) = (Vec::new(), 0, None);
    while Instant::now() < end {
        match request(&mut stream, arguments.to).await {
            Ok(latency) => latencies.push(latency),
            Err(error) => {
                failed += 1;
                why.get_or_insert_with(|| error.to_string());
                stream = connect(arguments.to).await?;
            }
        }
        sleep(PAUSE).await;
    }
    latencies.sort_unstable();
    let median = latencies.get(latencies.len() / 2);
    report::write(&json!({
        "requests": latencies.len() + failed,
        "failed": failed,
        "why": why,
        "p50_us": median.map(|latency| latency.as_secs_f64() * 1e6),
    }))
}

async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Returns the time from the second part to the answer.
async fn request(stream: &mut TcpStream, to: SocketAddr) -> io::Result<Duration> {
    let length = BODY.len();
    let head = format!("POST / HTTP/1.1\r\nHost: {to}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    sleep(PAUSE).await;
    let began = Instant::now();
    stream.write_all(BODY).await?;
    read_response(stream).await?;
    Ok(began.elapsed())
}

/// Reads a response that has a length.
async fn read_response(stream: &mut TcpStream) -> io::Result<()> {
    let mut received = Vec::new();
    loop {
        if stream.read_buf(&mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&received);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = content_length(head);
        if !head.starts_with("HTTP/1.1 200 ") || length.is_none() {
            return Err(io::Error::other(format!("unexpected: {head}")));
        }
        if length.is_some_and(|length| body.len() >= length) {
            return Ok(());
        }
    }
}

fn content_length(head: &str) -> Option<usize> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_found_whatever_its_name_looks_like() {
        let head = "HTTP/1.1 200 OK\r\nServer: a:b\r\ncontent-LENGTH: 1024";
        assert_eq!(content_length(head), Some(1024));
        assert_eq!(content_length("HTTP/1.1 200 OK"), None);
    }
}
