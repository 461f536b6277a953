//! Version 1 of cgroups(7), with a hierarchy for each controller, where a machine still
//! has it: a node needs a place in every one of them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// How deep below the mount point a session of this machine may keep its own cgroup.
const SEARCH_DEPTH: usize = 4;

/// A mounted hierarchy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Hierarchy {
    /// Where it is mounted.
    pub(super) mount: PathBuf,
    /// Which of its cgroups is the top of that mount.
    root: PathBuf,
    /// `cgroup` or `cgroup2`.
    pub(super) kind: String,
    /// Its controllers as options for mount(2), such as `cpu,cpuacct` or
    /// `none,name=systemd`; nothing for version 2.
    pub(super) options: String,
}

impl Hierarchy {
    /// All that are mounted.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub(super) fn all() -> Result<Vec<Self>> {
        let path = "/proc/self/mountinfo";
        let mounts = fs::read_to_string(path).map_err(Error::system(path))?;
        Ok(mounts.lines().filter_map(Self::parse).collect())
    }

    /// A line of proc_pid_mountinfo(5).
    fn parse(line: &str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, mount) = (mount.next()?, mount.next()?);
        let mut filesystem = filesystem.split(' ');
        let (kind, options) = (filesystem.next()?, filesystem.nth(1)?);
        if !kind.starts_with("cgroup") {
            return None;
        }
        let controllers = options.split(',').filter_map(|option| match option {
            "rw" | "ro" | "xattr" | "clone_children" | "noprefix" => None,
            _ if option.starts_with("release_agent=") => None,
            _ if option.starts_with("name=") => Some(format!("none,{option}")),
            _ => Some(option.to_owned()),
        });
        let options = match kind {
            "cgroup" => controllers.collect::<Vec<_>>().join(","),
            _ => String::new(),
        };
        Some(Self {
            mount: mount.into(),
            root: root.into(),
            kind: kind.to_owned(),
            options,
        })
    }

    /// The cgroup of this process in it.
    fn own(&self, memberships: &str) -> Option<PathBuf> {
        let controllers = self.options.trim_start_matches("none,");
        let path = memberships.lines().find_map(|line| {
            let (_, line) = line.split_once(':')?;
            let (listed, path) = line.split_once(':')?;
            let mut listed: Vec<_> = listed.split(',').collect();
            let mut wanted: Vec<_> = controllers.split(',').collect();
            listed.sort_unstable();
            wanted.sort_unstable();
            (listed == wanted).then_some(path)
        })?;
        let below = Path::new(path).strip_prefix(&self.root).ok()?;
        Some(self.mount.join(below))
    }
}

/// Makes a cgroup of that name in every hierarchy of version 1, below the own one of
/// this process: whatever limits it limits the node too.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn create(name: &Path) -> Result<Vec<PathBuf>> {
    let path = "/proc/self/cgroup";
    let memberships = fs::read_to_string(path).map_err(Error::system(path))?;
    let mut made = Vec::new();
    for hierarchy in Hierarchy::all()? {
        let own = hierarchy.own(&memberships);
        let Some(mut path) = own.filter(|_| hierarchy.kind == "cgroup") else {
            continue;
        };
        for part in name.components() {
            let parent = path.clone();
            path.push(part);
            let failed = || Error::system(format!("create {}", path.display()));
            fs::create_dir_all(&path).map_err(failed())?;
            inherit_cpuset(&parent, &path).map_err(failed())?;
        }
        made.push(path);
    }
    Ok(made)
}

/// A new cpuset is empty, and nothing can enter it before it isn't.
fn inherit_cpuset(parent: &Path, child: &Path) -> std::io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let inherited = parent.join(file);
        if inherited.exists() {
            fs::write(child.join(file), fs::read_to_string(inherited)?)?;
        }
    }
    Ok(())
}

/// Removes a cgroup with all below it; its processes have to be gone.
pub(crate) fn remove(path: &Path) {
    remove_below(path);
    // What is left is collected by the next run.
    let _ = fs::remove_dir(path);
}

/// Removes all below a cgroup; its processes have to be gone.
pub(super) fn remove_below(path: &Path) {
    directories(path).iter().for_each(|child| remove(child));
}

/// Every cgroup of version 1 with such a name.
pub(crate) fn find(wanted: &impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let hierarchies = Hierarchy::all().unwrap_or_default();
    let version_1 = hierarchies.iter().filter(|one| one.kind == "cgroup");
    version_1
        .flat_map(|hierarchy| find_below(&hierarchy.mount, SEARCH_DEPTH, wanted))
        .collect()
}

fn find_below(path: &Path, depth: usize, wanted: &impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let is_wanted = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(wanted)
    };
    let below = directories(path).into_iter().flat_map(|child| {
        if is_wanted(&child) {
            vec![child]
        } else if depth > 1 {
            find_below(&child, depth - 1, wanted)
        } else {
            Vec::new()
        }
    });
    below.collect()
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "35 24 0:30 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpuacct,cpu";
    const NAMED: &str = "36 24 0:31 / /sys/fs/cgroup/systemd rw - cgroup systemd \
        rw,xattr,release_agent=/lib/agent,name=systemd";

    #[test]
    fn a_hierarchy_is_mounted_again_with_its_own_controllers() {
        let hierarchy = Hierarchy::parse(LINE).unwrap();
        assert_eq!(hierarchy.options, "cpuacct,cpu");
        assert_eq!(hierarchy.mount, Path::new("/sys/fs/cgroup/cpu"));
        assert_eq!(
            Hierarchy::parse(NAMED).unwrap().options,
            "none,name=systemd"
        );
        assert_eq!(Hierarchy::parse("1 2 0:3 / /proc rw - proc proc rw"), None);
    }

    #[test]
    fn the_own_cgroup_is_found_below_the_mount_point() {
        let memberships = "9:name=systemd:/user\n4:cpu,cpuacct:/shared/mine\n0::/\n";
        let own = Hierarchy::parse(LINE).unwrap().own(memberships);
        assert_eq!(own.unwrap(), Path::new("/sys/fs/cgroup/cpu/shared/mine"));
        let own = Hierarchy::parse(NAMED).unwrap().own(memberships);
        assert_eq!(own.unwrap(), Path::new("/sys/fs/cgroup/systemd/user"));
    }

    #[test]
    fn a_container_sees_its_own_cgroup_as_the_top() {
        let line = "35 24 0:30 /box /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu";
        let own = Hierarchy::parse(line).unwrap().own("4:cpu:/box\n");
        assert_eq!(own.unwrap(), Path::new("/sys/fs/cgroup/cpu"));
    }
}
