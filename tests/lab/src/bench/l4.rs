//! TCP between two nodes: what protection costs.
//!
//! One pair of pods is outside the mesh and talks directly, or through an Envoy beside
//! each; another pair is in the mesh, one in the mesh of the build that this one is
//! compared with, and where sidecars are measured, one that has them. Client, proxies and server
//! share the machine.

use std::net::SocketAddr;
use std::path::Path;

use weft_tests::manifest::{PodSpec, Shape};
use weft_tests::mesh::{Mesh, MeshBuilder};
use weft_tests::process::Process;

use super::bed::{
    BASELINE, Bed, GRACE, Measured, Measurement, Mode, SIDECAR, WEFT, measure, write_directory,
};
use super::envoy::{self, Hop, Protocol, Side};
use super::error::{BenchError, Result};
use super::load::parse_iperf3;
use super::peer::{fetch_envoy, start_envoy};
use super::report::Samples;
use super::requests::{fixed_rate, saturation, wrk};
use super::servers::start_nginx;
use xtask::options::{Bench, BenchMode};
use xtask::workspace::Workspace;

/// Ports of the servers, and of either Envoy in front of them.
const HTTP: u16 = 8080;
const IPERF: u16 = 5201;
const CLIENT_OFFSET: u16 = 10_000;
const SERVER_OFFSET: u16 = 20_000;
/// A client and a server that have sidecars.
const SIDECARS: [&str; 2] = ["sidecar-client", "sidecar-server"];
const MEASUREMENTS: [Measurement; 6] = [
    saturation,
    fixed_rate,
    one_stream,
    four_streams,
    new_connections,
    first_byte,
];

/// Takes all samples.
pub(crate) fn run(workspace: &Workspace, options: &Bench) -> Result<Samples> {
    let envoy = fetch_envoy(workspace)?;
    let bed = start(workspace, &envoy, options)?;
    bed.check_wire()?;
    bed.take(&MEASUREMENTS, options)
}

fn start(workspace: &Workspace, envoy: &Path, options: &Bench) -> Result<Bed> {
    let mut pods = compared_mesh()
        .pod(PodSpec::new("direct-client", 1).outside())
        .pod(PodSpec::new("direct-server", 2).outside());
    let mut servers = vec!["direct-server", "server"];
    if options.mode == BenchMode::Sidecar {
        let [client, server] = SIDECARS;
        pods = pods
            .pod(PodSpec::new(client, 1).shape(Shape::Sidecar))
            .pod(PodSpec::new(server, 2).shape(Shape::Sidecar));
        servers.push(server);
    }
    let mesh = pods.binaries(workspace.release_programs()).start()?;
    let folder = mesh.directory().join("bench");
    write_directory(&folder)?;
    let mut processes = Vec::new();
    for pod in servers {
        processes.extend(start_servers(&mesh, pod, &folder)?);
    }
    let envoys = start_envoys(&mesh, envoy, &folder)?;
    let mut modes = outside_modes(&mesh, &envoys)?;
    processes.extend(envoys);
    let programs = options.baseline.as_deref();
    let baseline = programs.map(|programs| compared_mesh().binaries(programs.into()).start());
    let baseline = baseline.transpose()?;
    if let Some(baseline) = &baseline {
        let folder = baseline.directory().join("bench");
        write_directory(&folder)?;
        processes.extend(start_servers(baseline, "server", &folder)?);
        modes.push(mesh_mode(BASELINE, baseline)?);
    }
    modes.push(mesh_mode(WEFT, &mesh)?);
    if options.mode == BenchMode::Sidecar {
        modes.push(sidecar_mode(&mesh)?);
    }
    let bed = Bed {
        processes,
        mesh,
        baseline,
        modes,
        folder,
        test_app: workspace.release_programs().join("weft-test-app"),
    };
    wait_until_answered(&bed)?;
    Ok(bed)
}

/// A mesh of one client and one server.
fn compared_mesh() -> MeshBuilder {
    let mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("client", 1))
        .pod(PodSpec::new("server", 2));
    mesh.strict()
}

fn mesh_mode(name: &'static str, mesh: &Mesh) -> Result<Mode> {
    let server = mesh.pod("server")?.host.ipv4();
    Ok(Mode {
        name,
        place: mesh.pod("client")?.host.place().clone(),
        http: (server, HTTP).into(),
        other: (server, IPERF).into(),
        two_part: Vec::new(),
        proxies: vec![mesh.agent_pid(1)?, mesh.agent_pid(2)?],
    })
}

fn sidecar_mode(mesh: &Mesh) -> Result<Mode> {
    let [client, server] = SIDECARS;
    let address = mesh.pod(server)?.host.ipv4();
    Ok(Mode {
        name: SIDECAR,
        place: mesh.pod(client)?.host.place().clone(),
        http: (address, HTTP).into(),
        other: (address, IPERF).into(),
        two_part: Vec::new(),
        proxies: SIDECARS
            .iter()
            .filter_map(|pod| mesh.sidecar_pid(pod))
            .collect(),
    })
}

/// A direct connection, and one through Envoys.
fn outside_modes(mesh: &Mesh, envoys: &[Process]) -> Result<Vec<Mode>> {
    let place = mesh.pod("direct-client")?.host.place();
    let server = mesh.pod("direct-server")?.host.ipv4();
    let beside = |port| SocketAddr::from(([127, 0, 0, 1], port + CLIENT_OFFSET));
    let direct = Mode {
        name: "direct",
        place: place.clone(),
        http: (server, HTTP).into(),
        other: (server, IPERF).into(),
        two_part: Vec::new(),
        proxies: Vec::new(),
    };
    let envoy = Mode {
        name: "envoy",
        place: place.clone(),
        http: beside(HTTP),
        other: beside(IPERF),
        two_part: Vec::new(),
        proxies: envoys.iter().map(Process::pid).collect(),
    };
    Ok(vec![direct, envoy])
}

/// Every server answers in every mode.
fn wait_until_answered(bed: &Bed) -> Result<()> {
    for mode in &bed.modes {
        for address in [mode.http, mode.other] {
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

fn stream(bed: &Bed, mode: &Mode, seconds: u32, count: &str) -> Result<(f64, f64)> {
    let (host, port) = (mode.other.ip().to_string(), mode.other.port().to_string());
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
    let nginx = start_nginx(mesh, pod, folder, &[(HTTP, false)])?;
    let place = mesh.pod(pod)?.host.place();
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
    let hop = |listen: SocketAddr, upstream: SocketAddr| Hop {
        listen,
        upstreams: vec![(upstream, 1)],
        protocol: Protocol::Tcp,
    };
    let client_hops = [HTTP, IPERF].map(|port| {
        let upstream = (address, port + SERVER_OFFSET).into();
        hop((loopback, port + CLIENT_OFFSET).into(), upstream)
    });
    let server_hops = [HTTP, IPERF].map(|port| {
        let upstream = (loopback, port).into();
        hop((any, port + SERVER_OFFSET).into(), upstream)
    });
    let client = envoy::configuration(Side::Client, &client_hops, &client);
    let server = envoy::configuration(Side::Server, &server_hops, &server);
    Ok([
        start_envoy(mesh, "direct-client", folder, (envoy, 0), &client)?,
        start_envoy(mesh, "direct-server", folder, (envoy, 1), &server)?,
    ])
}
