//! An API server with Weft's permissions in it, and control planes that run on it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use weft_testing::agent::{FakeAgent, connect};
use weft_tests::cluster::{ApiServer, Binaries, Endpoint, Identity, Kubectl};
use weft_tests::process::Process;
use weft_tests::wait_for;

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The API server of one test.
pub(crate) struct Bed {
    pub(crate) server: ApiServer,
    directory: TempDir,
}

/// A running control plane.
pub(crate) struct ControlPlane {
    process: Process,
    pub(crate) port: u16,
    pub(crate) webhook: u16,
    admin: u16,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let server = ApiServer::start(&Binaries::api_server(workspace).unwrap()).unwrap();
        let kubectl = server.kubectl();
        for manifest in ["namespace.yaml", "control-plane-rbac.yaml"] {
            let path = workspace.join("deploy/base").join(manifest);
            kubectl
                .run(&["apply", "--server-side", "-f", path.to_str().unwrap()])
                .unwrap();
        }
        let crds = workspace.join("deploy/crds");
        kubectl
            .run(&["apply", "--server-side", "-k", crds.to_str().unwrap()])
            .unwrap();
        let established = "--for=condition=Established";
        kubectl
            .run(&["wait", established, "crd", "--all", "--timeout=60s"])
            .unwrap();
        for account in ["weft-node-agent", "default"] {
            kubectl
                .run(&["create", "serviceaccount", account, "-n", "weft-system"])
                .unwrap();
        }
        let directory = tempfile::tempdir().unwrap();
        Self { server, directory }
    }

    pub(crate) fn kubectl(&self) -> &Kubectl {
        self.server.kubectl()
    }

    /// A namespace for applications, with the ServiceAccount that pods get.
    pub(crate) fn namespace(&self, name: &str, labels: &Value) {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": name, "labels": labels },
        });
        self.kubectl().apply(&namespace.to_string()).unwrap();
        self.kubectl()
            .run(&["create", "serviceaccount", "default", "-n", name])
            .unwrap();
    }

    /// A pod that was scheduled; nobody runs it.
    pub(crate) fn pod(&self, namespace: &str, name: &str, node: &str, account: &str) -> String {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": namespace },
            "spec": {
                "nodeName": node,
                "serviceAccountName": account,
                "containers": [{ "name": "app", "image": "app" }],
            },
        });
        self.kubectl().apply(&pod.to_string()).unwrap();
        self.uid(namespace, name)
    }

    pub(crate) fn uid(&self, namespace: &str, name: &str) -> String {
        let pod = self.kubectl().json(&["get", "pod", name, "-n", namespace]);
        pod.unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// The agent's pod on a node, and its token.
    pub(crate) fn agent_token(&self, node: &str) -> String {
        let pod = format!("weft-node-agent-{node}");
        self.pod("weft-system", &pod, node, "weft-node-agent");
        self.token("weft-node-agent", Some(&pod), "weft-control-plane")
    }

    /// A token of a ServiceAccount of Weft's namespace.
    pub(crate) fn token(&self, account: &str, pod: Option<&str>, audience: &str) -> String {
        let audience = format!("--audience={audience}");
        let mut arguments = vec!["create", "token", account, "-n", "weft-system", &audience];
        if let Some(pod) = pod {
            arguments.extend(["--bound-object-kind=Pod", "--bound-object-name", pod]);
        }
        self.kubectl().run(&arguments).unwrap().trim().to_owned()
    }

    /// A kubeconfig with the control plane's own permissions, for some address of the
    /// API server.
    fn kubeconfig(&self, replica: &str, endpoint: &Endpoint) -> PathBuf {
        let token =
            self.kubectl()
                .run(&["create", "token", "weft-control-plane", "-n", "weft-system"]);
        let path = self.directory.path().join(format!("{replica}.kubeconfig"));
        endpoint
            .write_kubeconfig(&path, Identity::Token(token.unwrap().trim()))
            .unwrap();
        path
    }

    /// A replica of the control plane that serves.
    pub(crate) fn start(&self, replica: &str) -> ControlPlane {
        self.start_at(replica, self.server.endpoint())
    }

    pub(crate) fn start_at(&self, replica: &str, endpoint: &Endpoint) -> ControlPlane {
        let control_plane = self.spawn(replica, endpoint);
        control_plane.wait_until_ready();
        control_plane
    }

    /// One with more of a command line.
    pub(crate) fn start_with(&self, replica: &str, arguments: &[&str]) -> ControlPlane {
        let control_plane = self.spawn_with(replica, self.server.endpoint(), arguments);
        control_plane.wait_until_ready();
        control_plane
    }

    /// The same, without waiting for it.
    pub(crate) fn spawn(&self, replica: &str, endpoint: &Endpoint) -> ControlPlane {
        self.spawn_with(replica, endpoint, &[])
    }

    fn spawn_with(&self, replica: &str, endpoint: &Endpoint, arguments: &[&str]) -> ControlPlane {
        let (port, admin, webhook) = (free_port(), free_port(), free_port());
        let mut command = Command::new(program());
        command
            .args(["serve", "--source=kubernetes", "--leaf-lifetime=1h"])
            .arg("--kubeconfig")
            .arg(self.kubeconfig(replica, endpoint))
            .arg(format!("--replica={replica}"))
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg(format!("--admin=127.0.0.1:{admin}"))
            .arg(format!("--webhook=127.0.0.1:{webhook}"))
            .args([
                "--server-name=weft-control-plane",
                "--server-name=localhost",
            ])
            .args(arguments);
        let process = Process::spawn(command, replica, self.directory.path()).unwrap();
        ControlPlane {
            process,
            port,
            webhook,
            admin,
        }
    }

    /// Takes a step of a root rotation with the control plane's own permissions.
    ///
    /// # Errors
    /// With what the program says, when it refuses.
    pub(crate) fn rotate_root(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(program());
        let kubeconfig = self.kubeconfig("rotation", self.server.endpoint());
        command.arg("rotate-root").args(arguments);
        let output = command
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }

    /// The agent of a node, connected with that token.
    pub(crate) async fn agent(
        &self,
        control_plane: &ControlPlane,
        node: &str,
        token: &str,
    ) -> FakeAgent {
        let connected = control_plane.agent(&self.roots(), node, token).await;
        connected.unwrap()
    }

    /// The roots that agents trust, PEM.
    pub(crate) fn roots(&self) -> Vec<u8> {
        let path = [
            "get",
            "configmap",
            "weft-root-certificates",
            "-n",
            "weft-system",
        ];
        let roots = wait_for("the published roots", LIMIT, || {
            let object = self
                .kubectl()
                .json(&path)
                .map_err(|error| error.to_string())?;
            let roots = object["data"]["ca.crt"].as_str();
            roots.map(str::to_owned).ok_or_else(|| object.to_string())
        });
        roots.unwrap().into_bytes()
    }

    /// A key of the authority's Secret.
    pub(crate) fn secret(&self, key: &str) -> String {
        let path = ["get", "secret", "weft-ca", "-n", "weft-system"];
        let secret = self.kubectl().json(&path).unwrap();
        let bytes = STANDARD.decode(secret["data"][key].as_str().unwrap());
        String::from_utf8(bytes.unwrap()).unwrap()
    }
}

impl ControlPlane {
    /// An agent that trusts these roots, PEM.
    pub(crate) async fn agent(
        &self,
        roots: &[u8],
        node: &str,
        token: &str,
    ) -> Result<FakeAgent, tonic::transport::Error> {
        let address = format!("https://127.0.0.1:{}", self.port);
        let channel = connect(&address, "weft-control-plane.weft-system.svc", roots).await?;
        Ok(FakeAgent::new(channel, node, Some(token)))
    }

    pub(crate) fn wait_until_ready(&self) {
        wait_for("a control plane that is ready", LIMIT, || {
            match self.get("/readyz") {
                Ok((200, _)) => Ok(()),
                Ok((_, why)) => Err(why),
                Err(error) => Err(format!("{error}; {}", self.process.stderr())),
            }
        })
        .unwrap();
    }

    fn get(&self, path: &str) -> Result<(u16, String), String> {
        let url = format!("http://127.0.0.1:{}{path}", self.admin);
        let output = Command::new("curl")
            .args(["-s", "-w", "\n%{http_code}", &url])
            .output()
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').ok_or("no answer")?;
        match status.parse() {
            Ok(status) if status != 0 => Ok((status, body.to_owned())),
            _ => Err("no answer".to_owned()),
        }
    }

    /// What it tells agents of a workload.
    pub(crate) fn workload(&self, uid: &str) -> Option<Value> {
        let (_, config) = self.get("/config").unwrap();
        let all: Vec<Value> = serde_json::from_str(&config).unwrap();
        all.into_iter().find(|resource| resource["name"] == uid)
    }

    /// Waits until it tells of a workload what it should.
    pub(crate) fn wait_for_workload(&self, uid: &str, field: &str, expected: &str) {
        wait_for(&format!("{field} to be {expected}"), LIMIT, || {
            match self.workload(uid) {
                Some(workload) if workload[field] == expected => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .unwrap();
    }

    pub(crate) fn log(&self) -> String {
        self.process.stderr()
    }

    pub(crate) fn wait_for_log(&mut self, text: &str) {
        self.process.wait_for_text(text, LIMIT).unwrap();
    }

    /// As kubelet ends it.
    pub(crate) fn stop(mut self) {
        self.process.signal(Signal::SIGTERM).unwrap();
        assert!(self.process.wait(LIMIT).unwrap().success());
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Beside the directory that this test is in.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("weft-control-plane")
}
