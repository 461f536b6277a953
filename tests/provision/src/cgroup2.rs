//! The cgroup2 hierarchy.

use std::fs;
use std::path::PathBuf;

use crate::error::ProvisionError;

/// The root of the cgroup2 hierarchy, wherever it is mounted.
///
/// # Errors
/// When it isn't mounted.
pub fn root() -> Result<PathBuf, ProvisionError> {
    let path = "/proc/self/mountinfo";
    let mounts = fs::read_to_string(path).map_err(ProvisionError::system(path))?;
    mounts.lines().find_map(mount_point).ok_or_else(|| {
        ProvisionError::Missing(
            "cgroup2 is not mounted; try: mount -t cgroup2 none /sys/fs/cgroup/unified".to_owned(),
        )
    })
}

/// The mount point that a line of proc_pid_mountinfo(5) has for cgroup2: the fifth field;
/// the type is the first behind ` - `.
fn mount_point(line: &str) -> Option<PathBuf> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let is_cgroup2 = filesystem.split(' ').next() == Some("cgroup2");
    is_cgroup2.then(|| mount.split(' ').nth(4).map(PathBuf::from))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_point_of_cgroup2_is_found_wherever_it_is() {
        let hybrid = "33 24 0:28 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw";
        assert_eq!(mount_point(hybrid), Some("/sys/fs/cgroup/unified".into()));
        let version_1 = "34 24 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu";
        assert_eq!(mount_point(version_1), None);
        assert_eq!(mount_point("garbage"), None);
    }
}
