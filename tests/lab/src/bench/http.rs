//! HTTP between two nodes by a route that sends 80 % of the requests to one backend and
//! 20 % to another: what looking at every request costs, on top of protection.
//!
//! Outside the mesh a client calls the first backend directly, or through an Envoy
//! beside itself, which splits, and one beside each backend; in the mesh an HTTPRoute
//! splits, on ports that are declared as HTTP and on others, for sidecars too where those are
//! measured. Client, proxies and servers share the machine.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{Mesh, MeshBuilder, PATIENCE};
use weft_tests::process::Process;

use super::bed::{BASELINE, Bed, GRACE, Measurement, Mode, write_directory};
use super::envoy::{self, Hop, Side};
use super::error::{BenchError, Result};
use super::peer::{fetch_envoy, start_envoy};
use super::report::Samples;
use super::requests::{fixed_rate, http2_saturation, saturation, two_part};
use super::servers::{start_nginx, start_reader};
use super::split::{
    BACKENDS, GUARDED, HTTP1, HTTP2, NEAR, OUTSIDE, PORTS, READS_BODIES, RECEIVED, SENT, SIDECARS,
    Split, TWO_PART, TWO_PART_SAME_NODE, mesh_with_client, policies,
};
use xtask::options::{Bench, BenchMode};
use xtask::workspace::Workspace;

/// What is added to the servers' ports for either Envoy in front of them.
const CLIENT_OFFSET: u16 = 10_000;
const SERVER_OFFSET: u16 = 20_000;
/// Requests that show how they are split, and how far the first's count may be off: five
/// standard deviations of a fair draw.
const SHARE_REQUESTS: u64 = 1000;
const SHARE_TOLERANCE: u64 = 63;

const MEASUREMENTS: [Measurement; 4] = [saturation, fixed_rate, http2_saturation, two_part];

/// Takes all samples.
pub(crate) fn run(workspace: &Workspace, options: &Bench) -> Result<Samples> {
    let envoy = fetch_envoy(workspace)?;
    let bed = start(workspace, &envoy, options)?;
    wait_until_answered(&bed).inspect_err(|_| bed.show_logs())?;
    bed.check_wire()?;
    let program = workspace.release_programs().join("weft-test-app");
    for mode in &bed.modes {
        check_shares(&program, mode)?;
    }
    bed.take(&MEASUREMENTS, options)
}

fn start(workspace: &Workspace, envoy: &Path, options: &Bench) -> Result<Bed> {
    let splits = splits(options.mode);
    let pods = splits
        .iter()
        .fold(mesh_with_client(), |mesh, split| split.add_to(mesh));
    let mut pods = pods.pod(PodSpec::new("direct-client", 1).outside());
    for (name, _) in BACKENDS {
        pods = pods.pod(PodSpec::new(&format!("{OUTSIDE}{name}"), 2).outside());
    }
    let direct_near = format!("{OUTSIDE}{NEAR}");
    pods = pods.pod(PodSpec::new(&direct_near, 1).outside());
    let mesh = pods.binaries(workspace.release_programs()).start()?;
    let folder = mesh.directory().join("bench");
    write_directory(&folder)?;
    let mut processes = Vec::new();
    let test_app = workspace.release_programs().join("weft-test-app");
    let prefixes = splits.iter().map(|split| split.prefix);
    for prefix in prefixes.chain([OUTSIDE]) {
        processes.extend(start_servers(&mesh, prefix, &folder, &test_app)?);
    }
    for pod in [NEAR, &direct_near] {
        processes.push(start_reader(
            &mesh,
            pod,
            &folder,
            (&test_app, READS_BODIES),
        )?);
    }
    let envoys = start_envoys(&mesh, envoy, &folder)?;
    let mut modes = outside_modes(&mesh, &envoys)?;
    processes.extend(envoys);
    for split in &splits {
        mesh.manifests().write(split.service, &split.route())?;
    }
    mesh.manifests().write("policies", &policies())?;
    let programs = options.baseline.as_deref();
    let programs = programs.map(|folder| SENT.add_to(mesh_with_client()).binaries(folder.into()));
    let baseline = programs.map(MeshBuilder::start).transpose()?;
    if let Some(baseline) = &baseline {
        let folder = baseline.directory().join("bench");
        write_directory(&folder)?;
        processes.extend(start_servers(baseline, SENT.prefix, &folder, &test_app)?);
        let reader = (test_app.as_path(), READS_BODIES);
        processes.push(start_reader(baseline, NEAR, &folder, reader)?);
        baseline.manifests().write(SENT.service, &SENT.route())?;
        modes.push(SENT.called(BASELINE).mode(baseline)?);
    }
    for split in &splits {
        modes.push(split.mode(&mesh)?);
    }
    Ok(Bed {
        processes,
        mesh,
        baseline,
        modes,
        folder,
        test_app,
    })
}

/// What is measured of the mesh, in the order of the table.
fn splits(mode: BenchMode) -> Vec<Split> {
    match mode {
        BenchMode::Node => vec![RECEIVED, GUARDED, SENT],
        BenchMode::Sidecar => vec![RECEIVED, GUARDED, SENT, SIDECARS],
    }
}

/// Those of each backend whose name begins so.
fn start_servers(
    mesh: &Mesh,
    prefix: &str,
    folder: &Path,
    test_app: &Path,
) -> Result<Vec<Process>> {
    let mut servers = Vec::new();
    for (name, _) in BACKENDS {
        let pod = format!("{prefix}{name}");
        let ports = [(HTTP1, false), (HTTP2, true)];
        servers.push(start_nginx(mesh, &pod, folder, &ports)?);
        servers.push(start_reader(mesh, &pod, folder, (test_app, READS_BODIES))?);
    }
    Ok(servers)
}

/// The first backend directly, and both through Envoys.
fn outside_modes(mesh: &Mesh, envoys: &[Process]) -> Result<Vec<Mode>> {
    let place = mesh.pod("direct-client")?.host.place();
    let first = mesh
        .pod(&format!("{OUTSIDE}{}", BACKENDS[0].0))?
        .host
        .ipv4();
    let near = mesh.pod(&format!("{OUTSIDE}{NEAR}"))?.host.ipv4();
    let beside = |port| SocketAddr::from(([127, 0, 0, 1], port + CLIENT_OFFSET));
    let direct = Mode {
        name: "direct",
        place: place.clone(),
        http: (first, HTTP1).into(),
        other: (first, HTTP2).into(),
        two_part: vec![
            (TWO_PART, (first, READS_BODIES).into()),
            (TWO_PART_SAME_NODE, (near, READS_BODIES).into()),
        ],
        proxies: Vec::new(),
    };
    let envoy = Mode {
        name: "envoy",
        place: place.clone(),
        http: beside(HTTP1),
        other: beside(HTTP2),
        two_part: vec![(TWO_PART, beside(READS_BODIES))],
        proxies: envoys.iter().map(Process::pid).collect(),
    };
    Ok(vec![direct, envoy])
}

fn start_envoys(mesh: &Mesh, envoy: &Path, folder: &Path) -> Result<Vec<Process>> {
    let [client, server] = envoy::credentials(folder)?;
    let (loopback, any) = ([127, 0, 0, 1], [0, 0, 0, 0]);
    let pods = BACKENDS.map(|(name, weight)| (format!("{OUTSIDE}{name}"), weight));
    let mut hops = Vec::new();
    for (port, protocol) in PORTS {
        let mut upstreams = Vec::new();
        for (pod, weight) in &pods {
            let address = mesh.pod(pod)?.host.ipv4();
            upstreams.push(((address, port + SERVER_OFFSET).into(), *weight));
        }
        hops.push(Hop {
            listen: (loopback, port + CLIENT_OFFSET).into(),
            upstreams,
            protocol,
        });
    }
    let configuration = envoy::configuration(Side::Client, &hops, &client);
    let mut envoys = vec![start_envoy(
        mesh,
        "direct-client",
        folder,
        (envoy, 0),
        &configuration,
    )?];
    let hops = PORTS.map(|(port, protocol)| Hop {
        listen: (any, port + SERVER_OFFSET).into(),
        upstreams: vec![((loopback, port).into(), 1)],
        protocol,
    });
    let configuration = envoy::configuration(Side::Server, &hops, &server);
    for ((pod, _), number) in pods.iter().zip(1..) {
        envoys.push(start_envoy(
            mesh,
            pod,
            folder,
            (envoy, number),
            &configuration,
        )?);
    }
    Ok(envoys)
}

/// Every mode answers requests of both versions.
fn wait_until_answered(bed: &Bed) -> Result<()> {
    for mode in &bed.modes {
        for (address, version) in [
            (mode.http, "--http1.1"),
            (mode.other, "--http2-prior-knowledge"),
        ] {
            let url = format!("http://{address}/");
            let line = ["curl", "-sSf", "-o", "/dev/null", "-m", "2", version, &url];
            weft_tests::wait_for(mode.name, PATIENCE, || {
                let answer = mode.place.output(&line, GRACE);
                answer.map(drop).map_err(|error| error.to_string())
            })?;
        }
    }
    Ok(())
}

/// The route has the effect that is measured.
fn check_shares(program: &Path, mode: &Mode) -> Result<()> {
    let (program, count) = (program.display().to_string(), SHARE_REQUESTS.to_string());
    for (address, version) in [(mode.http, None), (mode.other, Some("--http2"))] {
        let to = address.to_string();
        let mut line = vec![program.as_str(), "load", "--to", &to, "--requests", &count];
        line.extend(version);
        let output = mode.place.output(&line, GRACE)?;
        let report: Value = serde_json::from_str(&output)
            .map_err(|_| BenchError::Unreadable("weft-test-app", output))?;
        let count = |pod: &str| report["by_name"][pod].as_u64().unwrap_or_default();
        let prefixes = splits(BenchMode::Sidecar)
            .into_iter()
            .map(|split| split.prefix);
        let prefixes: Vec<_> = prefixes.chain([OUTSIDE]).collect();
        let [first, second] = BACKENDS.map(|(name, _)| {
            let counts = prefixes
                .iter()
                .map(|prefix| count(&format!("{prefix}{name}")));
            counts.sum::<u64>()
        });
        let expected = match mode.name {
            "direct" => SHARE_REQUESTS,
            _ => SHARE_REQUESTS * u64::from(BACKENDS[0].1) / 100,
        };
        if first + second != SHARE_REQUESTS || first.abs_diff(expected) > SHARE_TOLERANCE {
            return Err(BenchError::Shares {
                mode: mode.name,
                first,
                all: first + second,
            });
        }
    }
    Ok(())
}
