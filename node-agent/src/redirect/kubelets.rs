//! Kubelet, as the kernel's programs tell it from the node's other processes: by its cgroup,
//! which systemd gives it for itself, and by its process number where this agent counts
//! processes as the kernel does.
//!
//! * `find`: kubelet in `/proc`

mod find;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::{self, MapData};
use weft_ebpf_common::{ANY_CGROUP, ANY_PROCESS, KubeletCgroup, map};

use self::find::{KubeletProcess, find_kubelets, is_still_kubelet};
use super::cgroup::{Cgroup, CgroupError, open_configured};
use super::error::RedirectError;
use super::object::{ignore_missing, take_map};

/// Inode of the PID namespace that the machine started with: `PROC_PID_INIT_INO` of the
/// kernel's `proc_ns.h`.
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
/// Looks at known processes between two at all of them, as long as there is no kubelet.
const LOOKS_BETWEEN_SEARCHES: u32 = 10;

/// The map of kubelets, and how its entries are found. One writer at a time.
pub(super) struct Kubelets {
    map: maps::HashMap<MapData, KubeletCgroup, [u8; 4]>,
    root: Cgroup,
    configured: Option<PathBuf>,
    /// This process sees the numbers that the kernel gives.
    numbers_are_kernels: bool,
    processes: Vec<KubeletProcess>,
    looks: u32,
}

impl std::fmt::Debug for Kubelets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubelets").finish_non_exhaustive()
    }
}

impl Kubelets {
    /// Looks for kubelet for the first time, in the cgroup that an operator has named or by its
    /// process.
    ///
    /// # Errors
    /// When that cgroup can't be opened, or the map not be written.
    pub(super) fn start(
        object: &mut Ebpf,
        root: Cgroup,
        configured: Option<&Path>,
    ) -> Result<Self, RedirectError> {
        let own = fs::metadata("/proc/self/ns/pid").map(|namespace| namespace.ino());
        let mut kubelets = Self {
            map: take_map(object, map::KUBELETS)?,
            root,
            configured: configured.map(Path::to_owned),
            numbers_are_kernels: own.is_ok_and(|inode| inode == FIRST_PID_NAMESPACE),
            processes: Vec::new(),
            looks: 0,
        };
        let entries = kubelets.search()?;
        match (entries.is_empty(), kubelets.is_known()) {
            (false, _) => {
                tracing::info!(processes = ?kubelets.processes, cgroup = ?kubelets.configured, "kubelet is known: strict pods take its probes, and no other process's");
                kubelets.replace(&entries)?;
            }
            // A predecessor knew it, and it is just restarting.
            (true, true) => {}
            (true, false) => {
                tracing::warn!(
                    "no kubelet is found on this node: strict pods take their probes from any of its processes that is in no pod; --kubelet-cgroup says where it is"
                );
                kubelets.replace(&HashMap::from([(ANY_CGROUP, ANY_PROCESS)]))?;
            }
        }
        Ok(kubelets)
    }

    /// Looks again: kubelet may have restarted, which gives it another number, and its cgroup
    /// another id. Once known, nobody else is taken for it while it is away.
    ///
    /// # Errors
    /// When the map can't be written.
    pub(super) fn look(&mut self) -> Result<(), RedirectError> {
        self.looks = self.looks.wrapping_add(1);
        let is_same = !self.processes.is_empty() && self.processes.iter().all(is_still_kubelet);
        let waits = self.configured.is_none()
            && !self.is_known()
            && !self.looks.is_multiple_of(LOOKS_BETWEEN_SEARCHES);
        if is_same || waits {
            return Ok(());
        }
        // Its cgroup may be gone for a moment.
        let Ok(entries) = self.search() else {
            return Ok(());
        };
        if entries.is_empty() || entries == self.entries() {
            return Ok(());
        }
        tracing::info!(processes = ?self.processes, "kubelet was found again");
        self.replace(&entries)
    }

    fn search(&mut self) -> Result<HashMap<KubeletCgroup, [u8; 4]>, CgroupError> {
        if let Some(path) = &self.configured {
            let id = open_configured(&self.root, path)?.id();
            return Ok(HashMap::from([(id.to_ne_bytes(), ANY_PROCESS)]));
        }
        self.processes = find_kubelets(Path::new("/proc"));
        let entries = self.processes.iter().filter_map(|kubelet| {
            let relative = kubelet.cgroup.trim_start_matches('/');
            let relative = if relative.is_empty() { "." } else { relative };
            let cgroup = Cgroup::open_below(&self.root, Path::new(relative)).ok()?;
            let is_shared = cgroup.id() == self.root.id();
            let process = process_entry(kubelet.process, self.numbers_are_kernels, is_shared)?;
            Some((cgroup.id().to_ne_bytes(), process))
        });
        Ok(entries.collect())
    }

    fn entries(&self) -> HashMap<KubeletCgroup, [u8; 4]> {
        self.map.iter().flatten().collect()
    }

    fn is_known(&self) -> bool {
        let mut cgroups = self.map.keys().flatten();
        cgroups.any(|cgroup| cgroup != ANY_CGROUP)
    }

    fn replace(&mut self, entries: &HashMap<KubeletCgroup, [u8; 4]>) -> Result<(), RedirectError> {
        for (cgroup, process) in entries {
            self.map
                .insert(cgroup, process, 0)
                .map_err(RedirectError::map(map::KUBELETS, "write kubelet's cgroup"))?;
        }
        for old in self.entries().keys() {
            if !entries.contains_key(old) {
                ignore_missing(self.map.remove(old))
                    .map_err(RedirectError::map(map::KUBELETS, "remove a cgroup"))?;
            }
        }
        Ok(())
    }
}

/// The value for a kubelet's cgroup; none when it can't be told from the others in it, because
/// that is where everybody is who is nowhere else.
fn process_entry(process: u32, numbers_are_kernels: bool, is_shared: bool) -> Option<[u8; 4]> {
    match (numbers_are_kernels, is_shared) {
        (true, _) => Some(process.to_ne_bytes()),
        (false, false) => Some(ANY_PROCESS),
        (false, true) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_that_everybody_shares_tells_kubelet_only_with_its_number() {
        assert_eq!(process_entry(7, true, true), Some(7_u32.to_ne_bytes()));
        assert_eq!(process_entry(7, true, false), Some(7_u32.to_ne_bytes()));
        assert_eq!(process_entry(7, false, false), Some(ANY_PROCESS));
        assert_eq!(process_entry(7, false, true), None);
    }
}
