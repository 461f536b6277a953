//! What is on the wire, by tcpdump.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::error::{Error, Result};
use crate::process::Process;
use crate::topology::{FABRIC_BRIDGE, Topology};
use crate::wait::wait_until;

const START_WITHIN: Duration = Duration::from_secs(10);
const FLUSH_WITHIN: Duration = Duration::from_secs(20);
/// Discard (RFC 863): nobody listens, and nobody needs to.
const DISCARD_PORT: u16 = 9;

/// A running capture of everything that crosses the fabric.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

/// What a capture saw.
#[derive(Debug)]
pub struct Packets {
    file: PathBuf,
    content: Vec<u8>,
}

impl Capture {
    /// Starts one on the bridge between the nodes.
    ///
    /// # Errors
    /// When tcpdump doesn't start.
    pub fn start(topology: &Topology, directory: &Path) -> Result<Self> {
        let file = directory.join("fabric.pcap");
        let path = file.display().to_string();
        let line = [
            "tcpdump",
            "-i",
            FABRIC_BRIDGE,
            "-n",
            "-s",
            "0",
            "-U",
            "--immediate-mode",
            "-B",
            "65536",
            "-Z",
            "root",
            "-w",
            &path,
        ];
        let mut process = topology
            .fabric()
            .place()
            .spawn("tcpdump", directory, &line)?;
        process.wait_for_text("listening on", START_WITHIN)?;
        Ok(Self { process, file })
    }

    /// Ends it once everything that was sent before is in the file: a packet of our
    /// own, sent last, is there.
    ///
    /// # Errors
    /// When that packet isn't seen, or tcpdump lost some.
    pub fn finish(mut self, topology: &Topology) -> Result<Packets> {
        let marker = marker("end");
        let to = SocketAddr::new(topology.node(2)?.host.ipv4(), DISCARD_PORT);
        let send = || UdpSocket::bind("0.0.0.0:0")?.send_to(marker.as_bytes(), to);
        topology
            .node(1)?
            .host
            .namespace()
            .run(send)?
            .map_err(Error::system("send a packet"))?;
        let read = || fs::read(&self.file).unwrap_or_default();
        wait_until("the capture to be complete", FLUSH_WITHIN, || {
            contains(&read(), marker.as_bytes())
        })?;
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait(START_WITHIN)?;
        let said = self.process.stderr();
        if !said
            .lines()
            .any(|line| line == "0 packets dropped by kernel")
        {
            return Err(Error::Unreadable(format!("tcpdump lost packets: {said}")));
        }
        Ok(Packets {
            content: read(),
            file: self.file.clone(),
        })
    }
}

impl Packets {
    /// Whether a text is in any packet, as it is.
    pub fn contain(&self, text: &str) -> bool {
        contains(&self.content, text.as_bytes())
    }

    /// How many TCP packets there are between two addresses with that port.
    ///
    /// # Errors
    /// When tcpdump can't read its own file.
    pub fn count(&self, between: [IpAddr; 2], port: u16) -> Result<usize> {
        let filter = format!(
            "tcp port {port} and host {} and host {}",
            between[0], between[1]
        );
        let output = std::process::Command::new("tcpdump")
            .arg("-r")
            .arg(&self.file)
            .args(["-nn", "-q", &filter])
            .output()
            .map_err(Error::system("run tcpdump"))?;
        if !output.status.success() {
            return Err(Error::Program {
                command: format!("tcpdump -r {}", self.file.display()),
                status: output.status.to_string(),
                output: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        Ok(output
            .stdout
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .count())
    }
}

/// A text that is nowhere else.
pub fn marker(what: &str) -> String {
    use std::hash::{BuildHasher, RandomState};
    let random = [RandomState::new(), RandomState::new()].map(|state| state.hash_one(what));
    format!("weft-{what}-{:016x}{:016x}", random[0], random[1])
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    // Searching for the first byte by itself is what makes this quick.
    let Some((first, _)) = needle.split_first() else {
        return true;
    };
    let starts = haystack
        .iter()
        .enumerate()
        .filter(|(_, byte)| *byte == first);
    let mut starts = starts.map(|(start, _)| start);
    starts.any(|start| haystack[start..].starts_with(needle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_anywhere_and_only_whole() {
        assert!(contains(b"xx abc", b"abc"));
        assert!(!contains(b"ab ab c", b"abc"));
        assert!(!contains(b"", b"a"));
    }

    #[test]
    fn markers_differ() {
        assert_ne!(marker("a"), marker("a"));
    }
}
