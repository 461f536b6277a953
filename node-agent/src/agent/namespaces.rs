//! Network namespaces by name: which one has it now, and notice when that changes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;
use weft_model::workload::WorkloadUid;
use weft_node_agent::netns::NamespaceIdentity;

/// Where `ip netns` and most CNI plugins put names of network namespaces.
const DIRECTORY: &str = "/run/netns";
/// How often to look anyway: a bind mount over a name raises no event.
const POLL: Duration = Duration::from_secs(2);

/// The named network namespaces of this machine.
#[derive(Debug)]
pub(crate) struct Namespaces {
    directory: PathBuf,
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
    #[error("{DIRECTORY}/{0} is the agent's own network namespace, not a pod's")]
    Own(String),
    #[error("{DIRECTORY}/{name} is still used for pod {pod}")]
    Taken { name: String, pod: WorkloadUid },
    #[error("{DIRECTORY}/{0} changed while it was being opened")]
    Changed(String),
    #[error("the pod's earlier proxy is just ending")]
    Ending,
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
        let poll = Arc::downgrade(&changed);
        tokio::spawn(async move {
            while let Some(changed) = poll.upgrade() {
                changed.send_modify(|count| *count += 1);
                drop(changed);
                tokio::time::sleep(POLL).await;
            }
        });
        let own = identity_of(Path::new("/proc/self/ns/net"))?;
        let claims = Mutex::default();
        Ok(Arc::new(Self {
            directory,
            own,
            changed,
            claims,
            _watcher: watcher,
        }))
    }

    /// Notice that some namespace may have come, gone or changed.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Which namespace has a name now. None when there is none, or the name is just
    /// being made.
    pub(crate) fn find(&self, name: &str) -> Option<NamespaceIdentity> {
        if !is_file_name(name) {
            return None;
        }
        let found = identity_of(&self.directory.join(name)).ok()?;
        // An empty file waits for its mount.
        (found.device == self.own.device).then_some(found)
    }

    /// Checks that a namespace may be a pod's, and that no other pod uses it.
    ///
    /// # Errors
    /// When it isn't so now.
    pub(crate) fn check(
        &self,
        name: &str,
        identity: NamespaceIdentity,
        pod: &WorkloadUid,
    ) -> Result<(), NamespaceError> {
        if !is_file_name(name) {
            return Err(NamespaceError::Name(name.to_owned()));
        }
        if identity == self.own {
            return Err(NamespaceError::Own(name.to_owned()));
        }
        if self.find(name) != Some(identity) {
            return Err(NamespaceError::Changed(name.to_owned()));
        }
        match self.claims().get(&identity) {
            Some(other) if other != pod => Err(NamespaceError::Taken {
                name: name.to_owned(),
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
        name: &str,
        identity: NamespaceIdentity,
        pod: &WorkloadUid,
    ) -> Result<Claim, NamespaceError> {
        self.check(name, identity, pod)?;
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

    fn claims(&self) -> MutexGuard<'_, HashMap<NamespaceIdentity, WorkloadUid>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn uid(name: &str) -> WorkloadUid {
        WorkloadUid::from(name)
    }

    #[tokio::test]
    async fn only_mounted_namespaces_of_this_directory_are_found() {
        let (_directory, namespaces) = fixture();
        assert!(namespaces.find("web").is_some());
        for name in [
            "missing",
            "being-made",
            "",
            ".",
            "..",
            "../web",
            "/proc/self/ns/uts",
        ] {
            assert_eq!(namespaces.find(name), None, "{name}");
        }
    }

    #[tokio::test]
    async fn the_agents_own_namespace_is_never_a_pods() {
        let (_directory, namespaces) = fixture();
        let own = namespaces.find("own").unwrap();
        let error = namespaces.claim("own", own, &uid("web")).unwrap_err();
        assert!(matches!(error, NamespaceError::Own(_)), "{error}");
    }

    #[tokio::test]
    async fn a_name_that_means_another_namespace_by_now_is_refused() {
        let (_directory, namespaces) = fixture();
        let web = namespaces.find("web").unwrap();
        let before = NamespaceIdentity {
            inode: web.inode + 1,
            ..web
        };
        let error = namespaces.claim("web", before, &uid("web")).unwrap_err();
        assert!(matches!(error, NamespaceError::Changed(_)), "{error}");
    }

    #[tokio::test]
    async fn a_namespace_serves_one_pod_at_a_time() {
        let (_directory, namespaces) = fixture();
        let web = namespaces.find("web").unwrap();
        let claim = namespaces.claim("web", web, &uid("first")).unwrap();
        let error = namespaces
            .claim("web", web, &uid("second"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("still used for pod first"), "{error}");
        let again = namespaces.claim("web", web, &uid("first")).unwrap_err();
        assert!(matches!(again, NamespaceError::Ending), "{again}");
        assert!(namespaces.check("web", web, &uid("first")).is_ok());

        let mut changed = namespaces.subscribe();
        changed.mark_unchanged();
        drop(claim);
        assert!(
            changed.has_changed().unwrap(),
            "nobody was told that it is free"
        );
        assert!(namespaces.claim("web", web, &uid("second")).is_ok());
    }

    #[tokio::test]
    async fn a_new_name_is_noticed() {
        let (directory, namespaces) = fixture();
        let mut changed = namespaces.subscribe();
        symlink("/proc/self/ns/uts", directory.path().join("api")).unwrap();
        let noticed = tokio::time::timeout(Duration::from_secs(10), changed.changed()).await;
        noticed.unwrap().unwrap();
        assert!(namespaces.find("api").is_some());
    }
}
