//! The calls of the demo.

use std::net::SocketAddr;

use serde_json::Value;
use weft_tests::mesh::Mesh;
use weft_tests::packets::marker;
use weft_tests::{Error, Result};

use super::addresses::{ECHO_SERVICE, HTTP_PORT, TCP_PORT, WEB_SERVICE};

/// How the destination was named.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Destination {
    Pod,
    PodIpv6,
    Service,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Protocol {
    Http,
    Tcp,
}

/// A call to make.
#[derive(Clone, Debug)]
pub(super) struct Call {
    from: &'static str,
    /// Who shall answer; a service chooses by itself.
    to: Option<&'static str>,
    protocol: Protocol,
    destination: Destination,
    address: SocketAddr,
}

/// A call that was made.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) from: String,
    /// Who answered.
    pub(super) to: String,
    pub(super) protocol: Protocol,
    pub(super) destination: Destination,
    pub(super) address: SocketAddr,
    /// The client's own port: what its record is found by.
    pub(super) client_port: u16,
    /// The text that was sent.
    pub(super) marker: String,
    pub(super) status: Value,
    pub(super) latency_us: u64,
}

impl Call {
    /// All of them.
    pub(super) fn all(mesh: &Mesh) -> Result<Vec<Self>> {
        use Destination::{Pod, PodIpv6, Service};
        let pod = |name: &str, destination, port| {
            let host = &mesh.pod(name)?.host;
            let address = if destination == PodIpv6 {
                host.ipv6()
            } else {
                host.ipv4()
            };
            Ok::<_, Error>(SocketAddr::new(address, port))
        };
        let service = |address: &str, port| {
            let address = address.parse();
            let address = address.map_err(|_| Error::Missing("a service's address".to_owned()))?;
            Ok::<_, Error>(SocketAddr::new(address, port))
        };
        let http = |from, to, destination| {
            let address = pod(to, destination, HTTP_PORT)?;
            let to = Some(to);
            Ok::<_, Error>(Self {
                from,
                to,
                protocol: Protocol::Http,
                destination,
                address,
            })
        };
        let web = || {
            let (protocol, address) = (Protocol::Http, service(WEB_SERVICE, 80)?);
            Ok::<_, Error>(Self {
                from: "client",
                to: None,
                protocol,
                destination: Service,
                address,
            })
        };
        let echo = |from, destination, address| Self {
            from,
            to: Some("echo"),
            protocol: Protocol::Tcp,
            destination,
            address,
        };
        Ok(vec![
            http("client", "web-v2", Pod)?,
            http("client", "web-v2", PodIpv6)?,
            http("client", "web-v1", Pod)?,
            web()?,
            web()?,
            echo("client", Service, service(ECHO_SERVICE, 7)?),
            echo("web-v2", Pod, pod("echo", Pod, TCP_PORT)?),
            http("client", "outside", Pod)?,
            http("outside", "web-v1", Pod)?,
        ])
    }

    /// Makes it.
    pub(super) fn make(&self, mesh: &Mesh) -> Result<Made> {
        let marker = marker("payload");
        let made = match self.protocol {
            Protocol::Http => self.make_http(mesh, &marker)?,
            Protocol::Tcp => self.make_tcp(mesh, &marker)?,
        };
        let (answered, client_port, latency_us, status) = made;
        Ok(Made {
            from: self.from.to_owned(),
            to: self.to.map_or(answered, str::to_owned),
            protocol: self.protocol,
            destination: self.destination,
            address: self.address,
            client_port,
            marker,
            status,
            latency_us,
        })
    }

    /// By curl; the server says who it is.
    fn make_http(&self, mesh: &Mesh, marker: &str) -> Result<(String, u16, u64, Value)> {
        let url = format!("http://{}/{marker}", self.address);
        let written = r"\n%{http_code} %{local_port} %{time_total}";
        let line = [
            "curl",
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--write-out",
            written,
            &url,
        ];
        let output = mesh.run(self.from, &line)?;
        let parsed = || {
            let (body, numbers) = output.trim_end().rsplit_once('\n')?;
            let mut numbers = numbers.split(' ');
            let status: u16 = numbers.next()?.parse().ok()?;
            let port = numbers.next()?.parse().ok()?;
            let seconds: f64 = numbers.next()?.parse().ok()?;
            let body: Value = serde_json::from_str(body.trim()).ok()?;
            let name = body["name"].as_str()?.to_owned();
            Some((name, port, (seconds * 1e6) as u64, status.into()))
        };
        parsed().ok_or_else(|| Error::Unreadable(format!("{url} answered: {output}")))
    }

    /// By a client that wants its text back.
    fn make_tcp(&self, mesh: &Mesh, marker: &str) -> Result<(String, u16, u64, Value)> {
        let to = format!("--to={}", self.address);
        let report = mesh.report(self.from, &["call", &to, "--text", marker])?;
        let number = |what: &str| report[what].as_u64().unwrap_or_default();
        let port = u16::try_from(number("local_port")).unwrap_or_default();
        let status = if report["echoed"] == true {
            "ok"
        } else {
            "wrong answer"
        };
        Ok((String::new(), port, number("latency_us"), status.into()))
    }
}
