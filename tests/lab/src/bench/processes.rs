//! CPU time and memory of processes, from their own counters (proc(5), `/proc/PID/stat` and
//! `/proc/PID/status`).

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// CPU time that every process on the machine has used so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct CpuTimes {
    by_process: HashMap<u32, Duration>,
}

impl CpuTimes {
    /// Reads them all. A process that ends while they are read is left out.
    pub(crate) fn now() -> Self {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let by_process = pids
            .filter_map(|pid: u32| Some((pid, cpu_time(pid)?)))
            .collect();
        Self { by_process }
    }

    /// What the given processes used between `earlier` and this.
    pub(crate) fn used_by(&self, pids: &[u32], earlier: &Self) -> Duration {
        pids.iter().map(|pid| self.used(*pid, earlier)).sum()
    }

    /// What all others used, of those that were there both times. Kernel threads
    /// count: they work for the network that is measured, but in every mode alike.
    pub(crate) fn used_by_others(&self, pids: &[u32], earlier: &Self) -> Duration {
        let others = self.by_process.keys().filter(|pid| !pids.contains(pid));
        others.map(|pid| self.used(*pid, earlier)).sum()
    }

    fn used(&self, pid: u32, earlier: &Self) -> Duration {
        match (self.by_process.get(&pid), earlier.by_process.get(&pid)) {
            (Some(now), Some(before)) => now.saturating_sub(*before),
            _ => Duration::ZERO,
        }
    }
}

/// Resident memory of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Resident {
    /// All of it, in MiB: also what of its program and libraries is there, which others that run
    /// the same share.
    pub(crate) all: f64,
    /// What no other process shares, in MiB.
    pub(crate) own: f64,
}

/// Resident memory of a process (`proc_pid_status(5)`).
pub(crate) fn resident_memory(pid: u32) -> Option<Resident> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    resident(&status)
}

fn resident(status: &str) -> Option<Resident> {
    let mebibytes = |field: &str| -> Option<f64> {
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix(field))?;
        let kilobytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kilobytes / 1024.0)
    };
    Some(Resident {
        all: mebibytes("VmRSS:")?,
        own: mebibytes("RssAnon:")?,
    })
}

fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = ticks(&stat)?;
    // SAFETY: sysconf has no preconditions.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let per_second = u64::try_from(per_second).ok().filter(|n| *n > 0)?;
    Some(Duration::from_millis(ticks * 1000 / per_second))
}

/// User plus system ticks: fields 14 and 15, counted behind the command's closing
/// parenthesis, because a command may hold spaces and parentheses itself.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 0 0 0 0 0 30 12 0 0 20 0 1 0 5";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("garbage"), None);
    }

    #[test]
    fn memory_is_what_is_resident_in_mebibytes() {
        let status = "Name:\tenvoy\nVmRSS:\t    3072 kB\nRssAnon:\t     512 kB\nThreads:\t4\n";
        assert_eq!(resident(status), Some(Resident { all: 3.0, own: 0.5 }));
        assert_eq!(resident("Name:\tkthreadd\n"), None);
        let this = resident_memory(std::process::id()).unwrap();
        assert!(this.all > 1.0 && this.own < this.all, "{this:?}");
    }

    #[test]
    fn this_process_is_among_them() {
        let (before, me) = (CpuTimes::now(), [std::process::id()]);
        let mut x = 1u64;
        while CpuTimes::now().used_by(&me, &before) < Duration::from_millis(20) {
            (0..1_000_000).for_each(|i| x = x.wrapping_mul(i | 1));
        }
        assert!(std::hint::black_box(x) != 1 || x == 1);
    }
}
