//! A cluster with Weft's images on its nodes: one of the test's own, or the one that
//! `cargo xtask cluster test --kubeconfig` names.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use weft_tests::cluster::{
    Binaries, Cluster, ClusterOptions, KubeProxy, Kubectl, install_weft, load_by_command,
};
use weft_tests::image::Image;
use weft_tests::wait_for;

/// How long anything may take on a loaded machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);
const APP: &str = env!("CARGO_BIN_EXE_weft-test-app");
/// Path of the kubeconfig of a cluster that isn't ours.
const KUBECONFIG: &str = "WEFT_TEST_KUBECONFIG";
/// The command that gives an image to its nodes.
const LOAD_IMAGE: &str = "WEFT_TEST_LOAD_IMAGE";
/// Each cluster gets the machine for itself: deadlines are about Weft, not about two
/// clusters at once on two cores.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) struct Bed {
    /// The test's own; `None` where it runs on somebody else's.
    pub(crate) own: Option<Cluster>,
    pub(crate) kubectl: Kubectl,
    begin: String,
    _turn: MutexGuard<'static, ()>,
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

impl Drop for Bed {
    fn drop(&mut self) {
        if self.own.is_none() && !std::thread::panicking() {
            self.remove_applications();
        }
    }
}

fn now() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap()
}

pub(crate) fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap()
}

/// What `cargo xtask images` has written, beside the directory that this test is in.
fn archives() -> [PathBuf; 3] {
    let test = std::env::current_exe().unwrap();
    let images = test.ancestors().nth(3).unwrap().join("images");
    ["weft-control-plane", "weft-node-agent", "weft-sidecar"].map(|name| {
        let archive = images.join(format!("{name}.tar"));
        assert!(archive.is_file(), "run `cargo xtask images --dev` first");
        archive
    })
}

/// The test application, with curl beside it.
fn client_image() -> Image {
    let mut client = Image::of_program("weft.test/client:1", Path::new(APP)).unwrap();
    client
        .add_program(Path::new("/usr/bin/curl"), "curl")
        .unwrap();
    client
}

impl Bed {
    /// A cluster whose kube-proxy works like this. `None` where the tests were given a
    /// cluster: that has one kube-proxy, which [`Bed::up`] takes as it is.
    pub(crate) fn up_with(kube_proxy: KubeProxy) -> Option<Self> {
        match std::env::var_os(KUBECONFIG) {
            None => Some(Self::up_own(kube_proxy)),
            Some(_) => None,
        }
    }

    pub(crate) fn up() -> Self {
        match std::env::var_os(KUBECONFIG) {
            None => Self::up_own(KubeProxy::default()),
            Some(kubeconfig) => Self::given(Path::new(&kubeconfig)),
        }
    }

    fn up_own(kube_proxy: KubeProxy) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        weft_tests::run::collect_leftovers();
        let binaries = Binaries::ensure(workspace()).unwrap();
        let mut options = ClusterOptions::new(APP);
        options.kube_proxy = kube_proxy;
        let cluster = Cluster::up(&binaries, &options).unwrap();
        cluster.load_image(&client_image()).unwrap();
        for archive in archives() {
            cluster.load_archive(&archive).unwrap();
        }
        Self {
            kubectl: cluster.kubectl().clone(),
            own: Some(cluster),
            begin: now(),
            _turn: turn,
        }
    }

    fn given(kubeconfig: &Path) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let binaries = Binaries::api_server(workspace()).unwrap();
        let kubectl = Kubectl::new(binaries.path("kubernetes/kubectl").unwrap(), kubeconfig);
        if let Ok(command) = std::env::var(LOAD_IMAGE) {
            let directory = tempfile::tempdir().unwrap();
            let client = directory.path().join("client.tar");
            std::fs::write(&client, client_image().pack().unwrap().bytes).unwrap();
            for archive in archives().into_iter().chain([client]) {
                load_by_command(&command, &archive).unwrap();
            }
        }
        let bed = Self {
            own: None,
            kubectl,
            begin: now(),
            _turn: turn,
        };
        bed.remove_applications();
        bed
    }

    /// What a story leaves in a cluster that stays.
    fn remove_applications(&self) {
        self.kubectl("delete namespace shop --ignore-not-found --timeout=120s");
        self.kubectl("delete pod stranger -n default --ignore-not-found --timeout=120s");
    }

    /// As the README says.
    pub(crate) fn install(&self) {
        if let Err(error) = install_weft(&self.kubectl, workspace()) {
            let pods = self.try_kubectl("describe pods -n weft-system");
            panic!("{error}\n{pods:?}\n{}", self.agent_logs());
        }
    }

    pub(crate) fn try_kubectl(&self, line: &str) -> Result<String, String> {
        let arguments: Vec<_> = line.split(' ').collect();
        let run = self.kubectl.run(&arguments);
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
        let list = self.kubectl.json(&list).unwrap();
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
        let label = "app.kubernetes.io/name=weft-node-agent";
        let since = &self.begin;
        let line = format!("logs -n weft-system -l {label} --tail=-1 --since-time={since}");
        self.try_kubectl(&line).unwrap_or_default()
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
    /// where the pod is strict and its access log has them.
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
        let condition = |name: &str, field: &str| {
            let conditions = pod["status"]["conditions"].as_array()?;
            let found = conditions
                .iter()
                .find(|condition| condition["type"] == name)?;
            found[field].as_str().map(str::to_owned)
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
            is_ready: condition("Ready", "status").as_deref() == Some("True"),
            // Of pods outside of the mesh it is True, too, where it is their readiness gate.
            captured: match condition("weft.dev/Captured", "reason").as_deref() {
                Some("NotInMesh") => Some("False".to_owned()),
                _ => condition("weft.dev/Captured", "status"),
            },
        }
    }
}
