//! Dashboards and alerts with a real Prometheus, which scrapes a mesh that carries traffic:
//! every query has data, or is [one that has none](RIGHTLY_EMPTY).

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{AgentOptions, Mesh, MeshBuilder};
use weft_tests::process::{Place, Process};
use weft_tests::wait_for;

use super::{LIMIT, address, curl, serve_web};

/// Where Prometheus listens, on the loopback of the namespace that it is in.
const LISTEN: &str = "127.0.0.1:9090";
const AGENT_PORT: u16 = 15020;
const CONTROL_PLANE_PORT: u16 = 15014;
const SERVICE: &str = "10.96.0.10:80";
const NOBODY: &str = "10.96.0.12:80";
const ECHO: &str = "10.96.0.11:7";

/// Parts of queries that have no data in this mesh, and why. The same queries are told apart
/// from misspelt ones by the documents' tests: each name in them is measured.
const RIGHTLY_EMPTY: [(&str, &str); 10] = [
    (
        "weft_circuit_breaker_changes_total",
        "no circuit breaker is set",
    ),
    ("weft_endpoint_ejections_total", "no endpoint fails"),
    ("weft_faults_injected_total", "no faults are set"),
    ("weft_refused_total", "no limits are set"),
    ("weft_metrics_overflow_total", "no pod has that many series"),
    ("weft_pod_open_seconds", "no pod was open"),
    ("weft_memory_limit_bytes", "only where memory is limited"),
    ("request_protocol=\"grpc\"", "nobody speaks gRPC"),
    ("LIMIT|MEMORY_LIMIT", "no pod is at its limit"),
    ("absent(", "all are there"),
];

/// Shapes of the queries by which Kiali and the dashboards of Istio ask.
const SHAPES: [&str; 14] = [
    "sum by (source_workload_namespace, source_workload, source_canonical_service, \
     source_canonical_revision, destination_service_namespace, destination_service, \
     destination_service_name, destination_workload_namespace, destination_workload, \
     destination_canonical_service, destination_canonical_revision, request_protocol, \
     response_code, grpc_response_status, response_flags) \
     (rate(istio_requests_total{reporter=\"source\",source_workload_namespace=\"default\"}[1m]))",
    "sum by (source_workload, destination_workload, source_principal, destination_principal, \
     connection_security_policy) (rate(istio_requests_total{reporter=\"destination\",\
     destination_workload_namespace=\"default\",connection_security_policy=\"mutual_tls\"}[1m]))",
    "round(sum(irate(istio_requests_total{reporter=~\"source|waypoint\",\
     destination_service=~\"web.default.svc.cluster.local\"}[1m])), 0.001)",
    "sum(irate(istio_requests_total{reporter=\"source\",\
     destination_service=~\"web.*\",response_code!~\"5.*\"}[1m])) \
     / sum(irate(istio_requests_total{reporter=\"source\",destination_service=~\"web.*\"}[1m]))",
    "histogram_quantile(0.95, sum by (le, destination_service) \
     (rate(istio_request_duration_milliseconds_bucket{reporter=\"source\"}[1m])))",
    "histogram_quantile(0.99, sum by (le, destination_workload) \
     (rate(istio_request_duration_milliseconds_bucket{reporter=\"destination\"}[1m]))) / 1000",
    "sum(rate(istio_request_duration_milliseconds_sum{reporter=\"destination\"}[1m])) \
     / sum(rate(istio_request_duration_milliseconds_count{reporter=\"destination\"}[1m]))",
    "histogram_quantile(0.5, sum by (le) (irate(istio_request_bytes_bucket{\
     reporter=\"source\",destination_workload=~\"web.*\"}[1m])))",
    "histogram_quantile(0.5, sum by (le) (irate(istio_response_bytes_bucket{\
     reporter=\"source\",source_workload=\"client\"}[1m])))",
    "sum by (source_workload, destination_workload) (rate(istio_tcp_sent_bytes_total{\
     reporter=\"source\",source_workload_namespace=\"default\"}[1m]))",
    "sum by (destination_service) (rate(istio_tcp_received_bytes_total{\
     reporter=\"destination\",destination_service_name=~\".+\"}[1m])) \
     or sum(rate(istio_tcp_received_bytes_total{reporter=\"destination\"}[1m]))",
    "sum by (source_workload, destination_workload, destination_service) \
     (rate(istio_tcp_connections_opened_total{reporter=\"source\"}[1m]))",
    "sum by (source_workload, destination_workload, response_flags) \
     (rate(istio_tcp_connections_closed_total{reporter=\"destination\"}[1m]))",
    "group by (source_cluster, source_app, source_version, destination_cluster, \
     destination_app, destination_version) (istio_requests_total)",
];

#[test]
fn prometheus_takes_the_rules_and_alerts_fire_when_they_should() {
    let rules = monitoring().join("rules.yaml");
    let rules = rules.to_str().unwrap();
    promtool(Path::new("."), &["check", "rules", "--lint-fatal", rules]);
    // Beside the rules that they name.
    let folder = tempfile::tempdir().unwrap();
    fs::copy(rules, folder.path().join("rules.yaml")).unwrap();
    let cases = include_str!("monitoring/alerts.yaml");
    fs::write(folder.path().join("alerts.yaml"), cases).unwrap();
    promtool(folder.path(), &["test", "rules", "alerts.yaml"]);
    let rules = fs::read_to_string(rules).unwrap();
    for alert in rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
    {
        let shown = [" fires", " does not fire"]
            .map(|case| cases.contains(&format!("name: {alert}{case}\n")));
        assert!(
            shown == [true, true],
            "{alert}: alerts.yaml has to show it firing, and not"
        );
    }
}

fn promtool(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("promtool");
    let output = command
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {text}");
}

#[test]
fn every_query_of_dashboards_and_rules_has_data_in_a_mesh_with_traffic() {
    let mut mesh = mesh();
    let prometheus = Prometheus::start(&mesh);
    let mut queries = dashboard_queries();
    let shapes = SHAPES
        .iter()
        .map(|query| ("shape".to_owned(), (*query).to_owned()));
    queries.extend(shapes);
    queries.extend(prometheus.rule_queries());
    assert!(queries.len() > 100, "{}", queries.len());
    queries.retain(|(_, query)| reason_to_be_empty(query).is_none());
    let all_have_data = wait_for("every query to have data", LIMIT, || {
        make_traffic(&mut mesh);
        queries.retain(|(_, query)| !prometheus.has_data(query));
        let left = queries
            .iter()
            .map(|(place, query)| format!("{place}: {query}"));
        let left: Vec<_> = left.collect();
        left.is_empty().then_some(()).ok_or_else(|| left.join("\n"))
    });
    all_have_data.unwrap();
    // A refusal is where an operator looks for it, with its flag.
    let denied = "sum by (destination_workload, response_flags) (istio_tcp_connections_failed_total\
                  {reporter=\"destination\",response_flags=\"DENY\"}) > 0";
    let denied = prometheus.query(denied);
    assert_eq!(
        denied[0]["metric"]["destination_workload"], "strict",
        "{denied}"
    );
    for rule in prometheus.rules() {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}

fn mesh() -> Mesh {
    let agents = AgentOptions {
        arguments: vec!["--monitoring=0.0.0.0:15020".to_owned()],
        ..AgentOptions::default()
    };
    let mut mesh = MeshBuilder::new(2)
        .agents(agents)
        .pod(PodSpec::new("client", 1))
        .pod(PodSpec::new("web-1", 1).label("app", "web"))
        .pod(PodSpec::new("web-2", 2).label("app", "web"))
        .pod(PodSpec::new("echo", 2).label("app", "echo"))
        .pod(PodSpec::new("strict", 2).strict())
        .pod(PodSpec::new("outside", 1).outside())
        .http_service("web", &["10.96.0.10"], "web", &[(80, 8080)])
        .http_service("nobody", &["10.96.0.12"], "nobody", &[(80, 8080)])
        .service("echo", &["10.96.0.11"], "echo", &[(7, 9000)])
        .start()
        .unwrap();
    serve_web(&mut mesh, &["web-1", "web-2", "strict"]);
    mesh.serve("echo", &["echo", "--listen=[::]:9000"]).unwrap();
    mesh
}

/// Requests and connections, a request that fails, and a refusal.
fn make_traffic(mesh: &mut Mesh) {
    for _ in 0..4 {
        curl(mesh, "client", SERVICE.parse().unwrap()).unwrap();
    }
    curl(mesh, "client", NOBODY.parse().unwrap()).unwrap_err();
    let (ip, port) = ECHO.split_once(':').unwrap();
    let line = format!("exec 3<>/dev/tcp/{ip}/{port}; echo hello >&3; head -n1 <&3");
    mesh.run("client", &["bash", "-c", &line]).unwrap();
    curl(mesh, "outside", address(mesh, "strict", 8080)).unwrap_err();
}

fn reason_to_be_empty(query: &str) -> Option<&'static str> {
    let mut reasons = RIGHTLY_EMPTY.iter();
    reasons
        .find(|(part, _)| query.contains(part))
        .map(|(_, reason)| *reason)
}

fn monitoring() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap().join("deploy/monitoring")
}

/// The queries of all panels, with where each is; every variable stands for everything.
fn dashboard_queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for file in fs::read_dir(monitoring().join("dashboards")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let dashboard: Value = serde_json::from_str(&text).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            let place = format!("{}, {}", dashboard["title"], panel["title"]);
            for target in panel["targets"].as_array().unwrap() {
                let mut query = target["expr"].as_str().unwrap().to_owned();
                for (variable, value) in [
                    ("$__rate_interval", "1m"),
                    ("$namespace", ".*"),
                    ("$workload", ".*"),
                    ("$instance", ".*"),
                ] {
                    query = query.replace(variable, value);
                }
                queries.push((place.clone(), query));
            }
        }
    }
    queries
}

/// What an alert looks at: its query up to the last comparison of its first operand.
fn looked_at(query: &str) -> &str {
    // As Prometheus writes it out.
    let first = query.split(" and ").next().unwrap();
    let ends = [" > ", " < ", " == "].map(|operator| first.rfind(operator));
    let end = ends.into_iter().flatten().max();
    &first[..end.unwrap_or(first.len())]
}

/// Prometheus beside the control plane.
struct Prometheus {
    place: Place,
    _process: Process,
}

impl Prometheus {
    /// Starts it; it scrapes and evaluates every second.
    fn start(mesh: &Mesh) -> Self {
        let fabric = mesh.topology().fabric();
        let agents = mesh.topology().nodes().iter().map(|node| {
            json!({
                "targets": [SocketAddr::new(node.host.ipv4(), AGENT_PORT)],
                "labels": { "instance": node.name },
            })
        });
        let control_plane = SocketAddr::new(fabric.ipv4(), CONTROL_PLANE_PORT);
        // JSON is YAML.
        let configuration = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [monitoring().join("rules.yaml")],
            "scrape_configs": [
                {
                    "job_name": "weft-node-agent",
                    "honor_labels": true,
                    "static_configs": agents.collect::<Vec<_>>(),
                },
                {
                    "job_name": "weft-control-plane",
                    "honor_labels": true,
                    "static_configs": [{ "targets": [control_plane] }],
                },
            ],
        });
        let file = mesh.directory().join("prometheus.json");
        fs::write(&file, configuration.to_string()).unwrap();
        let line = [
            "prometheus",
            &format!("--config.file={}", file.display()),
            &format!(
                "--storage.tsdb.path={}",
                mesh.directory().join("tsdb").display()
            ),
            &format!("--web.listen-address={LISTEN}"),
        ];
        let place = fabric.place().clone();
        let _process = place.spawn("prometheus", mesh.directory(), &line).unwrap();
        let prometheus = Self { place, _process };
        let is_up = || {
            prometheus
                .get("/-/ready", &[])
                .map_err(|error| error.to_string())
        };
        wait_for("Prometheus to be ready", LIMIT, is_up).unwrap();
        prometheus
    }

    fn get(&self, path: &str, options: &[&str]) -> weft_tests::Result<String> {
        let url = format!("http://{LISTEN}{path}");
        let line = [
            "curl",
            "-sS",
            "--fail-with-body",
            "--max-time",
            "15",
            "--get",
            &url,
        ];
        self.place.output(&[&line, options].concat(), LIMIT)
    }

    fn query(&self, query: &str) -> Value {
        let query = format!("query={query}");
        let answer = self.get("/api/v1/query", &["--data-urlencode", &query]);
        let answer: Value = serde_json::from_str(&answer.unwrap()).unwrap();
        answer["data"]["result"].clone()
    }

    fn has_data(&self, query: &str) -> bool {
        let result = self.query(query);
        !result.as_array().unwrap().is_empty()
    }

    fn rules(&self) -> Vec<Value> {
        let answer = self.get("/api/v1/rules", &[]).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let groups = answer["data"]["groups"].as_array().unwrap().iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
        rules.cloned().collect()
    }

    /// What rules look at, each with the name of its rule; and what they record.
    fn rule_queries(&self) -> Vec<(String, String)> {
        let rules = self.rules();
        let queries = rules.iter().flat_map(|rule| {
            let name = rule["name"].as_str().unwrap().to_owned();
            let query = rule["query"].as_str().unwrap();
            match rule["type"] == "alerting" {
                true => vec![(name, looked_at(query).to_owned())],
                false => vec![(name.clone(), query.to_owned()), (name.clone(), name)],
            }
        });
        queries.collect()
    }
}
