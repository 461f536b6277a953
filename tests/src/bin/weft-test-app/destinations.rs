//! Many connections to many destinations at once: did each reach the right one?

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::report::{self, Tally};

const LIMIT: Duration = Duration::from_secs(60);

/// Where to connect, and how often.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// `ADDRESS` or `ADDRESS=ANSWER`: where to connect, and what the `identify` server
    /// there says it was reached at, when that differs.
    #[arg(long = "to", required = true)]
    destinations: Vec<Destination>,
    /// How many connections, all begun at the same moment, spread over the
    /// destinations.
    #[arg(long)]
    connections: usize,
    /// What the servers have to see as the client's addresses; any when left out.
    #[arg(long = "from")]
    sources: Vec<std::net::IpAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Destination {
    dialled: SocketAddr,
    answers: SocketAddr,
}

impl FromStr for Destination {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (dialled, answers) = text.split_once('=').unwrap_or((text, text));
        Ok(Self {
            dialled: dialled.parse()?,
            answers: answers.parse()?,
        })
    }
}

pub(crate) async fn run(arguments: Arguments) -> io::Result<()> {
    let start = Arc::new(Barrier::new(arguments.connections));
    let sources = Arc::new(arguments.sources);
    let mut connecting = JoinSet::new();
    let destinations = arguments
        .destinations
        .iter()
        .cycle()
        .take(arguments.connections);
    for destination in destinations.copied() {
        let (start, sources) = (Arc::clone(&start), Arc::clone(&sources));
        connecting.spawn(async move {
            start.wait().await;
            let asked = timeout(LIMIT, ask(destination, &sources)).await;
            asked.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        });
    }
    let (mut tally, mut ports) = (Tally::default(), HashSet::new());
    while let Some(result) = connecting.join_next().await {
        let result = result?;
        tally.add(result.map(|peer| ports.insert(peer)).map(drop));
    }
    report::write(&json!({ "tally": tally, "distinct_peers": ports.len() }))
}

/// Gives back the peer that the server saw.
async fn ask(destination: Destination, sources: &[std::net::IpAddr]) -> io::Result<SocketAddr> {
    let Destination { dialled, answers } = destination;
    let mut stream = TcpStream::connect(dialled).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let wrong = || {
        io::Error::other(format!(
            "dialled {dialled}, got the answer `{}`",
            answer.trim()
        ))
    };
    let (local, peer) = answer.trim().split_once(' ').ok_or_else(wrong)?;
    let peer: SocketAddr = peer.parse().map_err(io::Error::other)?;
    if local != answers.to_string() || !(sources.is_empty() || sources.contains(&peer.ip())) {
        return Err(wrong());
    }
    Ok(peer)
}
