//! Inside the machine: a mesh of two nodes in its namespaces.

use std::time::Duration;

use serde_json::Value;
use weft_tests::manifest::{PodSpec, Shape};
use weft_tests::mesh::{AgentOptions, Mesh, MeshBuilder};
use weft_tests::wait_for;

/// What the line with the outcome begins with.
pub(crate) const OUTCOME: &str = "outcome: ";
/// Everything takes many times as long as outside.
const LIMIT: Duration = Duration::from_secs(300);

/// Whose pods a node of that kernel serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// Its agent's.
    Agents,
    /// Those that have sidecars alone, as its agent says.
    Sidecars,
}

impl Outcome {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Agents => "agents",
            Self::Sidecars => "sidecars",
        }
    }
}

#[test]
#[ignore = "is run by the other tests, inside the machine that they boot"]
fn in_the_machine() {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("client", 1).shape(Shape::Sidecar))
        .pod(PodSpec::new("web", 2).shape(Shape::Sidecar))
        .agents(AgentOptions {
            arguments: vec!["--unknown-pods=refuse".to_owned()],
            ..AgentOptions::default()
        })
        .start()
        .unwrap();
    calls_pass_by_mutual_tls(&mut mesh, "web");
    let config = mesh.agent_get(2, "/config").unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    let outcome = match config["incapable"].as_str() {
        Some(reason) => {
            println!("the agents say: {reason}");
            assert!(reason.contains("sidecar"), "{reason}");
            Outcome::Sidecars
        }
        None => {
            mesh.apply_pod(PodSpec::new("captured", 2)).unwrap();
            mesh.wait_ready().unwrap();
            calls_pass_by_mutual_tls(&mut mesh, "captured");
            // With every program that there is.
            let log = mesh.agent_log(2).unwrap();
            assert!(!log.contains("this kernel can't"), "{log}");
            Outcome::Agents
        }
    };
    println!("{OUTCOME}{}", outcome.name());
}

/// From the client to a server, in both families, seen by the server's proxy.
fn calls_pass_by_mutual_tls(mesh: &mut Mesh, server: &str) {
    let line = ["http", "--listen", "[::]:8080", "--name", server];
    mesh.serve(server, &line).unwrap();
    for address in mesh.pod(server).unwrap().host.addresses() {
        let to = std::net::SocketAddr::from((address, 8080));
        let url = format!("http://{to}/");
        let line = ["curl", "-sS", "--fail", "--max-time", "60", &url];
        let answer = wait_for("an answer", LIMIT, || {
            let answer = mesh.run("client", &line);
            answer.map_err(|error| error.to_string())
        });
        let answer = answer.unwrap();
        assert!(answer.contains(&format!("\"{server}\"")), "{answer}");
        wait_for("its record", LIMIT, || {
            let records = mesh.access_records_of(server).unwrap();
            let is_it = records.iter().any(|record| {
                record.direction == "inbound"
                    && record.destination_address == Some(to)
                    && record.security == "mutual_tls"
                    && record.source_workload.as_deref() == Some("client")
            });
            is_it.then_some(()).ok_or_else(|| format!("{records:?}"))
        })
        .unwrap();
    }
}
