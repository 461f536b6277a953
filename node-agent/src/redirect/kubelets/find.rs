//! Kubelet in `/proc`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::namespaces::pod_of_cgroups;

/// Names of the programs that are kubelet, or have it in them: k3s, MicroK8s.
const NAMES: [&str; 4] = ["kubelet", "k3s-server", "k3s-agent", "kubelite"];

/// A process that is kubelet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct KubeletProcess {
    /// As this process sees it.
    pub(super) process: u32,
    /// In the v2 hierarchy, as this process sees it.
    pub(super) cgroup: String,
    directory: PathBuf,
}

/// All of them: root's, by their names, outside of pods. Whoever may call himself so there may
/// replace kubelet as well.
pub(super) fn find_kubelets(proc: &Path) -> Vec<KubeletProcess> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| {
        let process = entry.file_name().to_str()?.parse().ok()?;
        read(entry.path(), process)
    });
    processes.collect()
}

/// Whether it is there still, where it was.
pub(super) fn is_still_kubelet(kubelet: &KubeletProcess) -> bool {
    let now = read(kubelet.directory.clone(), kubelet.process);
    now.as_ref() == Some(kubelet)
}

fn read(directory: PathBuf, process: u32) -> Option<KubeletProcess> {
    let name = fs::read_to_string(directory.join("comm")).ok()?;
    if !NAMES.contains(&name.trim_end()) {
        return None;
    }
    let status = fs::read_to_string(directory.join("status")).ok()?;
    let cgroups = fs::read_to_string(directory.join("cgroup")).ok()?;
    if effective_user(&status) != Some(0) || pod_of_cgroups(&cgroups).is_some() {
        return None;
    }
    let cgroup = cgroups.lines().find_map(|line| line.strip_prefix("0::"));
    Some(KubeletProcess {
        process,
        cgroup: cgroup.unwrap_or("/").to_owned(),
        directory,
    })
}

/// The second number of `Uid` (proc_pid_status(5)).
fn effective_user(status: &str) -> Option<u32> {
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Proc(tempfile::TempDir);

    impl Proc {
        fn process(&self, id: &str, name: &str, user: u32, cgroup: &str) {
            let directory = self.0.path().join(id);
            fs::create_dir_all(&directory).unwrap();
            let status = format!("Name:\t{name}\nUid:\t0\t{user}\t0\t0\n");
            fs::write(directory.join("comm"), format!("{name}\n")).unwrap();
            fs::write(directory.join("status"), status).unwrap();
            fs::write(directory.join("cgroup"), cgroup).unwrap();
        }
    }

    #[test]
    fn kubelet_is_roots_process_of_that_name_in_no_pod() {
        let proc = Proc(tempfile::tempdir().unwrap());
        let pod = "0::/kubepods/pod6f1c7a52-8f5e-4c1b-9d7e-0a1b2c3d4e5f/c\n";
        proc.process("1", "systemd", 0, "0::/init.scope\n");
        proc.process("2", "kubelet", 1000, "0::/user.slice\n");
        proc.process("3", "kubelet", 0, pod);
        proc.process("self", "kubelet", 0, "0::/\n");
        assert_eq!(find_kubelets(proc.0.path()), []);
        let own = "5:pids:/x\n0::/system.slice/kubelet.service\n";
        proc.process("4", "kubelet", 0, own);
        let found = find_kubelets(proc.0.path());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].process, 4);
        assert_eq!(found[0].cgroup, "/system.slice/kubelet.service");
        assert!(is_still_kubelet(&found[0]));
        proc.process("4", "other", 0, own);
        assert!(!is_still_kubelet(&found[0]));
    }

    #[test]
    fn k3s_has_it_in_itself() {
        let proc = Proc(tempfile::tempdir().unwrap());
        proc.process("9", "k3s-server", 0, "0::/system.slice/k3s.service\n");
        assert_eq!(find_kubelets(proc.0.path())[0].process, 9);
    }
}
