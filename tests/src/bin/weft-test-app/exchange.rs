//! Bytes both ways at once, with SHA-256 of what was sent and of what arrived.
//!
//! The client sends a header (length, then seed, 8 bytes each, big endian); then both
//! send that many bytes of a stream that the seed determines. The server then sends
//! the digest of what it got, and both close.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use aws_lc_rs::digest::{Context, Digest, SHA256};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::report;

const BLOCK: usize = 64 * 1024;

/// What to exchange with whom.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The server.
    #[arg(long)]
    to: SocketAddr,
    /// Bytes each way.
    #[arg(long)]
    bytes: u64,
}

pub(crate) async fn run(arguments: Arguments) -> io::Result<()> {
    let (start, seed) = (Instant::now(), u64::from(std::process::id()));
    let mut stream = TcpStream::connect(arguments.to).await?;
    stream.write_u64(arguments.bytes).await?;
    stream.write_u64(seed).await?;
    let (mut reader, mut writer) = stream.split();
    let sending = async {
        let digest = send(&mut writer, arguments.bytes, seed).await?;
        writer.shutdown().await?;
        io::Result::Ok(digest)
    };
    let receiving = async {
        let digest = receive(&mut reader, arguments.bytes).await?;
        let mut arrived_there = [0; 32];
        reader.read_exact(&mut arrived_there).await?;
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).await?;
        io::Result::Ok((digest, arrived_there, rest.len()))
    };
    let (sent, (received, arrived_there, rest)) = tokio::try_join!(sending, receiving)?;
    let expected = digest_of(arguments.bytes, seed + 1);
    report::write(&json!({
        "bytes": arguments.bytes,
        "seconds": start.elapsed().as_secs_f64(),
        "arrived_there": sent.as_ref() == arrived_there,
        "arrived_here": received.as_ref() == expected.as_ref() && rest == 0,
    }))
}

/// The server's side of it.
pub(crate) async fn answer(mut stream: TcpStream) -> io::Result<()> {
    let (length, seed) = (stream.read_u64().await?, stream.read_u64().await?);
    let (mut reader, mut writer) = stream.split();
    let (_, arrived) = tokio::try_join!(
        send(&mut writer, length, seed + 1),
        receive(&mut reader, length)
    )?;
    writer.write_all(arrived.as_ref()).await?;
    writer.shutdown().await
}

/// The stream: one pseudo-random block, again and again, with its number in front.
struct Blocks {
    block: Vec<u8>,
    number: u64,
    left: u64,
}

impl Blocks {
    fn new(length: u64, seed: u64) -> Self {
        let mut state = seed | 1;
        let random = |_| {
            // xorshift64: any bytes do that don't repeat.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()
        };
        let block = (0..BLOCK / 8).flat_map(random).collect();
        Self {
            block,
            number: 0,
            left: length,
        }
    }

    fn next(&mut self) -> Option<&[u8]> {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(BLOCK);
        self.block[..8].copy_from_slice(&self.number.to_be_bytes());
        self.number += 1;
        self.left -= length as u64;
        (length > 0).then(|| &self.block[..length])
    }
}

async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    length: u64,
    seed: u64,
) -> io::Result<Digest> {
    let (mut blocks, mut digest) = (Blocks::new(length, seed), Context::new(&SHA256));
    while let Some(block) = blocks.next() {
        digest.update(block);
        writer.write_all(block).await?;
    }
    Ok(digest.finish())
}

async fn receive(reader: &mut (impl AsyncRead + Unpin), length: u64) -> io::Result<Digest> {
    let (mut buffer, mut digest) = (vec![0; BLOCK], Context::new(&SHA256));
    let mut left = length;
    while left > 0 {
        let limit = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK);
        let read = reader.read(&mut buffer[..limit]).await?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{left} bytes missing"),
            ));
        }
        digest.update(&buffer[..read]);
        left -= read as u64;
    }
    Ok(digest.finish())
}

fn digest_of(length: u64, seed: u64) -> Digest {
    let (mut blocks, mut digest) = (Blocks::new(length, seed), Context::new(&SHA256));
    while let Some(block) = blocks.next() {
        digest.update(block);
    }
    digest.finish()
}
