//! Which network namespace a pod has now, and notice when that changes. Where Kubernetes
//! runs the pods they are found by their processes; where a manifest describes them, by
//! the name of a namespace.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;
use weft_model::workload::{Workload, WorkloadUid};
use weft_node_agent::netns::{self, NamespaceIdentity, NetworkNamespace};
use weft_node_agent::processes::{Effort, Processes};

/// Where `ip netns` and most CNI plugins put names of network namespaces.
const DIRECTORY: &str = "/run/netns";
/// How often to look anyway: a bind mount over a name raises no event.
const POLL: Duration = Duration::from_secs(2);

/// How often to look for new processes while a pod's first one is awaited: it shall be
/// captured before it connects to anybody.
const EAGER_POLL: Duration = Duration::from_millis(10);
/// For how long that is done after a pod was heard of.
const EAGER: Duration = Duration::from_secs(30);

/// The network namespaces of this machine's pods.
#[derive(Debug)]
pub(crate) struct Namespaces {
    directory: PathBuf,
    processes: Mutex<Processes>,
    /// Until when pods are awaited.
    eager_until: watch::Sender<Option<Instant>>,
    /// The agent's own, which no pod may have.
    own: NamespaceIdentity,
    changed: Arc<watch::Sender<u64>>,
    /// Which pod uses which namespace: two proxies in one would fight over it.
    claims: Mutex<HashMap<NamespaceIdentity, WorkloadUid>>,
    /// Ends with this.
    _watcher: Option<RecommendedWatcher>,
}

/// Keeps a namespace to one pod until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    namespaces: Arc<Namespaces>,
    identity: NamespaceIdentity,
}

/// Why a namespace can't be used for a pod.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamespaceError {
    #[error("`{0}` is no name of a network namespace; use the name of a file in {DIRECTORY}")]
    Name(String),
    #[error("{0} is the agent's own network namespace, not a pod's")]
    Own(Place),
    #[error("{place} is still used for pod {pod}")]
    Taken { place: Place, pod: WorkloadUid },
    #[error("{0} changed while it was being opened")]
    Changed(Place),
    #[error("the pod's earlier proxy is just ending")]
    Ending,
    #[error(transparent)]
    Open(#[from] netns::NamespaceError),
}

/// Where a pod's namespace is looked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// A file in the directory of named namespaces.
    Name(String),
    /// The processes of the pod of that UID.
    Pod(String),
}

impl Place {
    /// Of a workload. Manifests name the namespace, or else it has the pod's name; their
    /// pods have no UID that kubelet gave them.
    pub(crate) fn of(workload: &Workload) -> Self {
        let uid = workload.uid.as_str();
        match &*workload.network_namespace {
            "" if uid.contains('/') => Self::Name(workload.name.to_string()),
            "" => Self::Pod(uid.to_owned()),
            name => Self::Name(name.to_owned()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{DIRECTORY}/{name}"),
            Self::Pod(uid) => write!(f, "the network namespace of the processes of pod {uid}"),
        }
    }
}

impl Namespaces {
    /// Starts to watch. Needs a running tokio runtime.
    ///
    /// # Errors
    /// When the agent's own namespace can't be read.
    pub(crate) fn watch() -> std::io::Result<Arc<Self>> {
        Self::watch_in(PathBuf::from(DIRECTORY))
    }

    fn watch_in(directory: PathBuf) -> std::io::Result<Arc<Self>> {
        let changed = Arc::new(watch::Sender::new(0));
        let watcher = watch_directory(&directory, Arc::clone(&changed));
        let own = identity_of(Path::new("/proc/self/ns/net"))?;
        let namespaces = Arc::new(Self {
            directory,
            processes: Mutex::new(Processes::new(own)),
            eager_until: watch::Sender::new(None),
            own,
            changed,
            claims: Mutex::default(),
            _watcher: watcher,
        });
        // Pods that are there already must not look as if they were awaited.
        namespaces.look(Effort::Everything);
        tokio::spawn(poll(Arc::downgrade(&namespaces)));
        Ok(namespaces)
    }

    /// A pod was heard of whose first process may come any moment.
    pub(crate) fn expect_pod(&self) {
        self.eager_until.send_replace(Some(Instant::now() + EAGER));
    }

    /// Looks at processes; whoever waits is told when something changed.
    fn look(&self, effort: Effort) {
        let scanned = self.processes().scan(effort, Instant::now());
        match scanned {
            // A name's mount raises no event, so everybody looks again now and then.
            Ok(changed) if changed || effort == Effort::Everything => {
                self.changed.send_modify(|count| *count += 1);
            }
            Ok(_) => {}
            Err(error) => tracing::error!(target: "agent", %error, "can't read /proc"),
        }
    }

    /// Notice that some namespace may have come, gone or changed.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Which namespace a pod has now. None when there is none, or its name is just being
    /// made.
    pub(crate) fn find(&self, place: &Place) -> Option<NamespaceIdentity> {
        match place {
            Place::Name(name) => self.find_named(name),
            Place::Pod(uid) => self.processes().find(uid).map(|found| found.identity),
        }
    }

    fn find_named(&self, name: &str) -> Option<NamespaceIdentity> {
        if !is_file_name(name) {
            return None;
        }
        let found = identity_of(&self.directory.join(name)).ok()?;
        // An empty file waits for its mount.
        (found.device == self.own.device).then_some(found)
    }

    /// Opens a pod's namespace.
    ///
    /// # Errors
    /// When it isn't the one that was found, any more.
    pub(crate) fn open(
        &self,
        place: &Place,
        expected: NamespaceIdentity,
    ) -> Result<NetworkNamespace, NamespaceError> {
        let namespace = match place {
            Place::Name(name) => Some(NetworkNamespace::open(&self.directory.join(name))?),
            Place::Pod(uid) => {
                let found = self.processes().find(uid);
                match found {
                    Some(found) => Processes::open(found)?,
                    None => None,
                }
            }
        };
        namespace
            .filter(|namespace| namespace.identity() == expected)
            .ok_or_else(|| NamespaceError::Changed(place.clone()))
    }

    /// Checks that a namespace may be a pod's, and that no other pod uses it.
    ///
    /// # Errors
    /// When it isn't so now.
    pub(crate) fn check(
        &self,
        place: &Place,
        identity: NamespaceIdentity,
        pod: &WorkloadUid,
    ) -> Result<(), NamespaceError> {
        if let Place::Name(name) = place
            && !is_file_name(name)
        {
            return Err(NamespaceError::Name(name.clone()));
        }
        if identity == self.own {
            return Err(NamespaceError::Own(place.clone()));
        }
        if self.find(place) != Some(identity) {
            return Err(NamespaceError::Changed(place.clone()));
        }
        match self.claims().get(&identity) {
            Some(other) if other != pod => Err(NamespaceError::Taken {
                place: place.clone(),
                pod: other.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Reserves a namespace for a pod's proxy.
    ///
    /// # Errors
    /// When it isn't one that the pod may have now.
    pub(crate) fn claim(
        self: &Arc<Self>,
        place: &Place,
        identity: NamespaceIdentity,
        pod: &WorkloadUid,
    ) -> Result<Claim, NamespaceError> {
        self.check(place, identity, pod)?;
        match self.claims().entry(identity) {
            Entry::Occupied(_) => Err(NamespaceError::Ending),
            Entry::Vacant(free) => {
                free.insert(pod.clone());
                Ok(Claim {
                    namespaces: Arc::clone(self),
                    identity,
                })
            }
        }
    }

    fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<NamespaceIdentity, WorkloadUid>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at everything now and then, and often at what is new while pods are awaited.
async fn poll(namespaces: Weak<Namespaces>) {
    let mut last_thorough = Instant::now();
    loop {
        let Some(namespaces) = namespaces.upgrade() else {
            return;
        };
        let mut awaited = namespaces.eager_until.subscribe();
        let until = *awaited.borrow_and_update();
        if last_thorough.elapsed() >= POLL {
            namespaces.look(Effort::Everything);
            last_thorough = Instant::now();
        } else {
            namespaces.look(Effort::New);
        }
        drop(namespaces);
        let is_eager = until.is_some_and(|until| Instant::now() < until);
        let pause = if is_eager { EAGER_POLL } else { POLL };
        // Ends early when a pod is heard of; also with the agent, whose end is above.
        let _ = tokio::time::timeout(pause, awaited.changed()).await;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.namespaces.claims().remove(&self.identity);
        // Whoever waits for it need not wait for the next poll.
        self.namespaces.changed.send_modify(|count| *count += 1);
    }
}

fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

fn identity_of(path: &Path) -> std::io::Result<NamespaceIdentity> {
    let metadata = std::fs::metadata(path)?;
    Ok(NamespaceIdentity {
        device: metadata.dev(),
        inode: metadata.ino(),
    })
}

/// Polling alone does where watching doesn't work, only later.
fn watch_directory(
    directory: &Path,
    changed: Arc<watch::Sender<u64>>,
) -> Option<RecommendedWatcher> {
    let notice = move |event: notify::Result<notify::Event>| {
        // Opening a namespace is an event, too, and changes nothing.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            changed.send_modify(|count| *count += 1);
        }
    };
    let watched = notify::recommended_watcher(notice).and_then(|mut watcher| {
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watched
        .inspect_err(|error| {
            tracing::warn!(%error, directory = %directory.display(), "can't watch; polling instead");
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Names in a directory of its own. A namespace of another kind stands for a pod's:
    /// it is as good to tell apart, and needs no privilege.
    fn fixture() -> (tempfile::TempDir, Arc<Namespaces>) {
        let directory = tempfile::tempdir().unwrap();
        symlink("/proc/self/ns/uts", directory.path().join("web")).unwrap();
        symlink("/proc/self/ns/net", directory.path().join("own")).unwrap();
        std::fs::write(directory.path().join("being-made"), "").unwrap();
        let namespaces = Namespaces::watch_in(directory.path().to_owned()).unwrap();
        (directory, namespaces)
    }

    fn named(name: &str) -> Place {
        Place::Name(name.to_owned())
    }

    fn uid(name: &str) -> WorkloadUid {
        WorkloadUid::from(name)
    }

    #[tokio::test]
    async fn only_mounted_namespaces_of_this_directory_are_found() {
        let (_directory, namespaces) = fixture();
        assert!(namespaces.find(&named("web")).is_some());
        for name in [
            "missing",
            "being-made",
            "",
            ".",
            "..",
            "../web",
            "/proc/self/ns/uts",
        ] {
            assert_eq!(namespaces.find(&named(name)), None, "{name}");
        }
    }

    #[tokio::test]
    async fn the_agents_own_namespace_is_never_a_pods() {
        let (_directory, namespaces) = fixture();
        let own = namespaces.find(&named("own")).unwrap();
        let error = namespaces
            .claim(&named("own"), own, &uid("web"))
            .unwrap_err();
        assert!(matches!(error, NamespaceError::Own(_)), "{error}");
    }

    #[tokio::test]
    async fn a_name_that_means_another_namespace_by_now_is_refused() {
        let (_directory, namespaces) = fixture();
        let web = namespaces.find(&named("web")).unwrap();
        let before = NamespaceIdentity {
            inode: web.inode + 1,
            ..web
        };
        let error = namespaces
            .claim(&named("web"), before, &uid("web"))
            .unwrap_err();
        assert!(matches!(error, NamespaceError::Changed(_)), "{error}");
    }

    #[tokio::test]
    async fn a_namespace_serves_one_pod_at_a_time() {
        let (_directory, namespaces) = fixture();
        let web = namespaces.find(&named("web")).unwrap();
        let claim = namespaces.claim(&named("web"), web, &uid("first")).unwrap();
        let error = namespaces
            .claim(&named("web"), web, &uid("second"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("still used for pod first"), "{error}");
        let again = namespaces
            .claim(&named("web"), web, &uid("first"))
            .unwrap_err();
        assert!(matches!(again, NamespaceError::Ending), "{again}");
        assert!(namespaces.check(&named("web"), web, &uid("first")).is_ok());

        let mut changed = namespaces.subscribe();
        changed.mark_unchanged();
        drop(claim);
        assert!(
            changed.has_changed().unwrap(),
            "nobody was told that it is free"
        );
        assert!(namespaces.claim(&named("web"), web, &uid("second")).is_ok());
    }

    #[tokio::test]
    async fn a_new_name_is_noticed() {
        let (directory, namespaces) = fixture();
        let mut changed = namespaces.subscribe();
        symlink("/proc/self/ns/uts", directory.path().join("api")).unwrap();
        let noticed = tokio::time::timeout(Duration::from_secs(10), changed.changed()).await;
        noticed.unwrap().unwrap();
        assert!(namespaces.find(&named("api")).is_some());
    }
}
