//! Simulated agents on real gRPC streams against the control plane, which has cores of
//! its own: how long a change takes to reach the last of them, and what it costs. A
//! small mesh is measured in the same run, so that a ratio says how cost grows. With `--webhook`, what
//! new pods wait for the admission webhooks instead.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool"
)]

mod agent;
mod mesh;
mod server;
mod webhook;

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use agent::{Event, Identity, Target};
use mesh::Size;
use server::Server;

/// How long the agents may take to get everything, or a change.
const DEADLINE: Duration = Duration::from_secs(300);

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Debug, Parser)]
struct Options {
    /// Agents, each of a node of its own.
    #[arg(long, default_value_t = 1000)]
    agents: usize,
    /// Pods of the large mesh.
    #[arg(long, default_value_t = 10_000)]
    pods: usize,
    /// Changes of an endpoint that are timed.
    #[arg(long, default_value_t = 20)]
    changes: usize,
    /// Measure the admission webhooks.
    #[arg(long)]
    webhook: bool,
    /// Seconds for which pods are made.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What was measured in one mesh.
#[derive(Debug)]
struct Measured {
    size: Size,
    agents: usize,
    /// Until the control plane was ready.
    start: Duration,
    /// Until the last agent had everything, all of them having come at once.
    synchronize: Duration,
    synchronize_cpu: Duration,
    /// Bytes when everybody was connected.
    memory: u64,
    /// From each change to the last agent, sorted.
    last_told: Vec<Duration>,
    /// CPU time per change.
    change_cpu: Duration,
}

fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let (server_cores, agent_cores) = cores();
    let mut set = CpuSet::new();
    agent_cores.iter().try_for_each(|core| set.set(*core))?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(agent_cores.len())
        .enable_all()
        .build()?;
    if options.webhook {
        return runtime.block_on(webhook::run(&options, &server_cores));
    }
    let mut measured = Vec::new();
    for pods in [options.pods / 100, options.pods] {
        let size = Size {
            pods: pods.max(1),
            nodes: options.agents,
        };
        eprintln!("{} pods, {} agents", size.pods, options.agents);
        measured.push(runtime.block_on(measure(size, &options, &server_cores))?);
    }
    if options.json {
        let rows: Vec<_> = measured.iter().map(Measured::json).collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else if let [small, large] = &measured[..] {
        print(small, large, server_cores.len());
    }
    Ok(())
}

/// Two cores for the control plane, the others for the agents; all for both where
/// there are only two.
fn cores() -> (Vec<usize>, Vec<usize>) {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let all: Vec<_> = (0..count).collect();
    match all.split_at_checked(2) {
        Some((first, rest)) if !rest.is_empty() => (first.to_vec(), rest.to_vec()),
        _ => (all.clone(), all),
    }
}

async fn measure(size: Size, options: &Options, cores: &[usize]) -> Result<Measured, Failure> {
    let folder = tempfile::tempdir()?;
    let manifests = folder.path().join("manifests");
    fs::create_dir(&manifests)?;
    mesh::write(&manifests, size)?;
    let (server, start) = Server::start(folder.path(), cores)?;
    let identities = identities(folder.path(), options.agents)?;
    let before = server.usage()?;
    let begin = Instant::now();
    let mut agents = Agents::start(&server, folder.path(), identities)?;
    agents.wait_until_synchronized(size).await?;
    let synchronize = begin.elapsed();
    let synchronized = server.usage()?;
    let mut last_told = Vec::new();
    for change in 0..options.changes {
        let at = Instant::now();
        mesh::write_first_slice(&manifests, size, change % 2 == 1)?;
        last_told.push(agents.wait_until_told(at).await?);
    }
    last_told.sort();
    let after = server.usage()?;
    // Before the server goes, which isn't their failure.
    agents.running.shutdown().await;
    let changes = u32::try_from(options.changes.max(1))?;
    Ok(Measured {
        size,
        agents: options.agents,
        start,
        synchronize,
        synchronize_cpu: synchronized.cpu.saturating_sub(before.cpu),
        memory: synchronized.resident,
        last_told,
        change_cpu: after.cpu.saturating_sub(synchronized.cpu) / changes,
    })
}

/// Agents that are connected, and what happens to them.
struct Agents {
    count: usize,
    running: JoinSet<()>,
    events: mpsc::UnboundedReceiver<Event>,
}

impl Agents {
    /// Has all of them connect at once.
    fn start(server: &Server, directory: &Path, identities: Vec<Identity>) -> io::Result<Self> {
        let target = Target {
            address: format!("https://127.0.0.1:{}", server.port),
            root: fs::read(directory.join("state/ca/root.pem"))?,
            turns: Arc::new(Semaphore::new(64)),
        };
        let (sender, events) = mpsc::unbounded_channel();
        let (count, mut running) = (identities.len(), JoinSet::new());
        for identity in identities {
            let watched = mesh::changing_endpoint();
            let run = agent::run(target.clone(), identity, watched, sender.clone());
            running.spawn(async move {
                if let Err(error) = run.await {
                    eprintln!("an agent ended: {error}");
                }
            });
        }
        Ok(Self {
            count,
            running,
            events,
        })
    }

    async fn wait_until_synchronized(&mut self, size: Size) -> Result<(), Failure> {
        for _ in 0..self.count {
            match tokio::time::timeout(DEADLINE, self.events.recv()).await? {
                Some(Event::Synchronized { resources }) if resources == size.resources() => {}
                other => {
                    return Err(format!("instead of everything an agent got {other:?}").into());
                }
            }
        }
        Ok(())
    }

    /// How long a change took to the last agent.
    async fn wait_until_told(&mut self, since: Instant) -> Result<Duration, Failure> {
        let mut last = Duration::ZERO;
        for _ in 0..self.count {
            match tokio::time::timeout(DEADLINE, self.events.recv()).await? {
                Some(Event::Told { at }) => last = last.max(at - since),
                other => return Err(format!("instead of a change came {other:?}").into()),
            }
        }
        Ok(last)
    }
}

fn identities(directory: &Path, count: usize) -> io::Result<Vec<Identity>> {
    let identity = |number| {
        let node = mesh::node(number);
        let token = server::token(directory, &node)?;
        Ok(Identity { node, token })
    };
    (0..count).map(identity).collect()
}

impl Measured {
    fn median(&self) -> Duration {
        self.last_told
            .get(self.last_told.len() / 2)
            .copied()
            .unwrap_or_default()
    }

    fn worst(&self) -> Duration {
        self.last_told.last().copied().unwrap_or_default()
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "pods": self.size.pods,
            "agents": self.agents,
            "resources": self.size.resources(),
            "start_s": self.start.as_secs_f64(),
            "synchronize_s": self.synchronize.as_secs_f64(),
            "synchronize_cpu_s": self.synchronize_cpu.as_secs_f64(),
            "memory_bytes": self.memory,
            "change_to_last_agent_median_s": self.median().as_secs_f64(),
            "change_to_last_agent_worst_s": self.worst().as_secs_f64(),
            "change_cpu_s": self.change_cpu.as_secs_f64(),
        })
    }
}

fn print(small: &Measured, large: &Measured, cores: usize) {
    println!(
        "control plane on {cores} cores, {} agents, each on a TLS connection of its own",
        large.agents
    );
    let pods = |measured: &Measured| format!("{} pods", measured.size.pods);
    println!(
        "{:<44}{:>14}{:>14}{:>10}",
        "",
        pods(small),
        pods(large),
        "ratio"
    );
    let row = |what: &str, unit: &str, value: fn(&Measured) -> f64| {
        let (small, large) = (value(small), value(large));
        let ratio = if small > 0.0 { large / small } else { f64::NAN };
        println!("{what:<40}{unit:>4}{small:>14.3}{large:>14.3}{ratio:>9.2}x");
    };
    row("start until ready", "s", |one| one.start.as_secs_f64());
    row("all agents at once, until synchronized", "s", |one| {
        one.synchronize.as_secs_f64()
    });
    row("  CPU of that", "s", |one| {
        one.synchronize_cpu.as_secs_f64()
    });
    row("memory with all agents", "MiB", |one| {
        one.memory as f64 / f64::from(1 << 20)
    });
    row("change to last agent, median *", "s", |one| {
        one.median().as_secs_f64()
    });
    row("change to last agent, worst *", "s", |one| {
        one.worst().as_secs_f64()
    });
    row("CPU per change", "s", |one| one.change_cpu.as_secs_f64());
    println!("* includes 0.05 s in which the directory source waits for a writer to finish");
}
