//! What all benchmarks of the data path share: the modes that are compared, side by side
//! on one test bed, and how samples are taken from them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use weft_tests::mesh::Mesh;
use weft_tests::packets::{Capture, marker};
use weft_tests::process::{Place, Process};
use xtask::options::Bench;

use super::error::{BenchError, Result};
use super::processes::{CpuTimes, Resident, resident_memory};
use super::report::{Measure, Samples};

/// Names of the modes in which this build's programs and another one's carry the load.
pub(crate) const WEFT: &str = "weft";
pub(crate) const SIDECAR: &str = "sidecar";
pub(crate) const BASELINE: &str = "baseline";

/// Cores that processes outside the benchmark may use during a sample.
const QUIET: f64 = 0.2;
/// How often a sample is taken again because the machine was busy.
const RETRIES: usize = 3;
/// What a single command of a sample may take beyond its own seconds.
pub(crate) const GRACE: Duration = Duration::from_secs(30);

/// Where one mode's load starts and whom it calls.
pub(crate) struct Mode {
    /// Name.
    pub(crate) name: &'static str,
    /// Where the load tools run.
    pub(crate) place: Place,
    /// HTTP/1.1.
    pub(crate) http: SocketAddr,
    /// What else is measured: a stream of bytes, or HTTP/2.
    pub(crate) other: SocketAddr,
    /// Servers of HTTP/1.1 that get requests in two parts, by the measure's name.
    pub(crate) two_part: Vec<(&'static str, SocketAddr)>,
    /// Its proxies.
    pub(crate) proxies: Vec<u32>,
}

/// A running bed with all modes.
pub(crate) struct Bed {
    /// Servers and peers; before the mesh that they run in.
    pub(crate) processes: Vec<Process>,
    /// Namespaces, and the mesh.
    pub(crate) mesh: Mesh,
    /// Another one like it, of the programs that this build is compared with.
    pub(crate) baseline: Option<Mesh>,
    /// Weft last, in the shape that is compared with the others.
    pub(crate) modes: Vec<Mode>,
    /// For files.
    pub(crate) folder: PathBuf,
    /// The program `weft-test-app`.
    pub(crate) test_app: PathBuf,
}

/// One kind of load on one mode for some seconds.
pub(crate) type Measurement = fn(&Bed, &Mode, u32) -> Result<Measured>;

/// What one sample gave.
pub(crate) struct Measured {
    /// Values as the tool measured them.
    pub(crate) values: Vec<(Measure, f64)>,
    /// What the proxies' CPU time is divided by.
    pub(crate) work: f64,
    /// How that is called and scaled.
    pub(crate) cpu: (Measure, f64),
}

impl Measured {
    /// Values of a load so small that the proxies' CPU time for it says nothing.
    pub(crate) fn without_work(values: Vec<(Measure, f64)>) -> Self {
        Self {
            values,
            work: 0.0,
            cpu: (measure("no_cpu", "us"), 0.0),
        }
    }
}

/// A measure.
pub(crate) const fn measure(name: &'static str, unit: &'static str) -> Measure {
    Measure { name, unit }
}

impl Bed {
    /// Takes all samples, the modes in another order each time, so that none always runs
    /// after the same one.
    pub(crate) fn take(&self, measurements: &[Measurement], options: &Bench) -> Result<Samples> {
        let repetitions = options.repetitions;
        let mut samples = Samples::new(self.modes.iter().map(|mode| mode.name).collect());
        self.sample_idle_memory(&mut samples);
        for repetition in 1..=repetitions {
            eprintln!("repetition {repetition} of {repetitions}");
            for index in order(self.modes.len(), repetition) {
                for measurement in measurements {
                    self.sample(
                        &self.modes[index],
                        *measurement,
                        options.seconds,
                        &mut samples,
                    )?;
                }
            }
        }
        Ok(samples)
    }

    /// What one proxy of each mode takes before there is load: it has served a few connections.
    fn sample_idle_memory(&self, samples: &mut Samples) {
        for mode in &self.modes {
            let of_all: Option<Vec<Resident>> =
                mode.proxies.iter().copied().map(resident_memory).collect();
            let Some(of_all) = of_all.filter(|of_all| !of_all.is_empty()) else {
                continue;
            };
            let mean = |of_one: fn(&Resident) -> f64| {
                of_all.iter().map(of_one).sum::<f64>() / of_all.len() as f64
            };
            samples.add(
                measure("idle_memory", "MiB"),
                mode.name,
                mean(|one| one.all),
            );
            samples.add(
                measure("idle_own_memory", "MiB"),
                mode.name,
                mean(|one| one.own),
            );
        }
    }

    fn sample(
        &self,
        mode: &Mode,
        measurement: Measurement,
        seconds: u32,
        samples: &mut Samples,
    ) -> Result<()> {
        for retry in 0..=RETRIES {
            let (before, began) = (CpuTimes::now(), std::time::Instant::now());
            let measured = measurement(self, mode, seconds)?;
            let (after, elapsed) = (CpuTimes::now(), began.elapsed());
            let known = self.own_processes();
            let others = after.used_by_others(&known, &before).as_secs_f64();
            if others / elapsed.as_secs_f64() > QUIET && retry < RETRIES {
                eprintln!("{}: the machine was busy, once more", mode.name);
                continue;
            }
            let used = after.used_by(&mode.proxies, &before).as_secs_f64();
            for (measure, value) in measured.values {
                samples.add(measure, mode.name, value);
            }
            if !mode.proxies.is_empty() && measured.work > 0.0 {
                let per_unit = used * measured.cpu.1 / measured.work;
                samples.add(measured.cpu.0, mode.name, per_unit);
            }
            break;
        }
        Ok(())
    }

    /// The payload is on the wire where nothing protects it, and only there.
    pub(crate) fn check_wire(&self) -> Result<()> {
        for mode in &self.modes {
            // A folder of its own each: a capture knows by its log when it has begun.
            let folder = self.folder.join(mode.name);
            write_directory(&folder)?;
            let topology = self.mesh_of(mode).topology();
            let capture = Capture::start(topology, &folder)?;
            let text = marker(mode.name);
            let url = format!("http://{}/{text}", mode.http);
            let line = ["curl", "--silent", "--fail", "--max-time", "10", &url];
            mode.place
                .output(&line, GRACE)
                .inspect_err(|_| self.show_logs())?;
            let seen = capture.finish(topology)?.contain(&text);
            match (mode.name, seen) {
                ("direct", false) => return Err(BenchError::Wire(mode.name, "missing from")),
                ("direct", true) | (_, false) => {}
                (_, true) => return Err(BenchError::Wire(mode.name, "in")),
            }
        }
        Ok(())
    }

    /// What the servers and proxies of the bed said, for whoever has to find out why one
    /// doesn't answer.
    pub(crate) fn show_logs(&self) {
        for process in &self.processes {
            eprintln!("--- {}\n{}", process.name(), process.stderr());
        }
    }

    /// Runs a load tool for its seconds.
    pub(crate) fn output(&self, mode: &Mode, line: &[&str], seconds: u32) -> Result<String> {
        let limit = Duration::from_secs(u64::from(seconds)) + GRACE;
        Ok(mode.place.output(line, limit)?)
    }

    /// Everything that runs in the bed's own cgroups.
    fn own_processes(&self) -> Vec<u32> {
        let mut own = vec![std::process::id()];
        for mesh in [Some(&self.mesh), self.baseline.as_ref()]
            .into_iter()
            .flatten()
        {
            for node in mesh.topology().nodes() {
                collect_processes(node.cgroup(), &mut own);
            }
        }
        own
    }

    /// The mesh that a mode's pods are in.
    fn mesh_of(&self, mode: &Mode) -> &Mesh {
        let baseline = self.baseline.as_ref().filter(|_| mode.name == BASELINE);
        baseline.unwrap_or(&self.mesh)
    }
}

/// Every mode once: from another one on each time, and every other time backwards.
fn order(modes: usize, repetition: usize) -> impl Iterator<Item = usize> {
    (0..modes).map(move |offset| {
        let offset = match repetition.is_multiple_of(2) {
            true => offset,
            false => modes - 1 - offset,
        };
        (repetition / 2 + offset) % modes
    })
}

fn collect_processes(cgroup: &Path, pids: &mut Vec<u32>) {
    let members = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    pids.extend(members.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            collect_processes(&entry.path(), pids);
        }
    }
}

/// Makes a folder.
pub(crate) fn write_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| BenchError::File(path.to_path_buf(), error))
}

/// Writes a file.
pub(crate) fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| BenchError::File(path.to_path_buf(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_is_sampled_once_in_each_repetition() {
        for modes in 1..8 {
            for repetition in 1..6 {
                let mut order: Vec<_> = order(modes, repetition).collect();
                order.sort_unstable();
                assert_eq!(order, (0..modes).collect::<Vec<_>>());
            }
        }
    }
}
