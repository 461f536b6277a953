//! A cluster with Weft's images on its nodes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use weft_tests::cluster::{Binaries, Cluster, ClusterOptions, KubeProxy};
use weft_tests::image::Image;
use weft_tests::wait_for;

/// How long anything may take on a loaded machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);
const APP: &str = env!("CARGO_BIN_EXE_weft-test-app");

pub(crate) struct Bed {
    pub(crate) cluster: Cluster,
}

/// A pod, as far as tests care.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) node: String,
    pub(crate) address: String,
    pub(crate) restarts: u64,
    pub(crate) is_ready: bool,
    /// Status of the condition `weft.dev/Captured`.
    pub(crate) captured: Option<String>,
}

fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap()
}

/// Where `cargo xtask images` writes, beside the directory that this test is in.
fn images() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().join("images")
}

impl Bed {
    pub(crate) fn up(kube_proxy: KubeProxy) -> Self {
        weft_tests::run::collect_leftovers();
        let binaries = Binaries::ensure(workspace()).unwrap();
        let mut options = ClusterOptions::new(APP);
        options.kube_proxy = kube_proxy;
        let cluster = Cluster::up(&binaries, &options).unwrap();
        let mut client = Image::of_program("weft.test/client:1", Path::new(APP)).unwrap();
        client
            .add_program(Path::new("/usr/bin/curl"), "curl")
            .unwrap();
        cluster.load_image(&client).unwrap();
        for name in ["weft-control-plane", "weft-node-agent"] {
            let archive = images().join(format!("{name}.tar"));
            assert!(archive.is_file(), "run `cargo xtask images --dev` first");
            cluster.load_archive(&archive).unwrap();
        }
        Self { cluster }
    }

    /// As the README says.
    pub(crate) fn install(&self) {
        let deploy = workspace().join("deploy");
        self.kubectl(&format!("apply --server-side -k {}", deploy.display()));
        for part in ["deployment/weft-control-plane", "daemonset/weft-node-agent"] {
            let line = format!("rollout status {part} -n weft-system --timeout=120s");
            let ended = self.try_kubectl(&line);
            if let Err(error) = ended {
                let pods = self.try_kubectl("describe pods -n weft-system");
                panic!("{error}\n{pods:?}\n{}", self.agent_logs());
            }
        }
    }

    pub(crate) fn try_kubectl(&self, line: &str) -> Result<String, String> {
        let arguments: Vec<_> = line.split(' ').collect();
        let run = self.cluster.kubectl().run(&arguments);
        run.map_err(|error| error.to_string())
    }

    pub(crate) fn kubectl(&self, line: &str) -> String {
        self.try_kubectl(line).unwrap()
    }

    /// The pods of an application that are to stay, by name.
    pub(crate) fn pods(&self, namespace: &str, app: &str) -> Vec<Pod> {
        let label = match namespace {
            "weft-system" => format!("-l=app.kubernetes.io/name={app}"),
            _ => format!("-l=app={app}"),
        };
        let list = ["get", "pods", "-n", namespace, &label];
        let list = self.cluster.kubectl().json(&list).unwrap();
        let pods = list["items"].as_array().unwrap().iter();
        let pods = pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let mut pods: Vec<_> = pods.map(Pod::read).collect();
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        pods
    }

    pub(crate) fn service_address(&self, namespace: &str, name: &str) -> String {
        self.kubectl(&format!(
            "get service {name} -n {namespace} -o=jsonpath={{.spec.clusterIP}}"
        ))
    }

    /// Asks from inside a pod, on a connection of its own.
    pub(crate) fn curl(&self, namespace: &str, pod: &str, url: &str) -> Result<String, String> {
        self.try_kubectl(&format!(
            "exec {pod} -n {namespace} -- /curl -sS --max-time 5 {url}"
        ))
    }

    /// What all agents that run have logged.
    pub(crate) fn agent_logs(&self) -> String {
        self.try_kubectl("logs -n weft-system -l app.kubernetes.io/name=weft-node-agent --tail=-1")
            .unwrap_or_default()
    }

    /// Whether a line of an agent has all of these.
    pub(crate) fn agents_saw(&self, parts: &[&str]) -> bool {
        let has_all = |line: &str| parts.iter().all(|part| line.contains(part));
        self.agent_logs().lines().any(has_all)
    }

    pub(crate) fn wait_for_record(&self, parts: &[&str]) {
        wait_for(&format!("a record with {parts:?}"), LIMIT, || {
            match self.agents_saw(parts) {
                true => Ok(()),
                false => Err("no such line".to_owned()),
            }
        })
        .unwrap();
    }

    /// Plaintext connections from outside the mesh that a pod was let have: probes,
    /// where the pod is strict.
    pub(crate) fn probes_of(&self, pod: &str) -> usize {
        let pod = format!("destination.workload=\"{pod}\"");
        let is_probe = |line: &&str| {
            line.contains(&pod)
                && line.contains("security=\"plaintext\"")
                && line.contains("flags=\"-\"")
        };
        self.agent_logs().lines().filter(is_probe).count()
    }
}

impl Pod {
    fn read(pod: &serde_json::Value) -> Self {
        let text = |path: &str| {
            let value = pod.pointer(path).and_then(serde_json::Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let condition = |name: &str| {
            let conditions = pod["status"]["conditions"].as_array()?;
            let found = conditions
                .iter()
                .find(|condition| condition["type"] == name)?;
            found["status"].as_str().map(str::to_owned)
        };
        let restarts = pod.pointer("/status/containerStatuses/0/restartCount");
        Self {
            name: text("/metadata/name"),
            uid: text("/metadata/uid"),
            node: text("/spec/nodeName"),
            address: text("/status/podIP"),
            restarts: restarts
                .and_then(serde_json::Value::as_u64)
                .unwrap_or_default(),
            is_ready: condition("Ready").as_deref() == Some("True"),
            captured: condition("weft.dev/Captured"),
        }
    }
}
