//! Many connections at once, and connections on which the server speaks first.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::report::{self, Tally};

/// How long one step on one connection may take.
const STEP_LIMIT: Duration = Duration::from_secs(30);

/// How many connections to whom.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct HoldArguments {
    /// The echo server.
    #[arg(long)]
    to: SocketAddr,
    /// How many.
    #[arg(long)]
    connections: usize,
    /// How many may be opened at the same time.
    #[arg(long, default_value_t = 200)]
    parallel: usize,
    /// Keep them open, and check them again, until the input ends.
    #[arg(long)]
    wait: bool,
}

/// Opens all, checks each, and checks each again while all are open.
pub(crate) async fn hold(arguments: HoldArguments) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(arguments.parallel));
    let mut opening = JoinSet::new();
    for number in 0..arguments.connections {
        let (permits, to) = (Arc::clone(&permits), arguments.to);
        opening.spawn(async move {
            let _permit = permits.acquire().await.map_err(io::Error::other)?;
            let mut stream = within(TcpStream::connect(to)).await?;
            check(&mut stream, number).await?;
            io::Result::Ok(stream)
        });
    }
    let (mut opened, mut streams) = (Tally::default(), Vec::new());
    while let Some(result) = opening.join_next().await {
        let result = result?;
        opened.add(result.map(|stream| streams.push(stream)));
    }
    if arguments.wait {
        report::say("all open");
        let mut input = Vec::new();
        tokio::io::stdin().read_to_end(&mut input).await?;
    }
    let (held, mut checked) = (streams.len(), Tally::default());
    for (number, stream) in streams.iter_mut().enumerate() {
        checked.add(check(stream, number).await);
    }
    report::write(&json!({ "opened": opened, "held": held, "checked": checked }))
}

async fn check(stream: &mut TcpStream, number: usize) -> io::Result<()> {
    let sent = format!("connection {number:08}");
    within(stream.write_all(sent.as_bytes())).await?;
    let mut back = vec![0; sent.len()];
    within(stream.read_exact(&mut back)).await?;
    if back == sent.as_bytes() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "sent `{sent}`, got `{}`",
        String::from_utf8_lossy(&back)
    )))
}

async fn within<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(STEP_LIMIT, step)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Whom to listen to.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ListenArguments {
    /// The server.
    #[arg(long)]
    to: SocketAddr,
}

/// Reads the server's first line before it sends anything.
pub(crate) async fn listen(arguments: ListenArguments) -> io::Result<()> {
    let mut stream = BufReader::new(within(TcpStream::connect(arguments.to)).await?);
    let (mut greeting, mut echoed) = (String::new(), String::new());
    within(stream.read_line(&mut greeting)).await?;
    stream.get_mut().write_all(b"hello\n").await?;
    within(stream.read_line(&mut echoed)).await?;
    report::write(&json!({ "greeting": greeting.trim(), "echoed": echoed.trim() }))
}

/// Whom to call with what.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CallArguments {
    /// The echo server.
    #[arg(long)]
    to: SocketAddr,
    /// What to have echoed.
    #[arg(long)]
    text: String,
}

/// Has one text echoed.
pub(crate) async fn call(arguments: CallArguments) -> io::Result<()> {
    let start = std::time::Instant::now();
    let mut stream = within(TcpStream::connect(arguments.to)).await?;
    let local_port = stream.local_addr()?.port();
    within(stream.write_all(arguments.text.as_bytes())).await?;
    let mut back = vec![0; arguments.text.len()];
    within(stream.read_exact(&mut back)).await?;
    report::write(&json!({
        "echoed": back == arguments.text.as_bytes(),
        "latency_us": start.elapsed().as_micros() as u64,
        "local_port": local_port,
    }))
}
