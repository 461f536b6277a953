//! Memory that the container may have.

use std::path::{Path, PathBuf};

/// Where cgroups are found.
const CGROUPS: &str = "/sys/fs/cgroup";
/// The part of the container's memory that connections may hold together, as a divisor: what is
/// held costs half as much again, and the mesh needs the rest.
const DIVISOR: usize = 3;
/// Where the container may have as much as it likes.
const WITHOUT_LIMIT: usize = 512 << 20;
/// Less than this serves nobody.
const SMALLEST: usize = 16 << 20;

/// Bytes that connections may hold together where nobody has said how many.
pub fn default_buffer_bytes() -> usize {
    buffer_bytes(container_limit())
}

/// Bytes that the container may have, where that is limited.
pub(crate) fn container_limit() -> Option<usize> {
    let cgroups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    limit(&cgroups, Path::new(CGROUPS))
}

fn buffer_bytes(limit: Option<usize>) -> usize {
    limit.map_or(WITHOUT_LIMIT, |limit| (limit / DIVISOR).max(SMALLEST))
}

/// The lowest limit of the cgroup that the process is in, and of those around it, as far as they
/// are seen (cgroups(7), /proc/PID/cgroup; cgroup-v2.rst, memory.max). Inside a container its own
/// is seen as the root.
fn limit(cgroups: &str, mounted: &Path) -> Option<usize> {
    let limits = cgroups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (directory, file) = match controllers {
            "" => (mounted.to_owned(), "memory.max"),
            // The first version of cgroups.
            _ if controllers.split(',').any(|name| name == "memory") => {
                (mounted.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let below = directory.join(path.trim_start_matches('/'));
        let all: Vec<PathBuf> = below
            .ancestors()
            .take_while(|ancestor| ancestor.starts_with(&directory))
            .map(|ancestor| ancestor.join(file))
            .collect();
        Some(all)
    });
    let read = |file: PathBuf| std::fs::read_to_string(file).ok()?.trim().parse().ok();
    // The first version says a very large number where there is no limit.
    let limits = limits.flatten().filter_map(read);
    limits.filter(|limit| *limit < 1 << 60).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("weft-{name}-{}", std::process::id()));
        for (file, content) in files {
            let file = directory.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        }
        directory
    }

    #[test]
    fn the_lowest_limit_around_the_process_counts() {
        let mounted = files(
            "memory-limits",
            &[
                ("memory.max", "max\n"),
                ("pods/memory.max", "1000\n"),
                ("pods/a/memory.max", "2000\n"),
                ("memory/b/memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory/memory.limit_in_bytes", "3000\n"),
            ],
        );
        assert_eq!(limit("0::/pods/a\n", &mounted), Some(1000));
        assert_eq!(limit("0::/\n", &mounted), None);
        assert_eq!(limit("3:cpu:/b\n4:memory:/b\n", &mounted), Some(3000));
        assert_eq!(limit("", &mounted), None);
        std::fs::remove_dir_all(mounted).unwrap();
    }

    #[test]
    fn connections_hold_a_part_of_what_the_container_has() {
        assert_eq!(buffer_bytes(Some(3 << 30)), 1 << 30);
        assert_eq!(buffer_bytes(Some(1)), SMALLEST);
        assert_eq!(buffer_bytes(None), WITHOUT_LIMIT);
    }
}
