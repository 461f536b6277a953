//! What the process uses of what it may have, as metrics under the names that Prometheus' own
//! client libraries have for it.

use std::fmt;
use std::fs;

use nix::sys::resource::{Resource, getrlimit};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::memory;

/// Memory and file descriptors of this process, read when they are scraped.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Memory that the process has",
                resident_bytes(),
            ),
            (
                "weft_memory_limit_bytes",
                "Memory that its container may have; none where there is no limit",
                memory::container_limit().and_then(|limit| u64::try_from(limit).ok()),
            ),
            (
                "process_open_fds",
                "Files and sockets that the process has open",
                open_descriptors(),
            ),
            (
                "process_max_fds",
                "Files and sockets that it may have open",
                getrlimit(Resource::RLIMIT_NOFILE)
                    .ok()
                    .map(|(soft, _)| soft),
            ),
        ] {
            let Some(value) = value else {
                continue;
            };
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)?;
        }
        Ok(())
    }
}

/// Resident memory (proc_pid_status(5), `VmRSS`).
fn resident_bytes() -> Option<u64> {
    parse_resident(&fs::read_to_string("/proc/self/status").ok()?)
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Descriptors that are open. Linux 6.2 and later give their number as the folder's size
/// (proc_pid_fd(5)); before, they are counted.
fn open_descriptors() -> Option<u64> {
    let folder = "/proc/self/fd";
    let size = fs::metadata(folder).ok()?.len();
    if size > 0 {
        return Some(size);
    }
    u64::try_from(fs::read_dir(folder).ok()?.count()).ok()
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        let status = "Name:\tweft\nVmRSS:\t    2048 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(parse_resident(status), Some(2 << 20));
        for none in ["", "VmRSS:\t kB\n", "VmRSS: 18446744073709551615 kB\n"] {
            assert_eq!(parse_resident(none), None, "{none}");
        }
    }

    #[test]
    fn a_process_says_what_it_uses_under_names_that_stay() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessMetrics));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let value = |name: &str| -> u64 {
            let mut lines = text.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1 << 20);
        assert!(value("process_open_fds") > 2);
        assert!(value("process_max_fds") >= value("process_open_fds"));
    }
}
