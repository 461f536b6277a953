//! The cgroups that matter to the programs, found in the hierarchy.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Component, Path, PathBuf};

use super::directory::Cgroup;
use super::error::CgroupError;
use super::hierarchy::open_hierarchy;

/// The cgroups that matter to the programs.
#[derive(Debug)]
pub(crate) struct Cgroups {
    /// The programs are attached to it.
    pub(crate) attached: Cgroup,
    /// The processes of pods live below it.
    pub(crate) pods: Option<Cgroup>,
    /// The root of the hierarchy, as this process sees it.
    pub(crate) root: Cgroup,
}

impl Cgroups {
    /// Opens both, and checks that this process is below the first: the sockets that the
    /// proxy accepts belong to it.
    pub(crate) fn find(attached: Option<&Path>, pods: Option<&Path>) -> Result<Self, CgroupError> {
        let root = open_hierarchy()?;
        let pods = match pods {
            Some(path) => Some(open_configured(&root, path)?),
            None => find_pods(&root),
        };
        match &pods {
            Some(pods) => {
                tracing::info!(cgroup = %pods.path().display(), "pods' processes are below this cgroup")
            }
            None => tracing::info!(
                "the cgroup v2 hierarchy has no cgroup of pods; /proc tells pods' processes from the node's"
            ),
        }
        let attached = match attached {
            Some(path) => open_configured(&root, path)?,
            None => open_configured(&root, Path::new("."))?,
        };
        check_own(&root, &attached)?;
        Ok(Self {
            attached,
            pods,
            root,
        })
    }
}

/// Names that kubelet gives the cgroup of all pods, with either of its cgroup drivers.
const PODS: [&str; 2] = ["kubepods", "kubepods.slice"];
/// Levels below the root that are looked at: a kubelet with a cgroup root of its own nests it.
const PODS_DEPTH: usize = 3;

/// The cgroup of all pods. None where kubelet uses the first version of cgroups, or
/// there is no kubelet.
fn find_pods(root: &Cgroup) -> Option<Cgroup> {
    let mut level = vec![PathBuf::new()];
    for _ in 0..PODS_DEPTH {
        let mut next = Vec::new();
        for parent in level {
            let Ok(directory) = Cgroup::open_below(root, &Path::new(".").join(&parent)) else {
                continue;
            };
            // By descriptor: the hierarchy may be mounted nowhere.
            let path = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                let name = entry.file_name();
                let path = parent.join(&name);
                // With systemd a nested one is called `kubelet-kubepods.slice`.
                let is_pods = name
                    .to_str()
                    .is_some_and(|name| PODS.contains(&name) || name.ends_with("-kubepods.slice"));
                if is_pods {
                    return Cgroup::open_below(root, &path).ok();
                }
                next.push(path);
            }
        }
        level = next;
    }
    None
}

/// A path given by an operator: absolute as it is, relative from the hierarchy's root.
pub(crate) fn open_configured(root: &Cgroup, path: &Path) -> Result<Cgroup, CgroupError> {
    match path.is_absolute() {
        true => Cgroup::open(path),
        false => Cgroup::open_below(root, path),
    }
}

/// Checks that this process is in the cgroup that is attached to, or below it.
fn check_own(root: &Cgroup, attached: &Cgroup) -> Result<(), CgroupError> {
    let path = "/proc/self/cgroup";
    let text = fs::read_to_string(path).map_err(|error| CgroupError::Proc { path, error })?;
    let own = own_cgroup(&text).unwrap_or("/");
    let is_below = || -> Result<bool, CgroupError> {
        if root.id() == attached.id() {
            return Ok(true);
        }
        let mut relative = PathBuf::new();
        for component in Path::new(own).components() {
            match component {
                Component::Normal(name) => relative.push(name),
                // Outside of this process's cgroup namespace.
                Component::ParentDir => return Ok(false),
                _ => continue,
            }
            if Cgroup::open_below(root, &relative)?.id() == attached.id() {
                return Ok(true);
            }
        }
        Ok(false)
    };
    if is_below()? {
        return Ok(());
    }
    Err(CgroupError::NotBelow {
        own: own.to_owned(),
        attached: attached.path().to_owned(),
    })
}

/// The v2 line of `/proc/self/cgroup` (cgroups(7)).
fn own_cgroup(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_cgroup_is_the_v2_one() {
        assert_eq!(own_cgroup("9:memory:/a\n0::/b/c\n"), Some("/b/c"));
    }
}
