//! HTTP between two nodes by a route that sends 80 % of the requests to one backend and
//! 20 % to another: what looking at every request costs, on top of protection.
//!
//! Outside the mesh a client calls the first backend directly, or through an Envoy
//! beside itself, which splits, and one beside each backend; in the mesh an HTTPRoute
//! splits. Client, proxies and servers share the machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};
use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{Mesh, MeshBuilder, PATIENCE};
use weft_tests::process::Process;

use super::bed::{BASELINE, Bed, GRACE, Measurement, Mode, WEFT, write_directory};
use super::envoy::{self, Hop, Protocol, Side};
use super::error::{BenchError, Result};
use super::peer::{fetch_envoy, start_envoy};
use super::report::Samples;
use super::requests::{fixed_rate, http2_saturation, saturation, start_nginx};
use xtask::options::Bench;
use xtask::workspace::Workspace;

/// Ports of the servers, and of either Envoy in front of them.
const HTTP1: u16 = 8080;
const HTTP2: u16 = 8081;
const PORTS: [(u16, Protocol); 2] = [(HTTP1, Protocol::Http1), (HTTP2, Protocol::Http2)];
const CLIENT_OFFSET: u16 = 10_000;
const SERVER_OFFSET: u16 = 20_000;
/// Names of the backends and what each gets of 100 requests.
const BACKENDS: [(&str, u32); 2] = [("v1", 80), ("v2", 20)];
/// The service that the route is attached to; its own pods get nothing.
const SERVICE: &str = "shop";
const SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const BACKEND_ADDRESSES: [&str; 2] = ["10.96.0.11", "10.96.0.12"];
/// Requests that show how they are split, and how far the first's count may be off: five
/// standard deviations of a fair draw.
const SHARE_REQUESTS: u64 = 1000;
const SHARE_TOLERANCE: u64 = 63;

const MEASUREMENTS: [Measurement; 3] = [saturation, fixed_rate, http2_saturation];

/// Takes all samples.
pub(crate) fn run(workspace: &Workspace, options: &Bench) -> Result<Samples> {
    let envoy = fetch_envoy(workspace)?;
    let bed = start(workspace, &envoy, options.baseline.as_deref())?;
    wait_until_answered(&bed).inspect_err(|_| bed.show_logs())?;
    bed.check_wire()?;
    let program = workspace.release_programs().join("weft-test-app");
    for mode in &bed.modes {
        check_shares(&program, mode)?;
    }
    bed.take(&MEASUREMENTS, options)
}

fn start(workspace: &Workspace, envoy: &Path, baseline: Option<&Path>) -> Result<Bed> {
    let mut outside = compared_mesh().pod(PodSpec::new("direct-client", 1).outside());
    for (name, _) in BACKENDS {
        outside = outside.pod(PodSpec::new(&format!("direct-{name}"), 2).outside());
    }
    let mesh = outside.binaries(workspace.release_programs()).start()?;
    let folder = mesh.directory().join("bench");
    write_directory(&folder)?;
    let mut processes = start_servers(&mesh, "direct-", &folder)?;
    processes.extend(start_servers(&mesh, "", &folder)?);
    mesh.manifests().write("route-split", &route())?;
    let envoys = start_envoys(&mesh, envoy, &folder)?;
    let mut modes = outside_modes(&mesh, &envoys)?;
    processes.extend(envoys);
    let baseline = baseline.map(|programs| compared_mesh().binaries(programs.into()).start());
    let baseline = baseline.transpose()?;
    if let Some(baseline) = &baseline {
        let folder = baseline.directory().join("bench");
        write_directory(&folder)?;
        processes.extend(start_servers(baseline, "", &folder)?);
        baseline.manifests().write("route-split", &route())?;
        modes.push(mesh_mode(BASELINE, baseline)?);
    }
    modes.push(mesh_mode(WEFT, &mesh)?);
    Ok(Bed {
        processes,
        mesh,
        baseline,
        modes,
        folder,
    })
}

/// A mesh of one client, the backends, and the service that the route is attached to.
fn compared_mesh() -> MeshBuilder {
    let mut mesh = MeshBuilder::new(2).pod(PodSpec::new("client", 1)).service(
        SERVICE,
        &[&SERVICE_ADDRESS.to_string()],
        "nobody",
        &PORTS.map(|(port, _)| (port, port)),
    );
    for ((name, _), address) in BACKENDS.iter().zip(BACKEND_ADDRESSES) {
        mesh = mesh.pod(PodSpec::new(name, 2)).service(
            name,
            &[address],
            name,
            &PORTS.map(|(port, _)| (port, port)),
        );
    }
    mesh.strict()
}

/// A server in each backend whose name begins so.
fn start_servers(mesh: &Mesh, prefix: &str, folder: &Path) -> Result<Vec<Process>> {
    let ports = [(HTTP1, false), (HTTP2, true)];
    let start = |(name, _)| start_nginx(mesh, &format!("{prefix}{name}"), folder, &ports);
    BACKENDS.into_iter().map(start).collect()
}

/// Both backends by their weights, on every port of the service.
fn route() -> Value {
    let rules = PORTS.map(|(port, _)| {
        let backends =
            BACKENDS.map(|(name, weight)| json!({ "name": name, "port": port, "weight": weight }));
        (port, json!([{ "backendRefs": backends }]))
    });
    let documents = rules.map(|(port, rules)| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": { "name": format!("split-{port}"), "namespace": "default" },
            "spec": {
                "parentRefs": [{ "group": "", "kind": "Service", "name": SERVICE, "port": port }],
                "rules": rules,
            },
        })
    });
    json!({ "apiVersion": "v1", "kind": "List", "items": documents })
}

fn mesh_mode(name: &'static str, mesh: &Mesh) -> Result<Mode> {
    Ok(Mode {
        name,
        place: mesh.pod("client")?.host.place().clone(),
        http: (SERVICE_ADDRESS, HTTP1).into(),
        other: (SERVICE_ADDRESS, HTTP2).into(),
        proxies: vec![mesh.agent_pid(1)?, mesh.agent_pid(2)?],
    })
}

/// The first backend directly, and both through Envoys.
fn outside_modes(mesh: &Mesh, envoys: &[Process]) -> Result<Vec<Mode>> {
    let place = mesh.pod("direct-client")?.host.place();
    let first = mesh.pod(&format!("direct-{}", BACKENDS[0].0))?.host.ipv4();
    let beside = |port| SocketAddr::from(([127, 0, 0, 1], port + CLIENT_OFFSET));
    let direct = Mode {
        name: "direct",
        place: place.clone(),
        http: (first, HTTP1).into(),
        other: (first, HTTP2).into(),
        proxies: Vec::new(),
    };
    let envoy = Mode {
        name: "envoy",
        place: place.clone(),
        http: beside(HTTP1),
        other: beside(HTTP2),
        proxies: envoys.iter().map(Process::pid).collect(),
    };
    Ok(vec![direct, envoy])
}

fn start_envoys(mesh: &Mesh, envoy: &Path, folder: &Path) -> Result<Vec<Process>> {
    let [client, server] = envoy::credentials(folder)?;
    let (loopback, any) = ([127, 0, 0, 1], [0, 0, 0, 0]);
    let pods = BACKENDS.map(|(name, weight)| (format!("direct-{name}"), weight));
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
        let [first, second] =
            BACKENDS.map(|(name, _)| count(name) + count(&format!("direct-{name}")));
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
