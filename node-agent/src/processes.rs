//! Which pod a process belongs to, and which network namespace a pod has: by what
//! `/proc` says, without asking a container runtime.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};

use crate::netns::{NamespaceIdentity, NetworkNamespace};

/// For how long a new process may still be on its way into its pod: a runtime forks it
/// elsewhere and moves it.
const SETTLING: Duration = Duration::from_secs(2);
/// Longest `/proc/PID/cgroup` that is read, in bytes.
const LONGEST: usize = 16 * 1024;

/// The network namespace of a pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PodNamespace {
    /// Which one.
    pub identity: NamespaceIdentity,
    /// The oldest process in it: the sandbox's own, where there is one.
    pub process: u32,
    /// When that one was started, in ticks since boot.
    started: u64,
}

/// How thoroughly to look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effort {
    /// At every process.
    Everything,
    /// At those that were not there a moment ago.
    New,
}

/// The processes of this node, as `/proc` shows them.
#[derive(Debug)]
pub struct Processes {
    proc: PathBuf,
    node: NamespaceIdentity,
    /// When each process was first seen.
    seen: HashMap<u32, Instant>,
    pods: HashMap<String, PodNamespace>,
}

impl Processes {
    /// Those below `/proc`. `node` is the node's own network namespace, which no pod
    /// can have.
    pub fn new(node: NamespaceIdentity) -> Self {
        Self::in_directory(PathBuf::from("/proc"), node)
    }

    fn in_directory(proc: PathBuf, node: NamespaceIdentity) -> Self {
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
    pub fn scan(&mut self, effort: Effort, now: Instant) -> io::Result<bool> {
        let processes = list(&self.proc)?;
        self.seen.retain(|process, _| processes.contains(process));
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
            let Ok(Some((pod, found))) = self.inspect(process) else {
                continue;
            };
            pods.entry(pod)
                .and_modify(|oldest| {
                    if found.started < oldest.started || oldest.process == found.process {
                        *oldest = found;
                    }
                })
                .or_insert(found);
        }
        let changed = pods != self.pods;
        self.pods = pods;
        Ok(changed)
    }

    /// The network namespace of a pod, as last seen.
    pub fn find(&self, pod: &str) -> Option<PodNamespace> {
        self.pods.get(&normalized(pod)).copied()
    }

    /// Pod and namespace of a process; None when it is in no pod, or in a pod without
    /// a namespace of its own (yet).
    ///
    /// The directory stays bound to the process, so that another that gets its number
    /// can't be taken for it.
    fn inspect(&self, process: u32) -> io::Result<Option<(String, PodNamespace)>> {
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

    /// Opens a pod's namespace, if it still is the one that was found.
    ///
    /// # Errors
    /// When the process is gone, or its namespace can't be entered.
    pub fn open(
        found: PodNamespace,
    ) -> Result<Option<NetworkNamespace>, crate::netns::NamespaceError> {
        let namespace = NetworkNamespace::of_process(found.process)?;
        Ok((namespace.identity() == found.identity).then_some(namespace))
    }
}

fn list(proc: &Path) -> io::Result<HashSet<u32>> {
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

/// Field 22 of `/proc/PID/stat` (proc_pid_stat(5)). The second may hold anything.
fn start_time(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(19)?.parse().ok()
}

/// The UID of the pod whose cgroup one of these is, by the text of `/proc/PID/cgroup`
/// (cgroups(7)) of either version. kubelet calls it `pod<UID>` with its cgroupfs driver
/// and `kubepods[-<class>]-pod<UID>.slice`, with underscores for dashes, with systemd's.
pub fn pod_of_cgroups(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        // hierarchy:controllers:path, and a path may hold colons.
        let path = line.splitn(3, ':').nth(2)?;
        let mut below_pods = false;
        path.split('/').find_map(|part| {
            let name = part.strip_suffix(".slice").unwrap_or(part);
            let pods = name.starts_with("kubepods") || name.ends_with("-kubepods");
            below_pods |= pods || name.contains("-kubepods-");
            if !below_pods {
                return None;
            }
            let uid = match part.strip_suffix(".slice") {
                Some(slice) => slice.rsplit_once("-pod")?.1,
                None => part.strip_prefix("pod")?,
            };
            is_uid(uid).then(|| normalized(uid))
        })
    })
}

/// A UUID, or the hash that kubelet makes for a static pod.
fn is_uid(text: &str) -> bool {
    text.len() >= 32
        && text
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'-' | b'_'))
}

fn normalized(uid: &str) -> String {
    uid.replace('_', "-")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UID: &str = "6f1c7a52-8f5e-4c1b-9d7e-0a1b2c3d4e5f";
    const SLICE: &str = "6f1c7a52_8f5e_4c1b_9d7e_0a1b2c3d4e5f";

    #[test]
    fn a_pod_is_recognised_in_every_form_that_kubelet_and_runtimes_give() {
        let container = "1d8a".repeat(16);
        for path in [
            format!("0::/kubepods/besteffort/pod{UID}/{container}"),
            format!("0::/kubepods/pod{UID}/{container}"),
            format!(
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SLICE}.slice/cri-containerd-{container}.scope"
            ),
            format!("0::/kubepods.slice/kubepods-pod{SLICE}.slice/crio-{container}.scope"),
            format!("0::/../../kubepods/burstable/pod{UID}/{container}"),
            format!(
                "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{SLICE}.slice/x.scope"
            ),
            format!(
                "12:pids:/test/node-1/kubepods/besteffort/pod{UID}/{container}\n0::/containerd"
            ),
            format!("4:cpu,cpuacct:/kubepods/pod{UID}\n3:memory:/kubepods/pod{UID}"),
        ] {
            assert_eq!(pod_of_cgroups(&path).as_deref(), Some(UID), "{path}");
        }
        let hash = "0123456789abcdef0123456789abcdef";
        let path = format!("0::/kubepods/pod{hash}/x");
        assert_eq!(pod_of_cgroups(&path).as_deref(), Some(hash));
    }

    #[test]
    fn what_is_in_no_pod_is_not_taken_for_one() {
        for path in [
            "0::/".to_owned(),
            "0::/system.slice/kubelet.service".to_owned(),
            "0::/kubepods/besteffort".to_owned(),
            // Anybody may name a cgroup like a pod, elsewhere.
            format!("0::/user.slice/pod{UID}"),
            "0::/kubepods/podcast".to_owned(),
            String::new(),
        ] {
            assert_eq!(pod_of_cgroups(&path), None, "{path}");
        }
    }

    #[test]
    fn a_start_time_is_read_behind_any_name() {
        let rest: Vec<_> = (3..=52).map(|field| field.to_string()).collect();
        let stat = format!("7 (a) b) S {}", rest[1..].join(" "));
        assert_eq!(start_time(&stat), Some(22));
        assert_eq!(start_time("7 (x"), None);
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "\\PC*") {
            let _ = (pod_of_cgroups(&text), start_time(&text));
        }
    }

    /// A directory that looks like `/proc`, with namespaces of another kind for
    /// processes to be in.
    struct Bed {
        directory: tempfile::TempDir,
        processes: Processes,
        now: Instant,
    }

    impl Bed {
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
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(path).unwrap();
        NamespaceIdentity {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    const POD: &str = "/proc/self/ns/uts";
    const OTHER: &str = "/proc/self/ns/ipc";
    const NODE: &str = "/proc/self/ns/net";

    fn cgroup() -> String {
        format!("0::/kubepods/pod{UID}/c\n")
    }

    #[test]
    fn a_pod_has_the_namespace_of_its_oldest_process_outside_the_nodes() {
        let mut bed = Bed::new();
        // On its way: in the pod's cgroup, but still in the node's namespace.
        bed.process(5, 10, &cgroup(), NODE);
        assert!(!bed.scan(Effort::Everything));
        assert_eq!(bed.processes.find(UID), None);
        bed.process(7, 30, &cgroup(), OTHER);
        bed.process(6, 20, &cgroup(), POD);
        assert!(bed.scan(Effort::Everything));
        let found = bed.processes.find(UID).unwrap();
        assert_eq!((found.identity, found.process), (identity(POD), 6));
        bed.end(6);
        bed.end(7);
        assert!(bed.scan(Effort::Everything));
        assert_eq!(bed.processes.find(UID), None);
    }

    #[test]
    fn a_quick_look_sees_processes_that_are_new_or_just_moved() {
        let mut bed = Bed::new();
        bed.process(5, 10, "0::/\n", NODE);
        bed.scan(Effort::New);
        bed.process(5, 10, &cgroup(), POD);
        assert!(bed.scan(Effort::New), "it moved into its pod");
        // Later a look at what is new is enough to keep what is known.
        bed.now += SETTLING * 2;
        assert!(!bed.scan(Effort::New));
        assert!(bed.processes.find(UID).is_some());
    }
}
