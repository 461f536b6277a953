//! Pods for the programs: the servers and clients in the mesh, and those beside it.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use weft_provision::go::Binaries;
use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{Mesh, MeshBuilder, PATIENCE};
use weft_tests::process::Process;
use weft_tests::{wait_for, wait_until};

use super::case::{Case, Server};
use super::files;
use super::outcome::{Outcome, Roles};
use crate::bed::Way;

/// Pods with servers, and their nodes.
pub(crate) const PODS: [(&str, u8); 2] = [("near", 1), ("far", 2)];
/// How long a server may take to have logged all of a case.
const LOGGED_WITHIN: Duration = Duration::from_secs(10);
/// Names of addresses are asked for in vain: there is no DNS.
const ENVIRONMENT: &str = "export LC_ALL=C.UTF-8 RES_OPTIONS='timeout:1 attempts:1'";
/// A client that takes longer hangs.
const CLIENT_SECONDS: &str = "40";

/// A pod with a server, and one with a client.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    client: &'static str,
    server: String,
    is_service: bool,
}

impl Ends {
    /// Those beside the mesh.
    pub(crate) fn control(server: &str) -> Self {
        Self {
            client: "control-client",
            server: control(server),
            is_service: false,
        }
    }

    /// Those of a way in the mesh.
    pub(crate) fn of_way(way: Way) -> Self {
        Self {
            client: "client",
            server: way.server.to_owned(),
            is_service: way.is_service,
        }
    }
}

/// A server that runs in a pod.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pod: String,
    folder: PathBuf,
    /// Ends with it.
    _process: Process,
}

impl Running {
    /// The lines of its logs that have a case's name.
    pub(crate) fn logged(&self, case: &Case) -> Vec<String> {
        let logs = ["server.out", "server.err", "server.log"];
        let read = |name: &str| fs::read(self.folder.join(name)).unwrap_or_default();
        let text = logs.map(|name| String::from_utf8_lossy(&read(name)).into_owned());
        let lines = text.iter().flat_map(|text| text.lines());
        let of_case = lines.filter(|line| has_word(line, case.name));
        of_case.map(str::to_owned).collect()
    }
}

/// The mesh.
#[derive(Debug)]
pub(crate) struct Bed {
    mesh: Mesh,
    files: PathBuf,
    servers: Vec<&'static Server>,
    calls: AtomicUsize,
}

impl Bed {
    pub(crate) fn start(servers: &[&'static Server]) -> Self {
        let mut pods = MeshBuilder::new(2)
            .pod(PodSpec::new("client", 1))
            .pod(PodSpec::new("control-client", 1).outside());
        for (name, node) in PODS {
            pods = pods
                .pod(PodSpec::new(name, node))
                .pod(PodSpec::new(&control(name), node).outside());
            for (index, server) in servers.iter().enumerate() {
                let addresses = service_addresses(name, index).map(|address| address.to_string());
                let ports: Vec<_> = server.ports.iter().map(|port| (*port, *port)).collect();
                let service = format!("{name}-{}", server.name);
                let addresses = addresses.each_ref().map(String::as_str);
                pods =
                    pods.service_of_protocol(server.protocol, &service, &addresses, name, &ports);
            }
        }
        let mesh = pods.start().unwrap();
        let files = mesh.directory().join("files");
        files::write(&files);
        link_modules(servers, &files);
        Self {
            mesh,
            files,
            servers: servers.to_vec(),
            calls: AtomicUsize::new(0),
        }
    }

    /// Starts a server in each of the pods for servers.
    pub(crate) fn serve(&self, server: &Server) -> Vec<Running> {
        let script = format!("set -e\ncd {}\n{}", self.files.display(), server.prepare);
        let prepared = Command::new("bash").args(["-c", &script]).output().unwrap();
        assert!(prepared.status.success(), "{prepared:?}");
        let pods = PODS
            .iter()
            .flat_map(|(name, _)| [(*name).to_owned(), control(name)]);
        let running: Vec<_> = pods.map(|pod| self.spawn(server, pod)).collect();
        for running in &running {
            self.wait_ready(server, running);
        }
        running
    }

    fn spawn(&self, server: &Server, pod: String) -> Running {
        let folder = self.mesh.directory().join(format!("{}-{pod}", server.name));
        fs::create_dir(&folder).unwrap();
        let own = self.mesh.pod(&pod).unwrap().host.ipv4();
        let environment = self.environment(server, ("ADDRESS", own), &folder);
        let script = format!("{environment}\n{}", server.start);
        let place = self.mesh.pod(&pod).unwrap().host.place();
        let line = ["bash", "-c", script.as_str()];
        let process = place.spawn("server", &folder, &line).unwrap();
        Running {
            pod,
            folder,
            _process: process,
        }
    }

    fn environment(&self, server: &Server, own: (&str, IpAddr), folder: &Path) -> String {
        let (name, address) = own;
        let (port, files, folder) = (server.ports[0], self.files.display(), folder.display());
        format!("{ENVIRONMENT}\ncd {folder}\nexport {name}={address} PORT={port} FILES={files}")
    }

    fn wait_ready(&self, server: &Server, running: &Running) {
        let own = self.mesh.pod(&running.pod).unwrap().host.ipv4();
        let environment = self.environment(server, ("ADDRESS", own), &running.folder);
        let script = format!("{environment}\n{}", server.ready);
        let what = format!("{} to serve in {}", server.name, running.pod);
        let ready = wait_for(&what, 2 * PATIENCE, || {
            let said = self.mesh.run(&running.pod, &["bash", "-c", &script]);
            said.map(drop).map_err(|error| {
                let log = fs::read_to_string(running.folder.join("server.err"));
                format!("{error}; {}", log.unwrap_or_default())
            })
        });
        ready.unwrap();
    }

    /// Runs a client, and says what both ends have seen.
    pub(crate) fn call(&self, server: &Server, case: &Case, ends: &Ends, at: &Running) -> Outcome {
        let family = usize::from(case.is_ipv6);
        let address_of = |pod: &str| self.mesh.pod(pod).unwrap().host.addresses()[family];
        let (client, own) = (address_of(ends.client), address_of(&ends.server));
        let dialled = match ends.is_service {
            true => service_addresses(&ends.server, self.index(server))[family],
            false => own,
        };
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let folder = self.mesh.directory().join(format!("call-{number}"));
        fs::create_dir(&folder).unwrap();
        let environment = self.environment(server, ("CLIENT", client), &folder);
        let name = case.name;
        let script = format!(
            "exec 2>&1\nset -o pipefail\n{environment} SERVER={dialled} CASE={name}\n\
             trap 'kill $(jobs -p) 2> /dev/null' EXIT\n{}\necho \"exit $?\"",
            case.client
        );
        let before = at.logged(case).len();
        let line = ["timeout", CLIENT_SECONDS, "bash", "-c", script.as_str()];
        let began = Instant::now();
        let output = self.mesh.run(ends.client, &line);
        let took = began.elapsed();
        // A server that never logs so much shows in the comparison.
        let _ = wait_until("the server's log", LOGGED_WITHIN, || {
            at.logged(case).len() >= before + case.logged
        });
        let roles = Roles {
            client,
            server: vec![dialled, own],
        };
        let output = output.unwrap_or_else(|error| error.to_string());
        let logged = at.logged(case).split_off(before);
        Outcome::new(&output, &logged, took, &roles)
    }

    fn index(&self, server: &Server) -> usize {
        let mut servers = self.servers.iter();
        servers.position(|known| known.name == server.name).unwrap()
    }
}

pub(crate) fn control(name: &str) -> String {
    format!("control-{name}")
}

/// Builds the programs of Go modules, and puts them beside the files.
fn link_modules(servers: &[&Server], files: &Path) {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let modules: BTreeSet<_> = servers.iter().flat_map(|server| server.modules).collect();
    for program in modules {
        let built = Binaries::program(workspace, program).unwrap();
        symlink(built, files.join(program.replace('/', "-"))).unwrap();
    }
}

/// The addresses of a server's Service, IPv4 first.
fn service_addresses(pod: &str, index: usize) -> [IpAddr; 2] {
    let third = PODS.iter().position(|(name, _)| *name == pod).unwrap() + 2;
    let last = index + 1;
    let addresses = [
        format!("10.96.{third}.{last}"),
        format!("fd00:10:96::{third}:{last:x}"),
    ];
    addresses.map(|address| address.parse().unwrap())
}

fn has_word(line: &str, wanted: &str) -> bool {
    let mut words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.any(|word| word == wanted)
}
