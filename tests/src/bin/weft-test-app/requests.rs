//! HTTP requests at a steady rate until told to stop.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::http;
use crate::report::{self, Tally};

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Requests to whom, and how often.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The HTTP server.
    #[arg(long)]
    to: SocketAddr,
    /// Requests per second.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// All on one connection, instead of one connection for each.
    #[arg(long)]
    keep_alive: bool,
    /// Requests whose time isn't reported: the first.
    #[arg(long, default_value_t = 0)]
    warm_up: usize,
}

pub(crate) async fn run(arguments: Arguments) -> io::Result<()> {
    let mut ticks = interval(Duration::from_secs(1) / arguments.rate.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut tally, mut answered_by) = (Tally::default(), BTreeMap::<String, u64>::new());
    let (mut kept, mut input, mut byte) = (None, tokio::io::stdin(), [0]);
    let mut latencies = Vec::new();
    loop {
        tokio::select! {
            read = input.read(&mut byte) => if read? == 0 { break },
            _ = ticks.tick() => {}
        }
        let began = Instant::now();
        let result = timeout(LIMIT, request(&arguments, &mut kept)).await;
        latencies.push(began.elapsed());
        let result = result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        tally.add(result.map(|name| *answered_by.entry(name).or_default() += 1));
        if tally.ok + tally.failed == 1 {
            report::say("started");
        }
    }
    latencies.drain(..arguments.warm_up.min(latencies.len()));
    latencies.sort_unstable();
    let index = (latencies.len().saturating_sub(1) as f64 * 0.99) as usize;
    let p99 = latencies
        .get(index)
        .map(|latency| latency.as_secs_f64() * 1e6);
    report::write(&json!({ "tally": tally, "answered_by": answered_by, "p99_us": p99 }))
}

/// Gives back who answered.
async fn request(
    arguments: &Arguments,
    kept: &mut Option<BufReader<TcpStream>>,
) -> io::Result<String> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => BufReader::new(TcpStream::connect(arguments.to).await?),
    };
    let body = http::request(&mut stream, "/").await?;
    if arguments.keep_alive {
        *kept = Some(stream);
    }
    let body: Value = serde_json::from_str(&body)?;
    Ok(body["name"].as_str().unwrap_or_default().to_owned())
}
