//! Pods in the mesh, and pods beside it for the control; a server in each but the clients.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{Mesh, MeshBuilder, PATIENCE};
use weft_tests::process::Process;

use crate::case::Case;
use crate::cases::{CASES, port};
use crate::observation::{Observation, Roles};

/// The first is the program, which imports the others.
const PROGRAMS: [(&str, &str); 4] = [
    ("programs.py", include_str!("programs.py")),
    ("more_connections.py", include_str!("more_connections.py")),
    ("more_requests.py", include_str!("more_requests.py")),
    ("odd_requests.py", include_str!("odd_requests.py")),
];
/// How long a server may take to have seen all of a case.
const EVENTS_WITHIN: Duration = Duration::from_secs(10);

/// A way to a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// The way in words.
    pub(crate) name: &'static str,
    /// The server's pod: `near` or `far`.
    pub(crate) server: &'static str,
    /// Whether its Service is dialled, else the pod.
    pub(crate) is_service: bool,
}

/// All ways in the mesh.
pub(crate) const WAYS: [Way; 4] = [
    way("to a pod of the node", "near", false),
    way("to a Service on the node", "near", true),
    way("to a pod of another node", "far", false),
    way("to a Service on another node", "far", true),
];

const fn way(name: &'static str, server: &'static str, is_service: bool) -> Way {
    Way {
        name,
        server,
        is_service,
    }
}

/// Names, nodes and last parts of the Services' addresses of the servers.
const SERVERS: [(&str, u8, u8); 2] = [("near", 1, 10), ("far", 2, 20)];

/// The mesh and its servers.
#[derive(Debug)]
pub(crate) struct Bed {
    mesh: Mesh,
    programs: PathBuf,
    servers: BTreeMap<String, Process>,
}

impl Bed {
    pub(crate) fn start() -> Self {
        let mut pods = MeshBuilder::new(2)
            .pod(PodSpec::new("client", 1))
            .pod(PodSpec::new("control-client", 1).outside());
        for (name, node, address) in SERVERS {
            pods = pods
                .pod(PodSpec::new(name, node))
                .pod(PodSpec::new(&control(name), node).outside());
            let [connections, requests] = [false, true].map(ports);
            let addresses = service_addresses(address, false);
            let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
            pods = pods.service(&format!("{name}-tcp"), &addresses, name, &connections);
            let addresses = service_addresses(address, true);
            let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
            pods = pods.http_service(&format!("{name}-http"), &addresses, name, &requests);
        }
        let mesh = pods.start().unwrap();
        for (name, text) in PROGRAMS {
            fs::write(mesh.directory().join(name), text).unwrap();
        }
        let programs = mesh.directory().join(PROGRAMS[0].0);
        let mut bed = Self {
            mesh,
            programs,
            servers: BTreeMap::new(),
        };
        for client in ["client", "control-client"] {
            for route in [
                "-4 route add unreachable 203.0.113.0/24",
                "-6 route add unreachable 2001:db8::/32",
            ] {
                let line: Vec<_> = std::iter::once("ip").chain(route.split(' ')).collect();
                bed.mesh.run(client, &line).unwrap();
            }
        }
        for (name, ..) in SERVERS {
            bed.serve(name);
            bed.serve(&control(name));
        }
        bed
    }

    fn serve(&mut self, pod: &str) {
        let program = self.programs.display().to_string();
        let mut line = vec!["python3".to_owned(), program, "serve".to_owned()];
        let cases = CASES
            .iter()
            .filter(|case| !case.name.starts_with("nobody_listens"));
        line.extend(cases.map(|case| format!("{}={}", case.name, port(case))));
        let line: Vec<_> = line.iter().map(String::as_str).collect();
        let place = self.mesh.pod(pod).unwrap().host.place();
        let name = format!("server-{pod}");
        let mut server = place.spawn(&name, self.mesh.directory(), &line).unwrap();
        server.wait_for_text("listening", PATIENCE).unwrap();
        self.servers.insert(pod.to_owned(), server);
    }

    /// What both ends see without the mesh, by server.
    pub(crate) fn observe_controls(&self, case: &Case) -> BTreeMap<&'static str, Observation> {
        let observe = |name: &'static str| {
            let roles = self.roles("control-client", &control(name), None);
            let observed = self.call(case, "control-client", &control(name), &roles);
            (name, observed)
        };
        SERVERS.iter().map(|(name, ..)| observe(name)).collect()
    }

    /// What both ends see in the mesh.
    pub(crate) fn observe(&self, case: &Case, way: Way) -> Observation {
        let (.., address) = SERVERS
            .iter()
            .find(|(name, ..)| *name == way.server)
            .unwrap();
        let service = service_addresses(*address, case.is_http).map(|text| text.parse().unwrap());
        let roles = self.roles("client", way.server, way.is_service.then_some(service));
        self.call(case, "client", way.server, &roles)
    }

    /// Who has which addresses.
    fn roles(&self, client: &str, server: &str, service: Option<[IpAddr; 2]>) -> Roles {
        let addresses = |pod: &str| self.mesh.pod(pod).unwrap().host.addresses();
        Roles {
            client: addresses(client),
            dialled: service.unwrap_or_else(|| addresses(server)),
        }
    }

    fn call(&self, case: &Case, client: &str, server: &str, roles: &Roles) -> Observation {
        let before = self.events(server, case).len();
        let program = self.programs.display().to_string();
        let [ipv4, ipv6] = roles.dialled.map(|address| address.to_string());
        let port = port(case).to_string();
        let line = ["python3", &program, "call", case.name, &ipv4, &ipv6, &port];
        let said = self.mesh.run(client, &line).unwrap();
        let seen = self.wait_for_events(server, case, before);
        Observation::new(&said, &seen, roles)
    }

    /// The events of a server behind the first ones: as many as it says of the case.
    fn wait_for_events(&self, server: &str, case: &Case, before: usize) -> Vec<String> {
        let began = Instant::now();
        loop {
            let events = self.events(server, case);
            if events.len() - before >= case.events || began.elapsed() > EVENTS_WITHIN {
                return events.into_iter().skip(before).collect();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The servers that have said more, or less, of a case than its calls make them say: a
    /// request was sent twice, or not at all.
    pub(crate) fn miscounted(&self, case: &Case) -> Vec<String> {
        let ways = |name: &str| WAYS.iter().filter(|way| way.server == name).count();
        let servers = SERVERS.iter().flat_map(|(name, ..)| {
            let calls = ways(name);
            [(control(name), 1), ((*name).to_owned(), calls)]
        });
        let wrong = servers.filter_map(|(server, calls)| {
            let (said, expected) = (self.events(&server, case).len(), calls * case.events);
            let is_wrong = said != expected;
            is_wrong.then(|| format!("{}, {server}: {said} events, not {expected}", case.name))
        });
        wrong.collect()
    }

    fn events(&self, server: &str, case: &Case) -> Vec<String> {
        let start = format!("{{\"case\": \"{}\",", case.name);
        let said = self.servers[server].stdout();
        let lines = said.lines().filter(|line| line.starts_with(&start));
        lines.map(str::to_owned).collect()
    }
}

fn control(name: &str) -> String {
    format!("control-{name}")
}

fn service_addresses(last: u8, is_http: bool) -> [String; 2] {
    let last = last + u8::from(is_http);
    [format!("10.96.1.{last}"), format!("fd00:10:96::1:{last}")]
}

fn ports(is_http: bool) -> Vec<(u16, u16)> {
    let cases = CASES.iter().filter(|case| case.is_http == is_http);
    cases.map(|case| (port(case), port(case))).collect()
}
