//! Pods that are made at a steady pace, as the webhooks see them: what all reviews of a pod take
//! together, beside as many reviews that ask nothing of the mesh, in a small mesh and a large one.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::mesh::{self, Size};
use crate::server::Server;
use crate::{Failure, Options};

const PODS_PER_SECOND: u32 = 50;
/// Connections of an API server, which opens another when all are busy.
const CONNECTIONS: usize = 8;
/// The paths that a pod of the mesh is reviewed on, one after the other.
const PATHS: [&str; 3] = ["/mutate-in-mesh", "/inject-in-mesh", "/validate"];

/// Measured in one mesh.
#[derive(Debug)]
struct Measured {
    size: Size,
    /// Reviews of an object that the mesh has no use for, sorted.
    nothing: Vec<Duration>,
    /// Reviews of pods that get gate and sidecar, sorted.
    pods: Vec<Duration>,
}

/// Measures, and prints what was.
pub(crate) async fn run(options: &Options, cores: &[usize]) -> Result<(), Failure> {
    let mut measured = Vec::new();
    for part in [100, 1] {
        let size = Size {
            pods: (options.pods / part).max(1),
            nodes: (options.agents / part).max(1),
        };
        eprintln!("{} pods, {} nodes", size.pods, size.nodes);
        measured.push(measure(size, options, cores).await?);
    }
    match options.json {
        true => {
            let rows: Vec<_> = measured.iter().map(Measured::json).collect();
            println!("{}", serde_json::to_string_pretty(&rows)?);
        }
        false => print(&measured),
    }
    Ok(())
}

async fn measure(size: Size, options: &Options, cores: &[usize]) -> Result<Measured, Failure> {
    let folder = tempfile::tempdir()?;
    let manifests = folder.path().join("manifests");
    fs::create_dir(&manifests)?;
    mesh::write(&manifests, size)?;
    write_nodes(&manifests, size)?;
    let (server, _) = Server::start(folder.path(), cores)?;
    let root = fs::read(folder.path().join("state/ca/root.pem"))?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let connection = Connection::open(server.webhook, &root).await?;
        connections.push(Arc::new(Mutex::new(connection)));
    }
    let count = options.seconds * PODS_PER_SECOND;
    let nothing = post_all(&connections, count, &reviews("ConfigMap")).await?;
    let pods = post_all(&connections, count, &reviews("Pod")).await?;
    Ok(Measured {
        size,
        nothing,
        pods,
    })
}

/// Nodes, most of which can't capture: `auto` gives every pod a sidecar once it has looked at all.
fn write_nodes(directory: &Path, size: Size) -> io::Result<()> {
    let mut text = String::new();
    for node in 0..size.nodes {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Node\n\
             metadata: {{ name: {}, labels: {{ weft.dev/ebpf: '{}' }} }}\n",
            mesh::node(node),
            node % 10 == 1,
        );
    }
    fs::write(directory.join("nodes.yaml"), text)
}

/// A review on each path, as an API server sends it.
fn reviews(kind: &str) -> [(&'static str, Arc<[u8]>); 3] {
    let variable = |number: u32| json!({ "name": format!("SETTING_{number}"), "value": "value" });
    let environment: Vec<_> = (0..40).map(variable).collect();
    let container = json!({
        "name": "web", "image": "registry.example.com/web:1.2.3", "env": environment,
        "ports": [{ "containerPort": 8080, "protocol": "TCP" }],
        "readinessProbe": { "httpGet": { "path": "/ready", "port": 8080 } },
        "resources": { "requests": { "cpu": "100m", "memory": "128Mi" } },
    });
    let labels = json!({ "app": "web", "pod-template-hash": "7c9d8f6b5" });
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE",
            "namespace": "ns-0", "userInfo": { "username": "system:controller" },
            "kind": { "group": "", "version": "v1", "kind": kind },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "object": {
                "apiVersion": "v1", "kind": kind,
                "metadata": { "generateName": "web-7c9d8f6b5-", "namespace": "ns-0", "labels": labels },
                "spec": { "serviceAccountName": "web", "containers": [container] },
            },
        },
    });
    let body: Arc<[u8]> = review.to_string().into_bytes().into();
    match kind {
        "Pod" => PATHS.map(|path| (path, Arc::clone(&body))),
        // The others would ask whether it is a pod, and no more.
        _ => ["/validate"; 3].map(|path| (path, Arc::clone(&body))),
    }
}

/// Posts reviews at that pace, whether those before were answered or not. What each took since its
/// time, sorted.
async fn post_all(
    connections: &[Arc<Mutex<Connection>>],
    count: u32,
    reviews: &[(&'static str, Arc<[u8]>); 3],
) -> Result<Vec<Duration>, Failure> {
    let begin = Instant::now();
    let mut running = JoinSet::new();
    for (number, connection) in (0..count).zip(connections.iter().cycle()) {
        let at = begin + Duration::from_secs(1) / PODS_PER_SECOND * number;
        sleep_until(at).await;
        let (connection, reviews) = (Arc::clone(connection), reviews.clone());
        running.spawn(async move {
            let mut connection = connection.lock().await;
            for (path, body) in reviews {
                connection.post(path, &body).await?;
            }
            Ok::<_, Failure>(at.elapsed())
        });
    }
    let mut took = Vec::new();
    while let Some(one) = running.join_next().await {
        took.push(one??);
    }
    took.sort();
    Ok(took)
}

/// A connection of the API server's.
struct Connection(BufStream<TlsStream<TcpStream>>);

impl Connection {
    async fn open(port: u16, root: &[u8]) -> Result<Self, Failure> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(root) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("weft-control-plane")?;
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await?;
        Ok(Self(BufStream::new(stream)))
    }

    /// Posts one review, and reads its answer.
    async fn post(&mut self, path: &str, body: &[u8]) -> Result<(), Failure> {
        let Self(stream) = self;
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: weft\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        stream.flush().await?;
        let mut length = 0;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Err("the webhook has closed the connection".into());
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        match answer["response"]["allowed"] == true {
            true => Ok(()),
            false => Err(answer.to_string().into()),
        }
    }
}

/// The one below which so many thousandths are.
fn quantile(sorted: &[Duration], thousandths: usize) -> Duration {
    let index = sorted.len() * thousandths / 1000;
    let last = sorted.len().saturating_sub(1);
    sorted.get(index.min(last)).copied().unwrap_or_default()
}

impl Measured {
    fn json(&self) -> Value {
        let of = |sorted: &[Duration]| {
            json!({
                "p50_s": quantile(sorted, 500).as_secs_f64(),
                "p99_s": quantile(sorted, 990).as_secs_f64(),
            })
        };
        json!({
            "pods": self.size.pods,
            "nodes": self.size.nodes,
            "samples": self.pods.len(),
            "pods_per_second": PODS_PER_SECOND,
            "nothing": of(&self.nothing),
            "new_pod": of(&self.pods),
        })
    }
}

fn print(measured: &[Measured]) {
    println!(
        "{PODS_PER_SECOND} pods/s, three reviews each on connections that stay open, from the time \
         that the pod is due"
    );
    println!(
        "{:<28}{:>10}{:>16}{:>16}{:>10}",
        "mesh", "", "asks nothing", "gets a sidecar", "ratio"
    );
    for one in measured {
        let mesh = format!("{} pods, {} nodes", one.size.pods, one.size.nodes);
        for (name, thousandths) in [("p50", 500), ("p99", 990)] {
            let [nothing, pods] = [&one.nothing, &one.pods]
                .map(|sorted| quantile(sorted, thousandths).as_secs_f64() * 1000.0);
            let ratio = if nothing > 0.0 {
                pods / nothing
            } else {
                f64::NAN
            };
            println!("{mesh:<28}{name:>7} ms{nothing:>16.3}{pods:>16.3}{ratio:>9.2}x");
        }
    }
}
