//! The network namespaces of pods by their processes, as `/proc` shows them: no container
//! runtime is asked.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::time::{ClockId, clock_gettime};

use super::cgroup_path::pod_of_cgroups;
use super::network_namespace::{NamespaceError, NamespaceIdentity, NetworkNamespace};

/// For how long a new process may still be on its way into its pod: a runtime forks it
/// elsewhere and moves it.
const SETTLING: Duration = Duration::from_secs(2);
/// The unit of times in `/proc/PID/stat`, in milliseconds: `USER_HZ` is 100.
const TICK: u64 = 10;
/// Longest `/proc/PID/cgroup` that is read, in bytes.
const LONGEST: usize = 16 * 1024;

/// The network namespace of a pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct PodNamespace {
    /// Device and inode of the namespace.
    pub(crate) identity: NamespaceIdentity,
    /// The oldest process in it: the sandbox's own, where there is one.
    pub(crate) process: u32,
    /// The start of that process, in ticks since boot.
    started: u64,
}

impl PodNamespace {
    /// The time for which the pod has had this namespace: since that process began, to a tick
    /// of the kernel's (10 ms). `None` where the clock can't be read.
    pub(crate) fn age(&self) -> Option<Duration> {
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
        Some(age(Duration::from(now), self.started))
    }

    /// True when this one shows the pod's namespace rather than the other. A process may leave
    /// the namespace, for one of its own, and the pod is still where it was: what is known
    /// counts as long as anybody is in it, then the oldest process.
    fn is_preferred(&self, other: &Self, known: Option<NamespaceIdentity>) -> bool {
        let is_known = |namespace: &Self| Some(namespace.identity) == known;
        match (is_known(self), is_known(other)) {
            (true, false) => true,
            (false, true) => false,
            _ => self.started < other.started || self.process == other.process,
        }
    }
}

/// The thoroughness of a look at processes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Effort {
    /// At every process.
    Everything,
    /// At those that were not there a moment ago.
    New,
}

/// The processes of this node, as `/proc` shows them.
#[derive(Debug)]
pub(crate) struct Processes {
    proc: PathBuf,
    node: NamespaceIdentity,
    /// The time at which each process was first seen.
    seen: HashMap<u32, Instant>,
    pods: HashMap<String, PodNamespace>,
}

impl Processes {
    /// Those below a directory such as `/proc`. `node` is the node's own network namespace, which
    /// no pod can have.
    pub(super) fn in_directory(proc: PathBuf, node: NamespaceIdentity) -> Self {
        Self {
            proc,
            node,
            seen: HashMap::new(),
            pods: HashMap::new(),
        }
    }

    /// Looks again. True when a pod's namespace came, went or changed.
    ///
    /// # Errors
    /// When `/proc` itself can't be read; a single process that is gone meanwhile is
    /// none.
    pub(crate) fn scan(&mut self, effort: Effort, now: Instant) -> io::Result<bool> {
        let processes = process_ids(&self.proc)?;
        self.seen.retain(|process, _| processes.contains(process));
        // Runtimes begin pods with processes that end: which other is there?
        let is_lost = |found: &PodNamespace| !processes.contains(&found.process);
        let effort = match self.pods.values().any(is_lost) {
            true => Effort::Everything,
            false => effort,
        };
        let mut pods = match effort {
            Effort::Everything => HashMap::new(),
            Effort::New => self.pods.clone(),
        };
        for process in processes {
            let first_seen = *self.seen.entry(process).or_insert(now);
            let settled = now.duration_since(first_seen) > SETTLING;
            if effort == Effort::New && settled {
                continue;
            }
            // Whoever ends meanwhile is of no interest.
            let Ok(Some((pod, found))) = self.find_pod_of(process) else {
                continue;
            };
            let known = self.pods.get(&pod).map(|known| known.identity);
            pods.entry(pod)
                .and_modify(|chosen| {
                    if found.is_preferred(chosen, known) {
                        *chosen = found;
                    }
                })
                .or_insert(found);
        }
        let changed = pods != self.pods;
        self.pods = pods;
        Ok(changed)
    }

    /// The pods that have a network namespace, by normalized UID, as last seen.
    pub(crate) fn pods(&self) -> &HashMap<String, PodNamespace> {
        &self.pods
    }

    #[cfg(test)]
    fn find(&self, pod: &str) -> Option<PodNamespace> {
        let uid = super::cgroup_path::normalized_uid(pod);
        self.pods.get(&uid).copied()
    }

    /// Pod and namespace of a process; None when it is in no pod, or in a pod without
    /// a namespace of its own (yet).
    ///
    /// The directory stays bound to the process, so that another that gets its number
    /// can't be taken for it.
    fn find_pod_of(&self, process: u32) -> io::Result<Option<(String, PodNamespace)>> {
        let directory = File::open(self.proc.join(process.to_string()))?;
        let read_pod = || -> io::Result<Option<String>> {
            Ok(pod_of_cgroups(&read_at(directory.as_fd(), "cgroup")?))
        };
        let Some(pod) = read_pod()? else {
            return Ok(None);
        };
        // Follows the link to the namespace itself.
        let namespace = fstatat(directory.as_fd(), "ns/net", AtFlags::empty())?;
        let identity = NamespaceIdentity {
            device: namespace.st_dev,
            inode: namespace.st_ino,
        };
        let started = start_time(&read_at(directory.as_fd(), "stat")?);
        // It may just be moving.
        if read_pod()?.as_ref() != Some(&pod) || identity == self.node {
            return Ok(None);
        }
        let found = PodNamespace {
            identity,
            process,
            started: started.ok_or(io::ErrorKind::InvalidData)?,
        };
        Ok(Some((pod, found)))
    }

    /// Opens a pod's namespace, if its process is still there, and in the one that was found.
    ///
    /// # Errors
    /// When its namespace can't be entered.
    pub(crate) fn open(found: PodNamespace) -> Result<Option<NetworkNamespace>, NamespaceError> {
        match NetworkNamespace::open_of_process(found.process) {
            Ok(namespace) => Ok((namespace.identity() == found.identity).then_some(namespace)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn process_ids(proc: &Path) -> io::Result<HashSet<u32>> {
    let entries = fs::read_dir(proc)?;
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(numbers.collect())
}

fn read_at(directory: impl AsFd, name: &str) -> io::Result<String> {
    use std::io::Read;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    let mut bytes = Vec::new();
    file.take(LONGEST as u64).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The time since a moment in ticks since boot.
fn age(now: Duration, started: u64) -> Duration {
    now.saturating_sub(Duration::from_millis(started.saturating_mul(TICK)))
}

/// Field 22 of `/proc/PID/stat` (proc_pid_stat(5)). The second may hold anything.
fn start_time(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UID: &str = "6f1c7a52-8f5e-4c1b-9d7e-0a1b2c3d4e5f";

    #[test]
    fn a_start_time_is_read_behind_any_name() {
        let rest: Vec<_> = (3..=52).map(|field| field.to_string()).collect();
        let stat = format!("7 (a) b) S {}", rest[1..].join(" "));
        assert_eq!(start_time(&stat), Some(22));
        assert_eq!(start_time("7 (x"), None);
    }

    #[test]
    fn a_pod_is_as_old_as_its_oldest_process() {
        let second = Duration::from_secs(1);
        assert_eq!(age(7 * second, 500), 2 * second);
        assert_eq!(age(second, 500), Duration::ZERO);
        let mut proc = ProcDirectory::new();
        let boot = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap());
        proc.process(5, boot.as_secs() * 100, &cgroup(), POD);
        proc.scan(Effort::Everything);
        let age = proc.processes.find(UID).unwrap().age().unwrap();
        assert!(age < 60 * second, "{age:?}");
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "\\PC*") {
            let _ = start_time(&text);
        }
    }

    /// A directory that looks like `/proc`, with namespaces of another kind for
    /// processes to be in.
    struct ProcDirectory {
        directory: tempfile::TempDir,
        processes: Processes,
        now: Instant,
    }

    impl ProcDirectory {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let node = identity("/proc/self/ns/net");
            let processes = Processes::in_directory(directory.path().to_owned(), node);
            let now = Instant::now();
            Self {
                directory,
                processes,
                now,
            }
        }

        fn process(&self, id: u32, started: u64, cgroup: &str, namespace: &str) {
            let folder = self.directory.path().join(id.to_string());
            fs::create_dir_all(folder.join("ns")).unwrap();
            fs::write(folder.join("cgroup"), cgroup).unwrap();
            let rest = "0 ".repeat(18);
            fs::write(folder.join("stat"), format!("{id} (x) S {rest}{started} 0")).unwrap();
            let _ = fs::remove_file(folder.join("ns/net"));
            std::os::unix::fs::symlink(namespace, folder.join("ns/net")).unwrap();
        }

        fn end(&self, id: u32) {
            fs::remove_dir_all(self.directory.path().join(id.to_string())).unwrap();
        }

        fn scan(&mut self, effort: Effort) -> bool {
            self.processes.scan(effort, self.now).unwrap()
        }
    }

    fn identity(path: &str) -> NamespaceIdentity {
        NamespaceIdentity::read(Path::new(path)).unwrap()
    }

    const POD: &str = "/proc/self/ns/uts";
    const OTHER: &str = "/proc/self/ns/ipc";
    const NODE: &str = "/proc/self/ns/net";

    fn cgroup() -> String {
        format!("0::/kubepods/pod{UID}/c\n")
    }

    #[test]
    fn a_pod_has_the_namespace_of_its_oldest_process_outside_the_nodes() {
        let mut proc = ProcDirectory::new();
        // On its way: in the pod's cgroup, but still in the node's namespace.
        proc.process(5, 10, &cgroup(), NODE);
        assert!(!proc.scan(Effort::Everything));
        assert_eq!(proc.processes.find(UID), None);
        proc.process(7, 30, &cgroup(), OTHER);
        proc.process(6, 20, &cgroup(), POD);
        assert!(proc.scan(Effort::Everything));
        let found = proc.processes.find(UID).unwrap();
        assert_eq!((found.identity, found.process), (identity(POD), 6));
        proc.end(6);
        proc.end(7);
        assert!(proc.scan(Effort::Everything));
        assert_eq!(proc.processes.find(UID), None);
    }

    #[test]
    fn a_quick_look_finds_another_process_for_one_that_ended() {
        let mut proc = ProcDirectory::new();
        proc.process(6, 20, &cgroup(), POD);
        proc.process(7, 30, &cgroup(), POD);
        proc.scan(Effort::Everything);
        proc.now += SETTLING * 2;
        proc.end(6);
        assert!(proc.scan(Effort::New));
        assert_eq!(proc.processes.find(UID).unwrap().process, 7);
    }

    #[test]
    fn a_process_that_is_gone_is_no_failure() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let gone = PodNamespace {
            identity: identity(POD),
            process: child.id(),
            started: 1,
        };
        assert!(Processes::open(gone).unwrap().is_none());
    }

    #[test]
    fn a_pod_keeps_its_namespace_when_its_first_process_leaves_it() {
        let mut proc = ProcDirectory::new();
        proc.process(5, 10, &cgroup(), POD);
        proc.process(6, 20, &cgroup(), POD);
        proc.scan(Effort::Everything);
        proc.process(5, 10, &cgroup(), OTHER);
        proc.process(7, 5, &cgroup(), OTHER);
        for effort in [Effort::New, Effort::Everything, Effort::New] {
            proc.scan(effort);
            let found = proc.processes.find(UID).unwrap();
            assert_eq!(found.identity, identity(POD), "{effort:?}");
        }
        let found = proc.processes.find(UID).unwrap();
        assert_eq!(found.process, 6, "by which it can be opened again");
        // Nobody is left: the sandbox was made anew.
        proc.end(6);
        proc.scan(Effort::Everything);
        let found = proc.processes.find(UID).unwrap();
        assert_eq!(found.identity, identity(OTHER));
    }

    #[test]
    fn a_quick_look_sees_processes_that_are_new_or_just_moved() {
        let mut proc = ProcDirectory::new();
        proc.process(5, 10, "0::/\n", NODE);
        proc.scan(Effort::New);
        proc.process(5, 10, &cgroup(), POD);
        assert!(proc.scan(Effort::New), "it moved into its pod");
        // Later a look at what is new is enough to keep what is known.
        proc.now += SETTLING * 2;
        assert!(!proc.scan(Effort::New));
        assert!(proc.processes.find(UID).is_some());
    }
}
