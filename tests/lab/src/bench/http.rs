//! HTTP between two nodes by a route that sends 80 % of the requests to one backend and
//! 20 % to another: what looking at every request costs, on top of protection.
//!
//! Outside the mesh a client calls the first backend directly, or through an Envoy
//! beside itself, which splits, and one beside each backend; in the mesh an HTTPRoute
//! splits, on ports that are declared as HTTP and on others. Client, proxies and servers share
//! the machine.

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
use super::requests::{fixed_rate, http2_saturation, saturation, two_part};
use super::servers::{start_nginx, start_reader};
use xtask::options::Bench;
use xtask::workspace::Workspace;

/// Ports of the servers, and of either Envoy in front of them.
const HTTP1: u16 = 8080;
const HTTP2: u16 = 8081;
/// Where servers read requests whole before they answer.
const READS_BODIES: u16 = 8082;
const PORTS: [(u16, Protocol); 3] = [
    (HTTP1, Protocol::Http1),
    (HTTP2, Protocol::Http2),
    (READS_BODIES, Protocol::Http1),
];
const CLIENT_OFFSET: u16 = 10_000;
const SERVER_OFFSET: u16 = 20_000;
/// Names of backends and what each gets of 100 requests.
const BACKENDS: [(&str, u32); 2] = [("v1", 80), ("v2", 20)];
/// What the names of backends outside the mesh begin with.
const OUTSIDE: &str = "direct-";
/// The backends whose ports no Service declares as HTTP: requests are looked at where they
/// are sent from.
const SENT: Split = Split {
    mode: WEFT,
    service: "shop",
    prefix: "",
    addresses: [10, 11, 12],
    declared: false,
};
/// Those whose ports are declared: requests are looked at where they arrive, too, as by a
/// pair of Envoys.
const RECEIVED: Split = Split {
    mode: "both-ends",
    service: "recorded",
    prefix: "recorded-",
    addresses: [20, 21, 22],
    declared: true,
};
/// The same, and each request is decided by [`POLICIES`] AuthorizationPolicies.
const GUARDED: Split = Split {
    mode: "policies",
    service: "guarded",
    prefix: "guarded-",
    addresses: [40, 41, 42],
    declared: true,
};
/// AuthorizationPolicies of which one lets the client in.
const POLICIES: usize = 1000;
/// A backend on the client's own node, and the last part of its address.
const NEAR: &str = "near";
const NEAR_ADDRESS: u8 = 30;
/// Names of the measures of requests in two parts, to another node and on the client's own.
const TWO_PART: &str = "two_part_p50";
const TWO_PART_SAME_NODE: &str = "two_part_same_node_p50";
/// Requests that show how they are split, and how far the first's count may be off: five
/// standard deviations of a fair draw.
const SHARE_REQUESTS: u64 = 1000;
const SHARE_TOLERANCE: u64 = 63;

/// A service whose route splits requests between two backends of a mesh.
#[derive(Clone, Copy)]
struct Split {
    mode: &'static str,
    /// The service; its own pods get nothing.
    service: &'static str,
    /// What the names of its backends begin with.
    prefix: &'static str,
    /// Last parts of the addresses of the service and of the backends.
    addresses: [u8; 3],
    /// Whether the backends' ports are declared as HTTP.
    declared: bool,
}

const MEASUREMENTS: [Measurement; 4] = [saturation, fixed_rate, http2_saturation, two_part];

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
    let mut pods = GUARDED
        .add_to(RECEIVED.add_to(SENT.add_to(mesh_with_client())))
        .pod(PodSpec::new("direct-client", 1).outside());
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
    for prefix in [OUTSIDE, SENT.prefix, RECEIVED.prefix, GUARDED.prefix] {
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
    for split in [SENT, RECEIVED, GUARDED] {
        mesh.manifests().write(split.service, &split.route())?;
    }
    mesh.manifests().write("policies", &policies())?;
    modes.push(RECEIVED.mode(&mesh)?);
    modes.push(GUARDED.mode(&mesh)?);
    let programs = baseline.map(|folder| SENT.add_to(mesh_with_client()).binaries(folder.into()));
    let baseline = programs.map(MeshBuilder::start).transpose()?;
    if let Some(baseline) = &baseline {
        let folder = baseline.directory().join("bench");
        write_directory(&folder)?;
        processes.extend(start_servers(baseline, SENT.prefix, &folder, &test_app)?);
        let reader = (test_app.as_path(), READS_BODIES);
        processes.push(start_reader(baseline, NEAR, &folder, reader)?);
        baseline.manifests().write(SENT.service, &SENT.route())?;
        let split = Split {
            mode: BASELINE,
            ..SENT
        };
        modes.push(split.mode(baseline)?);
    }
    modes.push(SENT.mode(&mesh)?);
    Ok(Bed {
        processes,
        mesh,
        baseline,
        modes,
        folder,
        test_app,
    })
}

/// A mesh with the client, and a server on its node.
fn mesh_with_client() -> MeshBuilder {
    let address = near_address().to_string();
    MeshBuilder::new(2)
        .strict()
        .pod(PodSpec::new("client", 1))
        .pod(PodSpec::new(NEAR, 1))
        .http_service(NEAR, &[&address], NEAR, &[(READS_BODIES, READS_BODIES)])
}

fn near_address() -> Ipv4Addr {
    Ipv4Addr::new(10, 96, 0, NEAR_ADDRESS)
}

impl Split {
    /// Adds the service, the backends and their pods to a mesh.
    fn add_to(self, mesh: MeshBuilder) -> MeshBuilder {
        let ports = PORTS.map(|(port, _)| (port, port));
        let addresses = self
            .addresses
            .map(|last| Ipv4Addr::new(10, 96, 0, last).to_string());
        let [own, backends @ ..] = addresses.each_ref();
        let mut mesh = mesh.service(self.service, &[own], "nobody", &ports);
        for ((name, _), address) in BACKENDS.iter().zip(backends) {
            let name = format!("{}{name}", self.prefix);
            mesh = mesh.pod(PodSpec::new(&name, 2).label("backend-of", self.service));
            mesh = match self.declared {
                true => mesh.http_service(&name, &[address], &name, &ports),
                false => mesh.service(&name, &[address], &name, &ports),
            };
        }
        mesh
    }

    /// Both backends by their weights, on every port of the service.
    fn route(self) -> Value {
        let documents = PORTS.map(|(port, _)| {
            let backends = BACKENDS.map(|(name, weight)| {
                let name = format!("{}{name}", self.prefix);
                json!({ "name": name, "port": port, "weight": weight })
            });
            let parent =
                json!({ "group": "", "kind": "Service", "name": self.service, "port": port });
            json!({
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "HTTPRoute",
                "metadata": { "name": format!("{}-{port}", self.service), "namespace": "default" },
                "spec": { "parentRefs": [parent], "rules": [{ "backendRefs": backends }] },
            })
        });
        json!({ "apiVersion": "v1", "kind": "List", "items": documents })
    }

    fn mode(self, mesh: &Mesh) -> Result<Mode> {
        let address = Ipv4Addr::new(10, 96, 0, self.addresses[0]);
        Ok(Mode {
            name: self.mode,
            place: mesh.pod("client")?.host.place().clone(),
            http: (address, HTTP1).into(),
            other: (address, HTTP2).into(),
            two_part: vec![
                (TWO_PART, (address, READS_BODIES).into()),
                (TWO_PART_SAME_NODE, (near_address(), READS_BODIES).into()),
            ],
            proxies: vec![mesh.agent_pid(1)?, mesh.agent_pid(2)?],
        })
    }
}

/// Policies as a large organisation would have them: each lets one client use one part.
fn policies() -> Value {
    let policies = (0..POLICIES).map(|number| {
        let is_last = number + 1 == POLICIES;
        let (client, paths) = match is_last {
            true => ("client".to_owned(), json!(["/*"])),
            false => (
                format!("client-{number}"),
                json!([format!("/part-{number}/*")]),
            ),
        };
        json!({
            "apiVersion": "weft.dev/v1alpha1",
            "kind": "AuthorizationPolicy",
            "metadata": { "name": format!("allow-{number}"), "namespace": "default" },
            "spec": {
                "selector": { "matchLabels": { "backend-of": GUARDED.service } },
                "action": "ALLOW",
                "rules": [{
                    "from": [{ "serviceAccounts": [client] }],
                    "to": [{ "methods": ["GET", "POST"], "paths": paths }],
                }],
            },
        })
    });
    json!({ "apiVersion": "v1", "kind": "List", "items": policies.collect::<Vec<_>>() })
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
        let prefixes = [OUTSIDE, SENT.prefix, RECEIVED.prefix, GUARDED.prefix];
        let [first, second] = BACKENDS.map(|(name, _)| {
            let counts = prefixes.map(|prefix| count(&format!("{prefix}{name}")));
            counts.into_iter().sum::<u64>()
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
