//! New connections as fast as possible: how many, and how long to the first byte.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::report::{self, Tally};

/// Whom to connect to, for how long.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// An echo server.
    #[arg(long)]
    to: SocketAddr,
    /// For how long, in milliseconds.
    #[arg(long, default_value_t = 2000)]
    milliseconds: u64,
    /// How many at the same time.
    #[arg(long, default_value_t = 16)]
    parallel: usize,
}

pub(crate) async fn run(arguments: Arguments) -> io::Result<()> {
    let start = Instant::now();
    let end = start + Duration::from_millis(arguments.milliseconds);
    let mut clients = JoinSet::new();
    for _ in 0..arguments.parallel {
        clients.spawn(connect_until(arguments.to, end));
    }
    let (mut tally, mut latencies) = (Tally::default(), Vec::new());
    while let Some(client) = clients.join_next().await {
        for result in client? {
            tally.add(result.map(|latency| latencies.push(latency)));
        }
    }
    let elapsed = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let quantile = |share: f64| {
        let index = (latencies.len().saturating_sub(1) as f64 * share) as usize;
        latencies
            .get(index)
            .map(|latency: &Duration| latency.as_secs_f64() * 1e6)
    };
    report::write(&json!({
        "connections": tally.ok,
        "per_second": tally.ok as f64 / elapsed,
        "first_byte_us_p50": quantile(0.5),
        "first_byte_us_p99": quantile(0.99),
        "failed": tally.failed,
        "errors": tally.errors,
    }))
}

async fn connect_until(to: SocketAddr, end: Instant) -> Vec<io::Result<Duration>> {
    let mut results = Vec::new();
    while Instant::now() < end {
        results.push(first_byte(to).await);
    }
    results
}

/// From connect to the first byte of the answer.
async fn first_byte(to: SocketAddr) -> io::Result<Duration> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    stream.write_all(b"x").await?;
    stream.read_u8().await?;
    Ok(start.elapsed())
}
