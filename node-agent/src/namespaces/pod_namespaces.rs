//! The network namespace that a pod has now, and notice when that changes. Where Kubernetes
//! runs the pods they are found by their processes; where a manifest describes them, by
//! the name of a namespace.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;
use weft_model::workload::WorkloadUid;

use super::cgroup_path::normalized_uid;
use super::changes::ChangeNotice;
use super::claims::{NamespaceClaim, NamespaceClaims};
use super::error::PodNamespaceError;
use super::location::NamespaceLocation;
use super::network_namespace::{NAMED_NAMESPACES, NamespaceIdentity, NetworkNamespace};
use super::processes::{Effort, PodNamespace, Processes};

/// The interval of looking anyway: a bind mount over a name raises no event.
const POLL: Duration = Duration::from_secs(2);

/// The interval of looking for new processes while a pod's first one is awaited: it shall be
/// captured before it connects to anybody.
const EAGER_POLL: Duration = Duration::from_millis(10);
/// The time for which that is done after a pod was heard of.
const EAGER: Duration = Duration::from_secs(30);
/// The interval afterwards for as long as a pod is awaited that may not be open: an application
/// connects for the first time 90 ms and more after its pod's first process has begun.
const WATCHFUL_POLL: Duration = Duration::from_millis(50);

/// Has processes looked at often for as long as it lives.
#[derive(Debug)]
pub(crate) struct Watchfulness(#[expect(dead_code, reason = "it is counted")] Arc<()>);

/// The network namespaces of this machine's pods.
#[derive(Debug)]
pub(crate) struct PodNamespaces {
    directory: PathBuf,
    /// Held while they are looked at, which takes its time where there are very many.
    processes: Mutex<Processes>,
    /// What was seen last.
    found: Mutex<Arc<HashMap<String, PodNamespace>>>,
    /// All processes are to be looked at, as soon as somebody looks.
    is_thorough_look_due: AtomicBool,
    /// Pods are awaited until then.
    eager_until: watch::Sender<Option<Instant>>,
    /// One for each pod that is awaited and may not be open.
    watchful: Arc<()>,
    /// The agent's own, which no pod may have.
    own: NamespaceIdentity,
    changes: ChangeNotice,
    claims: Arc<NamespaceClaims>,
    /// Ends with this.
    _watcher: Option<RecommendedWatcher>,
}

impl PodNamespaces {
    /// Starts to watch. Needs a running tokio runtime.
    ///
    /// # Errors
    /// When the agent's own namespace can't be read.
    pub(crate) fn watch() -> std::io::Result<Arc<Self>> {
        Self::watch_in(PathBuf::from(NAMED_NAMESPACES), PathBuf::from("/proc"))
    }

    fn watch_in(directory: PathBuf, proc: PathBuf) -> std::io::Result<Arc<Self>> {
        let changes = ChangeNotice::new();
        let watcher = watch_directory(&directory, changes.clone());
        let own = NamespaceIdentity::read(Path::new("/proc/self/ns/net"))?;
        let namespaces = Arc::new(Self {
            directory,
            processes: Mutex::new(Processes::in_directory(proc, own)),
            found: Mutex::default(),
            is_thorough_look_due: AtomicBool::new(false),
            eager_until: watch::Sender::new(None),
            watchful: Arc::default(),
            own,
            claims: Arc::new(NamespaceClaims::new(changes.clone())),
            changes,
            _watcher: watcher,
        });
        // Pods that are there already must not look as if they were awaited.
        namespaces.scan(Effort::Everything);
        tokio::spawn(poll(Arc::downgrade(&namespaces)));
        Ok(namespaces)
    }

    /// A pod was heard of whose first process may come any moment.
    pub(crate) fn expect_pod(&self) {
        self.eager_until.send_replace(Some(Instant::now() + EAGER));
    }

    /// A pod is awaited that may not be open: its first process is looked for often, until this
    /// is dropped.
    pub(crate) fn watch_out(&self) -> Watchfulness {
        Watchfulness(Arc::clone(&self.watchful))
    }

    /// The interval at which new processes are looked at now.
    fn poll_interval(&self, eager_until: Option<Instant>) -> Duration {
        match eager_until {
            Some(until) if Instant::now() < until => EAGER_POLL,
            _ if Arc::strong_count(&self.watchful) > 1 => WATCHFUL_POLL,
            _ => POLL,
        }
    }

    /// Looks at processes; whoever waits is told when something changed. Not to be done on a
    /// thread that others need.
    fn scan(&self, effort: Effort) {
        let scanned = {
            let mut processes = lock(&self.processes);
            let scanned = processes.scan(effort, Instant::now());
            if matches!(scanned, Ok(true)) {
                *lock(&self.found) = Arc::new(processes.pods().clone());
            }
            scanned
        };
        match scanned {
            // A name's mount raises no event, so everybody looks again now and then.
            Ok(changed) if changed || effort == Effort::Everything => {
                self.changes.notify();
            }
            Ok(_) => {}
            Err(error) => tracing::error!(target: "agent", %error, "can't read /proc"),
        }
    }

    /// Notice that some namespace may have come, gone or changed.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The namespace that a pod has now. None when there is none, or its name is just being
    /// made.
    pub(crate) fn find(&self, location: &NamespaceLocation) -> Option<NamespaceIdentity> {
        match location {
            NamespaceLocation::Named(name) => self.find_named(name),
            NamespaceLocation::OfPod(uid) => self.found_of_pod(uid).map(|found| found.identity),
        }
    }

    /// The time for which a pod has its namespace, where it was found by its processes.
    pub(crate) fn age(&self, location: &NamespaceLocation) -> Option<Duration> {
        match location {
            NamespaceLocation::Named(_) => None,
            NamespaceLocation::OfPod(uid) => self.found_of_pod(uid)?.age(),
        }
    }

    /// The pods that have processes on this machine, by UID, with their namespaces.
    pub(crate) fn pods_of_processes(&self) -> HashMap<String, NamespaceIdentity> {
        let found = Arc::clone(&lock(&self.found));
        let pods = found.iter();
        pods.map(|(uid, found)| (uid.clone(), found.identity))
            .collect()
    }

    fn find_named(&self, name: &str) -> Option<NamespaceIdentity> {
        if !is_file_name(name) {
            return None;
        }
        let found = NamespaceIdentity::read(&self.directory.join(name)).ok()?;
        // An empty file waits for its mount.
        (found.device == self.own.device).then_some(found)
    }

    /// Opens a pod's namespace.
    ///
    /// # Errors
    /// When it isn't the one that was found, any more.
    pub(crate) fn open(
        &self,
        location: &NamespaceLocation,
        expected: NamespaceIdentity,
    ) -> Result<NetworkNamespace, PodNamespaceError> {
        let namespace = match location {
            NamespaceLocation::Named(name) => {
                Some(NetworkNamespace::open(&self.directory.join(name))?)
            }
            NamespaceLocation::OfPod(uid) => match self.open_of_pod(uid)? {
                None => {
                    // The process by which it was found has ended: another may be there.
                    self.is_thorough_look_due.store(true, Ordering::Relaxed);
                    self.eager_until.send_modify(|_| {});
                    return Err(PodNamespaceError::LookedFor(location.clone()));
                }
                opened => opened,
            },
        };
        namespace
            .filter(|namespace| namespace.identity() == expected)
            .ok_or_else(|| PodNamespaceError::Changed(location.clone()))
    }

    fn open_of_pod(&self, uid: &str) -> Result<Option<NetworkNamespace>, PodNamespaceError> {
        let opened = self.found_of_pod(uid).map(Processes::open).transpose()?;
        Ok(opened.flatten())
    }

    /// Checks that a namespace may be a pod's, and that no other pod uses it.
    ///
    /// # Errors
    /// When it isn't so now.
    pub(crate) fn check(
        &self,
        location: &NamespaceLocation,
        identity: NamespaceIdentity,
        pod: &WorkloadUid,
    ) -> Result<(), PodNamespaceError> {
        if let NamespaceLocation::Named(name) = location
            && !is_file_name(name)
        {
            return Err(PodNamespaceError::Name(name.clone()));
        }
        if identity == self.own {
            return Err(PodNamespaceError::Own(location.clone()));
        }
        if self.find(location) != Some(identity) {
            return Err(PodNamespaceError::Changed(location.clone()));
        }
        match self.claims.owner(identity) {
            Some(other) if other != *pod => Err(PodNamespaceError::Taken {
                location: location.clone(),
                pod: other,
            }),
            _ => Ok(()),
        }
    }

    /// Reserves a namespace for a pod's proxy.
    ///
    /// # Errors
    /// When it isn't one that the pod may have now.
    pub(crate) fn claim(
        &self,
        location: &NamespaceLocation,
        identity: NamespaceIdentity,
        pod: &WorkloadUid,
    ) -> Result<NamespaceClaim, PodNamespaceError> {
        self.check(location, identity, pod)?;
        let claim = self.claims.claim(identity, pod);
        claim.ok_or(PodNamespaceError::Ending)
    }

    fn found_of_pod(&self, uid: &str) -> Option<PodNamespace> {
        lock(&self.found).get(&normalized_uid(uid)).copied()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at everything now and then, and often at what is new while pods are awaited.
async fn poll(namespaces: Weak<PodNamespaces>) {
    let mut last_thorough = Instant::now();
    loop {
        let Some(namespaces) = namespaces.upgrade() else {
            return;
        };
        let mut awaited = namespaces.eager_until.subscribe();
        let until = *awaited.borrow_and_update();
        let is_due = namespaces
            .is_thorough_look_due
            .swap(false, Ordering::Relaxed);
        let effort = match is_due || last_thorough.elapsed() >= POLL {
            true => Effort::Everything,
            false => Effort::New,
        };
        let looking = Arc::clone(&namespaces);
        let looked = tokio::task::spawn_blocking(move || looking.scan(effort)).await;
        if let Err(error) = looked {
            tracing::error!(target: "agent", %error, "a look at /proc was broken off");
        }
        if effort == Effort::Everything {
            last_thorough = Instant::now();
        }
        let pause = namespaces.poll_interval(until);
        drop(namespaces);
        // Ends early when a pod is heard of; also with the agent, whose end is above.
        let _ = tokio::time::timeout(pause, awaited.changed()).await;
    }
}

fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

/// Polling alone does where watching doesn't work, only later.
fn watch_directory(directory: &Path, changes: ChangeNotice) -> Option<RecommendedWatcher> {
    let notice = move |event: notify::Result<notify::Event>| {
        // Opening a namespace is an event, too, and changes nothing.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            changes.notify();
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
    fn fixture() -> (tempfile::TempDir, Arc<PodNamespaces>) {
        let directory = tempfile::tempdir().unwrap();
        symlink("/proc/self/ns/uts", directory.path().join("web")).unwrap();
        symlink("/proc/self/ns/net", directory.path().join("own")).unwrap();
        std::fs::write(directory.path().join("being-made"), "").unwrap();
        let proc = PathBuf::from("/proc");
        let namespaces = PodNamespaces::watch_in(directory.path().to_owned(), proc).unwrap();
        (directory, namespaces)
    }

    fn named(name: &str) -> NamespaceLocation {
        NamespaceLocation::Named(name.to_owned())
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
    async fn processes_are_looked_at_often_while_a_pod_is_awaited_that_may_not_be_open() {
        let (_directory, namespaces) = fixture();
        let eager = Some(Instant::now() + EAGER);
        assert_eq!(namespaces.poll_interval(eager), EAGER_POLL);
        assert_eq!(namespaces.poll_interval(None), POLL);
        let first = namespaces.watch_out();
        let second = namespaces.watch_out();
        drop(first);
        assert_eq!(namespaces.poll_interval(None), WATCHFUL_POLL);
        drop(second);
        assert_eq!(namespaces.poll_interval(None), POLL);
    }

    #[tokio::test]
    async fn whoever_asks_does_not_wait_for_a_look_that_takes_its_time() {
        let (directory, proc) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let names = directory.path().to_owned();
        let namespaces = PodNamespaces::watch_in(names, proc.path().to_owned()).unwrap();
        // The look at this process ends when somebody writes there.
        let process = proc.path().join("7");
        std::fs::create_dir(&process).unwrap();
        let cgroup = process.join("cgroup");
        nix::unistd::mkfifo(&cgroup, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // Looks often.
        namespaces.expect_pod();
        let is_being_looked_at = || namespaces.processes.try_lock().is_err();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_being_looked_at() {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for _ in 0..10 {
            let pod = NamespaceLocation::OfPod("web".to_owned());
            assert_eq!(namespaces.find(&pod), None);
            assert!(namespaces.pods_of_processes().is_empty());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(is_being_looked_at());
        // Nobody comes to it again once this one has ended.
        let end = std::fs::OpenOptions::new().write(true).open(&cgroup);
        std::fs::remove_dir_all(&process).unwrap();
        drop(end.unwrap());
    }

    #[tokio::test]
    async fn the_agents_own_namespace_is_never_a_pods() {
        let (_directory, namespaces) = fixture();
        let own = namespaces.find(&named("own")).unwrap();
        let error = namespaces
            .claim(&named("own"), own, &uid("web"))
            .unwrap_err();
        assert!(matches!(error, PodNamespaceError::Own(_)), "{error}");
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
        assert!(matches!(error, PodNamespaceError::Changed(_)), "{error}");
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
        assert!(matches!(again, PodNamespaceError::Ending), "{again}");
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
