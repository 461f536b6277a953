//! Probes and lifecycle hooks of a pod's containers: those by which kubelet connects to the pod
//! itself, as it then does it (`pkg/probe` of Kubernetes).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    Container, GRPCAction, HTTPGetAction, Lifecycle, PodSpec, Probe as ProbeSpec, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use weft_model::address::canonical_ip;
use weft_model::node_access::{MOST_PROBES, Probe, ProbeKind};

use super::request_target::request_target;
use crate::kinds::field_error::FieldError;

/// One way in which kubelet asks.
#[derive(Clone, Copy, Debug)]
enum Action<'a> {
    HttpGet {
        action: &'a HTTPGetAction,
        /// A hook that gets plaintext where TLS was to be is asked once more without TLS.
        is_hook: bool,
    },
    TcpSocket(&'a TCPSocketAction),
    Grpc(&'a GRPCAction),
}

/// An action with the path of its field, and the container that has it.
#[derive(Debug)]
struct Declared<'a> {
    field: String,
    container: &'a Container,
    action: Action<'a>,
}

/// The probes and hooks for the pod itself, each once, as many as a pod may have.
pub(super) fn declared(spec: &PodSpec, addresses: &[IpAddr]) -> Vec<Probe> {
    let mut probes: Vec<_> = actions(spec)
        .iter()
        .filter(|declared| declared.is_for_pod(addresses))
        .flat_map(Declared::probes)
        .collect();
    probes.sort();
    probes.dedup();
    probes.truncate(MOST_PROBES);
    probes
}

/// Complaints of probes and hooks that lead elsewhere: kubelet would ask another pod, the node or
/// anybody in this one's name, and is told apart from the rest of the node only as kubelet. The
/// pod's own addresses lead to itself, where they are known.
pub(super) fn foreign_hosts(spec: &PodSpec, addresses: &[IpAddr]) -> Vec<FieldError> {
    let actions = actions(spec);
    let foreign = actions.iter();
    let foreign = foreign.filter(|declared| !declared.is_for_pod(addresses));
    let foreign = foreign.filter_map(|declared| {
        let host = declared.action.host()?;
        let message = format!(
            "`{host}` is not the pod itself: leave it out, or set the field `Host` of httpHeaders \
             if the application wants that name"
        );
        Some(FieldError::new(format!("{}.host", declared.field), message))
    });
    foreign.collect()
}

/// Whether an init container runs as long as the pod, as its containers do.
pub(super) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn actions(spec: &PodSpec) -> Vec<Declared<'_>> {
    let mut actions = Vec::new();
    let containers = spec.containers.iter().enumerate();
    let containers =
        containers.map(|(index, container)| (format!("spec.containers[{index}]"), container));
    // Others than sidecars have ended before kubelet asks anything, and ephemeral ones have no
    // probes.
    let sidecars = spec.init_containers.iter().flatten().enumerate();
    let sidecars = sidecars
        .filter(|(_, container)| is_sidecar(container))
        .map(|(index, container)| (format!("spec.initContainers[{index}]"), container));
    for (path, container) in containers.chain(sidecars) {
        for (name, probe) in [
            ("livenessProbe", &container.liveness_probe),
            ("readinessProbe", &container.readiness_probe),
            ("startupProbe", &container.startup_probe),
        ] {
            let probe = probe.iter().flat_map(of_probe);
            actions.extend(probe.map(|(way, action)| Declared {
                field: format!("{path}.{name}.{way}"),
                container,
                action,
            }));
        }
        let hooks = container.lifecycle.iter().flat_map(of_lifecycle);
        actions.extend(hooks.map(|(way, action)| Declared {
            field: format!("{path}.lifecycle.{way}"),
            container,
            action,
        }));
    }
    actions
}

fn of_probe(probe: &ProbeSpec) -> Vec<(&'static str, Action<'_>)> {
    let http = probe.http_get.as_ref().map(|action| {
        let is_hook = false;
        ("httpGet", Action::HttpGet { action, is_hook })
    });
    let tcp = probe.tcp_socket.as_ref();
    let tcp = tcp.map(|action| ("tcpSocket", Action::TcpSocket(action)));
    let grpc = probe.grpc.as_ref();
    let grpc = grpc.map(|action| ("grpc", Action::Grpc(action)));
    [http, tcp, grpc].into_iter().flatten().collect()
}

/// Kubelet refuses hooks with `tcpSocket`.
fn of_lifecycle(lifecycle: &Lifecycle) -> Vec<(&'static str, Action<'_>)> {
    let hooks = [
        ("postStart.httpGet", &lifecycle.post_start),
        ("preStop.httpGet", &lifecycle.pre_stop),
    ];
    let hooks = hooks.into_iter().filter_map(|(way, hook)| {
        let action = hook.as_ref()?.http_get.as_ref()?;
        let is_hook = true;
        Some((way, Action::HttpGet { action, is_hook }))
    });
    hooks.collect()
}

impl<'a> Action<'a> {
    /// The host that it names instead of the pod.
    fn host(self) -> Option<&'a str> {
        let host = match self {
            Self::HttpGet { action, .. } => action.host.as_deref(),
            Self::TcpSocket(action) => action.host.as_deref(),
            Self::Grpc(_) => None,
        };
        host.filter(|host| !host.is_empty())
    }
}

impl Declared<'_> {
    fn is_for_pod(&self, addresses: &[IpAddr]) -> bool {
        let Some(host) = self.action.host() else {
            return true;
        };
        let host = host.parse().map(canonical_ip);
        host.is_ok_and(|host| addresses.contains(&host))
    }

    fn probes(&self) -> Vec<Probe> {
        let port = match self.action {
            Action::HttpGet { action, .. } => self.port(&action.port),
            Action::TcpSocket(action) => self.port(&action.port),
            Action::Grpc(action) => valid(action.port),
        };
        let kinds = match self.action {
            Action::HttpGet { action, is_hook } => http_kinds(action, is_hook),
            Action::TcpSocket(_) => vec![ProbeKind::Tcp],
            Action::Grpc(_) => vec![ProbeKind::Grpc],
        };
        let kinds = kinds.into_iter();
        let probes = kinds.filter_map(|kind| Some(Probe { port: port?, kind }));
        probes.collect()
    }

    /// A port by its number, or by its name in the container whose probe it is.
    fn port(&self, port: &IntOrString) -> Option<u16> {
        match port {
            IntOrString::Int(number) => valid(*number),
            IntOrString::String(name) => {
                let mut ports = self.container.ports.iter().flatten();
                let named = ports.find(|port| port.name.as_ref() == Some(name));
                match named {
                    Some(port) => valid(port.container_port),
                    None => valid(name.parse().ok()?),
                }
            }
        }
    }
}

fn http_kinds(action: &HTTPGetAction, is_hook: bool) -> Vec<ProbeKind> {
    let is_https = action
        .scheme
        .as_deref()
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    let target = request_target(action.path.as_deref().unwrap_or_default());
    let http = ProbeKind::Http(target.into());
    match (is_https, is_hook) {
        (false, _) => vec![http],
        (true, false) => vec![ProbeKind::Https],
        (true, true) => vec![ProbeKind::Https, http],
    }
}

fn valid(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(spec: Value) -> PodSpec {
        serde_json::from_value(spec).unwrap()
    }

    fn of_container(container: Value) -> Vec<Probe> {
        declared(&spec(json!({ "containers": [container] })), &[])
    }

    fn http(port: u16, target: &str) -> Probe {
        let kind = ProbeKind::Http(target.into());
        Probe { port, kind }
    }

    #[test]
    fn every_probe_and_hook_by_which_kubelet_connects_is_declared() {
        let probes = of_container(json!({
            "name": "web",
            "ports": [{ "name": "http", "containerPort": 8080 }],
            "livenessProbe": { "httpGet": { "path": "/live?full=1", "port": "http" } },
            "readinessProbe": { "tcpSocket": { "port": 5432 } },
            "startupProbe": { "grpc": { "port": 9090, "service": "web" } },
            "lifecycle": {
                "postStart": { "httpGet": { "path": "started", "port": 81 } },
                "preStop": { "httpGet": { "path": "/stop", "port": 82, "scheme": "HTTPS" } },
            },
        }));
        let (tcp, grpc, https) = (ProbeKind::Tcp, ProbeKind::Grpc, ProbeKind::Https);
        let expected = [
            http(81, "/started"),
            http(82, "/stop"),
            Probe {
                port: 82,
                kind: https,
            },
            Probe {
                port: 5432,
                kind: tcp,
            },
            http(8080, "/live?full=1"),
            Probe {
                port: 9090,
                kind: grpc,
            },
        ];
        assert_eq!(probes, expected);
    }

    #[test]
    fn an_https_probe_declares_no_plaintext_and_exec_nothing() {
        let probes = of_container(json!({
            "name": "web",
            "livenessProbe": { "httpGet": { "path": "/", "port": 443, "scheme": "HTTPS" } },
            "readinessProbe": { "exec": { "command": ["true"] } },
        }));
        let kind = ProbeKind::Https;
        assert_eq!(probes, [Probe { port: 443, kind }]);
    }

    #[test]
    fn sidecars_count_and_other_init_containers_do_not() {
        let probe = json!({ "httpGet": { "port": 80 } });
        let probes = declared(
            &spec(json!({
                "containers": [{ "name": "web" }],
                "initContainers": [
                    { "name": "first", "readinessProbe": { "tcpSocket": { "port": 1 } } },
                    { "name": "sidecar", "restartPolicy": "Always", "readinessProbe": probe },
                ],
            })),
            &[],
        );
        assert_eq!(probes, [http(80, "/")]);
    }

    #[test]
    fn a_port_is_named_in_the_container_that_is_asked() {
        let probe = json!({ "tcpSocket": { "port": "admin" } });
        let two = spec(json!({ "containers": [
            { "name": "a", "ports": [{ "name": "admin", "containerPort": 9 }] },
            { "name": "b", "livenessProbe": probe },
        ] }));
        assert_eq!(declared(&two, &[]), [], "the name is another container's");
    }

    #[test]
    fn a_probe_for_somebody_else_is_none_of_the_pods() {
        let probe = |host: &str| {
            json!({ "containers": [{
                "name": "web",
                "livenessProbe": { "httpGet": { "path": "/", "port": 80, "host": host } },
            }] })
        };
        let own = ["10.0.0.7".parse().unwrap()];
        for (host, count) in [
            ("", 1),
            ("10.0.0.7", 1),
            ("10.0.0.8", 0),
            ("127.0.0.1", 0),
            ("web.shop", 0),
        ] {
            let spec = spec(probe(host));
            assert_eq!(declared(&spec, &own).len(), count, "{host}");
        }
        let complaints = foreign_hosts(&spec(probe("10.0.0.8")), &own);
        let text = complaints[0].to_string();
        let field = "field spec.containers[0].livenessProbe.httpGet.host: `10.0.0.8`";
        assert!(text.starts_with(field), "{text}");
        assert_eq!(foreign_hosts(&spec(probe("")), &[]), []);
        assert_eq!(foreign_hosts(&spec(probe("10.0.0.7")), &own), []);
        assert_eq!(foreign_hosts(&spec(probe("10.0.0.7")), &[]).len(), 1);
    }

    #[test]
    fn nobody_declares_more_than_a_pod_may_have() {
        let containers: Vec<_> = (1..500)
            .map(|port| json!({ "name": "a", "livenessProbe": { "tcpSocket": { "port": port } } }))
            .collect();
        let spec = spec(json!({ "containers": containers }));
        assert_eq!(declared(&spec, &[]).len(), MOST_PROBES);
    }
}
