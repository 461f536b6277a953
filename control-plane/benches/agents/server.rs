//! The control plane under load: a process of its own, on cores of its own.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_weft-control-plane");
const START: Duration = Duration::from_secs(120);

/// A running control plane; ended when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    /// Where the admission webhooks are.
    pub(crate) webhook: u16,
}

/// What a process has used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Time on all cores.
    pub(crate) cpu: Duration,
    /// Memory now, bytes.
    pub(crate) resident: u64,
}

impl Server {
    /// Starts it on some cores and waits until it is ready. Also says how long that
    /// took.
    pub(crate) fn start(directory: &Path, cores: &[usize]) -> io::Result<(Self, Duration)> {
        let (port, admin, webhook) = (free_port()?, free_port()?, free_port()?);
        let start = Instant::now();
        let child = Command::new(PROGRAM)
            .arg("serve")
            .arg("--config-directory")
            .arg(directory.join("manifests"))
            .arg("--state-directory")
            .arg(directory.join("state"))
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg(format!("--admin=127.0.0.1:{admin}"))
            .arg(format!("--webhook=127.0.0.1:{webhook}"))
            .env("WEFT_LOG", "error")
            .stdin(Stdio::null())
            .spawn()?;
        let server = Self {
            child,
            port,
            webhook,
        };
        server.pin(cores)?;
        while !is_ready(admin) {
            if start.elapsed() > START {
                return Err(io::Error::other("the control plane doesn't get ready"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok((server, start.elapsed()))
    }

    fn pin(&self, cores: &[usize]) -> io::Result<()> {
        let mut set = CpuSet::new();
        for core in cores {
            set.set(*core)?;
        }
        // Threads that it starts later inherit this; those that are there already are
        // few and idle.
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let name = task?.file_name();
            if let Some(id) = name.to_str().and_then(|name| name.parse().ok()) {
                sched_setaffinity(Pid::from_raw(id), &set)?;
            }
        }
        Ok(())
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> io::Result<Usage> {
        let invalid = || io::Error::other("/proc of the control plane can't be read");
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = stat.rsplit_once(") ").ok_or_else(invalid)?;
        // proc_pid_stat(5): fields 14 and 15 are user and system time, in ticks of
        // which there are 100 in a second; 24 is resident memory, in pages.
        let field =
            |number: usize| -> Option<u64> { fields.split(' ').nth(number - 3)?.parse().ok() };
        let ticks = field(14).zip(field(15)).map(|(user, system)| user + system);
        let pages = field(24).ok_or_else(invalid)?;
        Ok(Usage {
            cpu: Duration::from_millis(ticks.ok_or_else(invalid)? * 10),
            resident: pages * 4096,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A token for a node, as an operator makes it.
pub(crate) fn token(directory: &Path, node: &str) -> io::Result<String> {
    let output = Command::new(PROGRAM)
        .args(["token", "--node", node, "--state-directory"])
        .arg(directory.join("state"))
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn free_port() -> io::Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port())
}

fn is_ready(port: u16) -> bool {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
