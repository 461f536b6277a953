//! One side ends before the other does.

use std::io;
use std::net::SocketAddr;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::report;

const BLOCK: usize = 16 * 1024;
const FAREWELL: &[u8] = b"I have said all";

/// What to send to whom.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The server.
    #[arg(long)]
    to: SocketAddr,
    /// Bytes to send.
    #[arg(long, default_value_t = 1_000_000)]
    bytes: u64,
}

/// Sends all, closes this side, and only then gets the answer.
pub(crate) async fn send_and_close(arguments: Arguments) -> io::Result<()> {
    let mut stream = TcpStream::connect(arguments.to).await?;
    send(&mut stream, arguments.bytes).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    report::write(&json!({ "sent": arguments.bytes, "answer": answer }))
}

/// Gets everything up to the end, and only then sends.
pub(crate) async fn send_after_end(arguments: Arguments) -> io::Result<()> {
    let mut stream = TcpStream::connect(arguments.to).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    send(&mut stream, arguments.bytes).await?;
    stream.shutdown().await?;
    report::write(&json!({ "sent": arguments.bytes, "answer": answer }))
}

async fn send(stream: &mut TcpStream, bytes: u64) -> io::Result<()> {
    let block = [b'x'; BLOCK];
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    while left > 0 {
        let length = left.min(BLOCK);
        stream.write_all(&block[..length]).await?;
        left -= length;
    }
    Ok(())
}

/// Says how much came once nothing more comes.
pub(crate) async fn count(mut stream: TcpStream) -> io::Result<()> {
    let total = drain(&mut stream).await?;
    stream.write_all(total.to_string().as_bytes()).await?;
    stream.shutdown().await
}

/// Ends its own side at once, and logs how much still came.
pub(crate) async fn farewell(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(FAREWELL).await?;
    stream.shutdown().await?;
    let total = drain(&mut stream).await?;
    report::say(&format!("received {total} after the farewell"));
    Ok(())
}

async fn drain(stream: &mut TcpStream) -> io::Result<u64> {
    let (mut buffer, mut total) = (vec![0; BLOCK], 0);
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(total),
            read => total += read as u64,
        }
    }
}
