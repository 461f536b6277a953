//! Access of a pod's own node to the pod, in plaintext, while it is strict: kubelet's probes and
//! lifecycle hooks, as the pod declares them, and no more unless somebody says so.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Probes that one pod may declare; kubelet asks no pod more than a handful.
pub const MOST_PROBES: usize = 64;
/// The one method of the gRPC health checking protocol that kubelet calls.
pub const GRPC_HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// Choice of what processes of the node may send to a strict pod.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum NodeAccessMode {
    /// Kubelet, what the pod's probes and lifecycle hooks declare.
    #[default]
    Probes,
    /// Any process of the node outside of pods, anything to any port.
    All,
}

/// A text that is no node access mode.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a node access mode; use `probes` or `all`")]
pub struct InvalidNodeAccessMode(String);

impl FromStr for NodeAccessMode {
    type Err = InvalidNodeAccessMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "probes" => Ok(Self::Probes),
            "all" => Ok(Self::All),
            _ => Err(InvalidNodeAccessMode(text.to_owned())),
        }
    }
}

impl fmt::Display for NodeAccessMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Probes => "probes",
            Self::All => "all",
        })
    }
}

/// Plaintext that a strict workload takes from its own node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NodeAccess {
    /// These, from kubelet.
    Probes(Arc<[Probe]>),
    /// Everything, from any process of the node outside of pods.
    All,
}

impl Default for NodeAccess {
    fn default() -> Self {
        Self::Probes(Arc::new([]))
    }
}

/// As operators see it: `all`, or the probes, such as `GET :8080/healthz, tcp :5432`.
impl fmt::Display for NodeAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Probes(probes) if probes.is_empty() => f.write_str("no probes"),
            Self::Probes(probes) => {
                for (index, probe) in probes.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(f, "{separator}{probe}")?;
                }
                Ok(())
            }
        }
    }
}

impl NodeAccess {
    /// The ports at which kubelet's connections are expected, each once.
    pub fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<_> = self.probes().iter().map(|probe| probe.port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    fn probes(&self) -> &[Probe] {
        match self {
            Self::Probes(probes) => probes,
            Self::All => &[],
        }
    }

    /// The requests that kubelet may make at a port.
    ///
    /// # Errors
    /// When no probe is declared for it.
    pub(crate) fn at(&self, port: u16) -> Result<ProbePort, NotAProbe> {
        let of_port = self.probes().iter().filter(|probe| probe.port == port);
        let kinds: Vec<_> = of_port.map(|probe| probe.kind.clone()).collect();
        match kinds.is_empty() {
            true => Err(NotAProbe::Port(port)),
            false => Ok(ProbePort { port, kinds }),
        }
    }
}

/// A probe or lifecycle hook by which kubelet connects to the pod itself.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Probe {
    /// Port of the pod.
    pub port: u16,
    /// The way of asking.
    pub kind: ProbeKind,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match &self.kind {
            ProbeKind::Tcp => write!(f, "tcp :{port}"),
            ProbeKind::Http(target) => write!(f, "GET :{port}{target}"),
            ProbeKind::Https => write!(f, "https :{port}"),
            ProbeKind::Grpc => write!(f, "grpc :{port}"),
        }
    }
}

/// The way in which kubelet asks.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ProbeKind {
    /// `tcpSocket`: it connects, and sends nothing.
    Tcp,
    /// `httpGet` with the scheme HTTP: a GET of this path with its query, as it is on the wire.
    Http(Arc<str>),
    /// `httpGet` with the scheme HTTPS: TLS ends in the application, and nobody between sees
    /// the path.
    Https,
    /// `grpc`: [`GRPC_HEALTH_CHECK`] over HTTP/2 with prior knowledge.
    Grpc,
}

/// Refusal of something that no probe of the pod declares.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAProbe {
    /// No probe is for that port.
    #[error("the pod declares no probe and no lifecycle hook for port {0}")]
    Port(u16),
    /// It says something at a port where none says anything, or speaks another protocol.
    #[error("the probes that the pod declares for port {0} don't begin like this")]
    Protocol(u16),
    /// The request is none that a probe makes.
    #[error("no probe that the pod declares for port {port} is `{method} {target}`")]
    Request {
        /// The port.
        port: u16,
        /// The request's method.
        method: Box<str>,
        /// Its path with its query, cut to a length that a log takes.
        target: Box<str>,
    },
    /// It has what no probe has: a body, another protocol to change to, a whole URL.
    #[error("a request at port {0} is more than the GET of a path that a probe is")]
    NotPlain(u16),
}

/// A request as far as it is compared with probes.
#[derive(Clone, Copy, Debug)]
pub struct ProbeRequest<'a> {
    /// Its method.
    pub method: &'a str,
    /// Path and query, not normalised: nobody knows how the application reads them.
    pub target: &'a str,
    /// It came by HTTP/2.
    pub is_http2: bool,
    /// Something follows its head.
    pub has_body: bool,
    /// It asks for no other protocol, and names a path only.
    pub is_plain: bool,
}

impl ProbeRequest<'_> {
    /// Whether it is no more than the GET of some path, by HTTP/1.
    pub fn is_plain_get(&self) -> bool {
        self.method == "GET" && !self.is_http2 && !self.has_body && self.is_plain
    }
}

/// What kubelet may send to one port of a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProbePort {
    port: u16,
    /// At least one.
    kinds: Vec<ProbeKind>,
}

impl ProbePort {
    /// Whether no probe for the port sends a byte.
    pub fn takes_no_bytes(&self) -> bool {
        self.kinds.iter().all(|kind| *kind == ProbeKind::Tcp)
    }

    /// Whether TLS may begin here, in which nothing is seen any more.
    ///
    /// # Errors
    /// When no probe for the port speaks it.
    pub fn authorize_tls(&self) -> Result<(), NotAProbe> {
        match self.kinds.contains(&ProbeKind::Https) {
            true => Ok(()),
            false => Err(NotAProbe::Protocol(self.port)),
        }
    }

    /// Whether there may be requests of HTTP.
    ///
    /// # Errors
    /// When no probe for the port makes any.
    pub fn authorize_http(&self, is_http2: bool) -> Result<(), NotAProbe> {
        let is_spoken = self.kinds.iter().any(|kind| match kind {
            ProbeKind::Http(_) => !is_http2,
            ProbeKind::Grpc => is_http2,
            ProbeKind::Tcp | ProbeKind::Https => false,
        });
        match is_spoken {
            true => Ok(()),
            false => Err(NotAProbe::Protocol(self.port)),
        }
    }

    /// The refusal of bytes that are neither TLS nor HTTP: no probe sends such.
    pub fn refuse_bytes(&self) -> NotAProbe {
        NotAProbe::Protocol(self.port)
    }

    /// Whether a request is one that a probe makes. The target is compared byte by byte.
    ///
    /// # Errors
    /// When it is none.
    pub fn authorize_request(&self, request: ProbeRequest<'_>) -> Result<(), NotAProbe> {
        let is_declared = self.kinds.iter().any(|kind| match kind {
            ProbeKind::Http(target) => {
                !request.is_http2 && request.method == "GET" && request.target == &**target
            }
            ProbeKind::Grpc => {
                request.is_http2 && request.method == "POST" && request.target == GRPC_HEALTH_CHECK
            }
            ProbeKind::Tcp | ProbeKind::Https => false,
        });
        // What gRPC calls with is a body.
        let is_plain = request.is_plain && (request.is_http2 || !request.has_body);
        let port = self.port;
        match is_declared {
            true if is_plain => Ok(()),
            true => Err(NotAProbe::NotPlain(port)),
            false => Err(NotAProbe::Request {
                port,
                method: request.method.chars().take(16).collect(),
                target: request.target.chars().take(128).collect(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(port: u16, kind: ProbeKind) -> Probe {
        Probe { port, kind }
    }

    fn http(target: &str) -> ProbeKind {
        ProbeKind::Http(target.into())
    }

    fn access(probes: &[Probe]) -> NodeAccess {
        NodeAccess::Probes(probes.into())
    }

    fn port(kinds: &[ProbeKind]) -> ProbePort {
        let probes: Vec<_> = kinds.iter().map(|kind| probe(80, kind.clone())).collect();
        access(&probes).at(80).unwrap()
    }

    fn request<'a>(method: &'a str, target: &'a str) -> ProbeRequest<'a> {
        ProbeRequest {
            method,
            target,
            is_http2: false,
            has_body: false,
            is_plain: true,
        }
    }

    #[test]
    fn modes_parse_or_say_what_is_allowed() {
        assert_eq!("All".parse(), Ok(NodeAccessMode::All));
        let error = "ports".parse::<NodeAccessMode>().unwrap_err().to_string();
        assert!(error.contains("`probes` or `all`"), "{error}");
    }

    #[test]
    fn only_ports_with_a_probe_are_open() {
        let access = access(&[
            probe(8080, http("/")),
            probe(81, ProbeKind::Tcp),
            probe(8080, http("/a")),
        ]);
        assert!(access.at(8080).is_ok() && access.at(81).is_ok());
        assert_eq!(access.at(82), Err(NotAProbe::Port(82)));
        assert_eq!(access.ports(), [81, 8080]);
        assert_eq!(access.to_string(), "GET :8080/, tcp :81, GET :8080/a");
        assert!(NodeAccess::default().at(8080).is_err());
    }

    #[test]
    fn a_request_is_a_probes_when_method_and_target_are_the_same_byte_by_byte() {
        let port = port(&[http("/healthz"), http("/ready?full=1")]);
        let refused = |method: &str, target: &str| {
            let result = port.authorize_request(request(method, target));
            result.is_err()
        };
        assert!(!refused("GET", "/healthz"));
        assert!(!refused("GET", "/ready?full=1"));
        for target in [
            "/",
            "/healthz/",
            "//healthz",
            "/healthz?",
            "/healthz?a=b",
            "/healthz/../admin",
            "/./healthz",
            "/%68ealthz",
            "/healthz%2e",
            "/healthz;a=b",
            "/Healthz",
            "/ready",
            "/ready?full=1&a=b",
            "*",
            "",
        ] {
            assert!(refused("GET", target), "{target}");
        }
        for method in ["POST", "HEAD", "get", "OPTIONS", "CONNECT"] {
            assert!(refused(method, "/healthz"), "{method}");
        }
    }

    #[test]
    fn a_declared_request_with_a_body_or_an_upgrade_is_refused() {
        for (has_body, is_plain) in [(true, true), (false, false)] {
            let request = ProbeRequest {
                has_body,
                is_plain,
                ..request("GET", "/healthz")
            };
            let refused = port(&[http("/healthz")]).authorize_request(request);
            assert_eq!(refused, Err(NotAProbe::NotPlain(80)));
        }
    }

    #[test]
    fn a_grpc_probe_calls_the_health_check_over_http2_and_nothing_else() {
        let port = port(&[ProbeKind::Grpc]);
        let call = |target: &str, is_http2| {
            port.authorize_request(ProbeRequest {
                is_http2,
                has_body: true,
                ..request("POST", target)
            })
        };
        assert_eq!(call(GRPC_HEALTH_CHECK, true), Ok(()));
        assert!(call(GRPC_HEALTH_CHECK, false).is_err());
        assert!(call("/grpc.health.v1.Health/Watch", true).is_err());
        assert!(port.authorize_http(true).is_ok());
        assert!(port.authorize_http(false).is_err());
    }

    #[test]
    fn an_http_probe_is_no_request_of_http2() {
        let port = port(&[http("/healthz")]);
        assert!(port.authorize_http(false).is_ok());
        assert!(port.authorize_http(true).is_err());
        let request = ProbeRequest {
            is_http2: true,
            ..request("GET", "/healthz")
        };
        assert!(port.authorize_request(request).is_err());
    }

    #[test]
    fn only_an_https_probe_opens_a_port_for_tls() {
        assert!(port(&[ProbeKind::Https]).authorize_tls().is_ok());
        assert!(port(&[ProbeKind::Https]).authorize_http(false).is_err());
        for kind in [ProbeKind::Tcp, http("/"), ProbeKind::Grpc] {
            assert!(
                port(std::slice::from_ref(&kind)).authorize_tls().is_err(),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn a_refusal_says_what_was_asked_and_no_more_than_a_log_takes() {
        let long = format!("/{}", "a".repeat(10_000));
        let refused = port(&[http("/")]).authorize_request(request("GET", &long));
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("port 80 is `GET /aaa"), "{text}");
        assert!(text.len() < 300, "{}", text.len());
    }
}
