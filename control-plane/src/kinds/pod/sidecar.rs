//! The proxy that a pod brings along: a container `weft-proxy`, with a container `weft-init` that
//! redirects connections to it. Anybody may write both into a pod; what is known here is whether
//! they are as Weft's webhook writes them.

use k8s_openapi::api::core::v1::{Container, PodSpec, SecurityContext};
use weft_model::address::AddressBlock;
use weft_model::workload::CaptureExclusions;

/// The container of the proxy.
pub(crate) const PROXY_CONTAINER: &str = "weft-proxy";
/// The init container that redirects connections to it.
pub(crate) const INIT_CONTAINER: &str = "weft-init";
/// The user that the proxy runs as, whose connections are not redirected.
pub(crate) const PROXY_USER: i64 = 1337;

/// Below it are the only volumes of both containers: nothing is put over their program.
const SECRETS: &str = "/var/run/secrets/";
/// Capabilities with which a container could undo the redirection, as every runtime reads them.
const ADMIN_CAPABILITIES: [&str; 3] = ["NET_ADMIN", "SYS_ADMIN", "ALL"];
/// The only environment that the proxy has.
const ENVIRONMENT: [&str; 12] = [
    "WEFT_NODE",
    "POD_NAME",
    "POD_NAMESPACE",
    "POD_UID",
    "POD_IPS",
    "HOST_IPS",
    CONTROL_PLANE,
    "WEFT_CONTROL_PLANE_NAME",
    "WEFT_ROOT_CERTIFICATES",
    "WEFT_TOKEN_FILE",
    "WEFT_DRAIN_DEADLINE",
    "WEFT_LOG",
];
const CONTROL_PLANE: &str = "WEFT_CONTROL_PLANE";

/// The proxy that a pod brings along.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum PodSidecar {
    /// None.
    #[default]
    None,
    /// A container that is called as a sidecar's is, made by anybody.
    ByHand,
    /// As Weft's webhook writes it, and nothing in the pod leads around it.
    Injected(Box<InjectedSidecar>),
}

/// A sidecar as Weft's webhook writes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InjectedSidecar {
    /// Its image, without tag and digest.
    pub(crate) repository: String,
    /// The address of its control plane.
    pub(crate) control_plane: String,
    /// Outbound traffic that isn't redirected to it.
    pub(crate) exclusions: CaptureExclusions,
    /// Ports that are reached past it.
    pub(crate) excluded_inbound_ports: Vec<u16>,
    /// Addresses of clients that reach the pod past it.
    pub(crate) excluded_inbound_blocks: Vec<AddressBlock>,
}

/// What the arguments of `weft-init` leave alone.
#[derive(Debug, Default)]
struct LeftAlone {
    outbound: CaptureExclusions,
    inbound: CaptureExclusions,
}

impl PodSidecar {
    /// The one of a pod.
    pub(crate) fn of(spec: &PodSpec) -> Self {
        let init = spec.init_containers.iter().flatten();
        let mut containers = spec.containers.iter().chain(init);
        if !containers.any(|container| container.name == PROXY_CONTAINER) {
            return Self::None;
        }
        match InjectedSidecar::of(spec) {
            Some(injected) => Self::Injected(Box::new(injected)),
            None => Self::ByHand,
        }
    }

    /// The pod brings one along.
    pub(crate) fn is_there(&self) -> bool {
        *self != Self::None
    }
}

impl InjectedSidecar {
    fn of(spec: &PodSpec) -> Option<Self> {
        let init_containers = spec.init_containers.as_deref().unwrap_or_default();
        // Whatever ran before it would have connections that nobody redirects.
        let init = init_containers.first()?;
        if init.name != INIT_CONTAINER {
            return None;
        }
        let all = || spec.containers.iter().chain(init_containers);
        let proxy = all().find(|container| container.name == PROXY_CONTAINER)?;
        let others =
            all().filter(|other| other.name != INIT_CONTAINER && other.name != PROXY_CONTAINER);
        let mut others = others.map(|other| other.security_context.as_ref());
        let added = spec.ephemeral_containers.iter().flatten();
        let mut added = added.map(|other| other.security_context.as_ref());
        let leads_around = others.any(|other| leads_around(spec, other))
            || added.any(|other| leads_around(spec, other));
        let has_names = spec.host_aliases.iter().flatten().next().is_some()
            || spec.dns_policy.as_deref() == Some("None");
        if leads_around || has_names || !is_proxy(proxy) || !is_init(init) {
            return None;
        }
        let image = proxy.image.as_deref()?;
        if init.image.as_deref() != Some(image) {
            return None;
        }
        let left_alone = left_alone(init.args.as_deref()?)?;
        let mut environment = proxy.env.iter().flatten();
        let control_plane = environment.find(|one| one.name == CONTROL_PLANE)?;
        Some(Self {
            repository: repository(image).to_owned(),
            control_plane: control_plane.value.clone()?,
            exclusions: left_alone.outbound,
            excluded_inbound_ports: left_alone.inbound.ports,
            excluded_inbound_blocks: left_alone.inbound.blocks,
        })
    }
}

/// An image's name without tag and digest.
pub(crate) fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    // A colon before the last slash is a port's.
    let file = name.rfind('/').map_or(0, |slash| slash + 1);
    match name.get(file..).and_then(|file| file.find(':')) {
        Some(colon) => name.get(..file + colon).unwrap_or(name),
        None => name,
    }
}

fn is_proxy(container: &Container) -> bool {
    let environment = container.env.iter().flatten();
    let names: Vec<_> = environment.map(|one| one.name.as_str()).collect();
    // Of two that are called alike the last counts.
    let is_own = |(index, name): (usize, &&str)| {
        ENVIRONMENT.contains(name) && !names.iter().take(index).any(|other| other == name)
    };
    let security = container.security_context.as_ref();
    let user = security.and_then(|security| security.run_as_user);
    let arguments = container.args.as_deref().unwrap_or_default();
    has_own_command(container)
        && names.iter().enumerate().all(is_own)
        && container.env_from.iter().flatten().next().is_none()
        && arguments.first().is_some_and(|first| first == "run")
        && arguments.len() == 1
        && user == Some(PROXY_USER)
}

fn is_init(container: &Container) -> bool {
    let has_environment = container.env.iter().flatten().next().is_some()
        || container.env_from.iter().flatten().next().is_some();
    has_own_command(container) && !has_environment
}

/// The image's own program is what runs, and nothing else does.
fn has_own_command(container: &Container) -> bool {
    let mut mounts = container.volume_mounts.iter().flatten();
    let probes = [&container.liveness_probe, &container.startup_probe];
    let mut probes = probes.into_iter().flatten();
    container.command.iter().flatten().next().is_none()
        && mounts
            .all(|mount| mount.mount_path.starts_with(SECRETS) && !mount.mount_path.contains(".."))
        && probes.all(|probe| probe.exec.is_none())
}

/// What the arguments of `weft-init` leave alone; none when they say anything else.
fn left_alone(arguments: &[String]) -> Option<LeftAlone> {
    let (first, rest) = arguments.split_first()?;
    if first != "init" {
        return None;
    }
    let (mut outbound, mut inbound) = (CaptureExclusions::default(), CaptureExclusions::default());
    for argument in rest {
        let (flag, list) = argument.split_once('=')?;
        let list = list.split(',');
        match flag {
            "--exclude-outbound-ports" => outbound.ports.extend(parsed::<u16>(list)?),
            "--exclude-outbound-cidrs" => outbound.blocks.extend(parsed::<AddressBlock>(list)?),
            "--exclude-inbound-ports" => inbound.ports.extend(parsed::<u16>(list)?),
            "--exclude-inbound-cidrs" => inbound.blocks.extend(parsed::<AddressBlock>(list)?),
            _ => return None,
        }
    }
    Some(LeftAlone { outbound, inbound })
}

fn parsed<'a, T: std::str::FromStr>(list: impl Iterator<Item = &'a str>) -> Option<Vec<T>> {
    list.map(|item| item.parse().ok()).collect()
}

/// A container that the redirection leaves alone, or that could undo it.
fn leads_around(spec: &PodSpec, security: Option<&SecurityContext>) -> bool {
    let is_privileged = security.and_then(|security| security.privileged) == Some(true);
    let capabilities = security.and_then(|security| security.capabilities.as_ref());
    let added = capabilities.and_then(|capabilities| capabilities.add.as_ref());
    let mut added = added.into_iter().flatten();
    let is_admin = added.any(|name| {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        ADMIN_CAPABILITIES.contains(&name)
    });
    is_privileged || is_admin || user(spec, security) == Some(PROXY_USER)
}

fn user(spec: &PodSpec, security: Option<&SecurityContext>) -> Option<i64> {
    let of_pod = || spec.security_context.as_ref()?.run_as_user;
    security
        .and_then(|security| security.run_as_user)
        .or_else(of_pod)
}

/// The paths of containers of the application that run as the proxy's user, and so pass the proxy
/// on their way out.
pub(crate) fn containers_of_proxy_user(spec: &PodSpec) -> Vec<String> {
    let named = |field: &'static str, containers: &[Container]| {
        let own = [INIT_CONTAINER, PROXY_CONTAINER];
        let containers = containers.iter().enumerate();
        let containers = containers.filter(|(_, container)| {
            let security = container.security_context.as_ref();
            !own.contains(&container.name.as_str()) && user(spec, security) == Some(PROXY_USER)
        });
        let paths = containers.map(|(index, _)| format!("spec.{field}[{index}]"));
        paths.collect::<Vec<_>>()
    };
    let mut paths = named("containers", &spec.containers);
    let init = spec.init_containers.as_deref().unwrap_or_default();
    paths.extend(named("initContainers", init));
    paths
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_repository_is_an_image_without_its_version() {
        for (image, expected) in [
            ("weft/sidecar", "weft/sidecar"),
            ("weft/sidecar:0.1.0", "weft/sidecar"),
            ("r.example:5000/weft/sidecar", "r.example:5000/weft/sidecar"),
            (
                "r.example:5000/weft/sidecar:1",
                "r.example:5000/weft/sidecar",
            ),
            ("weft/sidecar@sha256:00", "weft/sidecar"),
            ("weft/sidecar:1@sha256:00", "weft/sidecar"),
        ] {
            assert_eq!(repository(image), expected, "{image}");
        }
    }

    /// A pod with a sidecar, as the webhook writes it.
    fn injected() -> Value {
        json!({
            "initContainers": [
                { "name": "weft-init", "image": "weft/sidecar:1", "args": [
                    "init", "--exclude-outbound-ports=3306", "--exclude-inbound-ports=9100,9101",
                    "--exclude-inbound-cidrs=192.0.2.0/24",
                ] },
                { "name": "weft-proxy", "image": "weft/sidecar:1", "args": ["run"],
                  "restartPolicy": "Always", "securityContext": { "runAsUser": 1337 },
                  "env": [{ "name": "WEFT_CONTROL_PLANE", "value": "https://weft:15010" }] },
            ],
            "containers": [{ "name": "web", "image": "web" }],
        })
    }

    fn sidecar(spec: Value) -> PodSidecar {
        PodSidecar::of(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn what_the_webhook_writes_is_known_with_what_it_leaves_alone() {
        let PodSidecar::Injected(injected) = sidecar(injected()) else {
            panic!("not known");
        };
        assert_eq!(injected.repository, "weft/sidecar");
        assert_eq!(injected.control_plane, "https://weft:15010");
        assert_eq!(injected.exclusions.ports, [3306]);
        assert_eq!(injected.excluded_inbound_ports, [9100, 9101]);
        let block = "192.0.2.0/24".parse().unwrap();
        assert_eq!(injected.excluded_inbound_blocks, [block]);
        let none = json!({ "containers": [{ "name": "web" }] });
        assert_eq!(sidecar(none), PodSidecar::None);
    }

    #[test]
    fn what_is_called_like_a_sidecar_and_is_another_is_not_taken_for_one() {
        let changes: [(&str, Value); 13] = [
            ("/initContainers/0/name", json!("first")),
            ("/initContainers/0/image", json!("other")),
            ("/initContainers/0/args", json!(["cleanup"])),
            (
                "/initContainers/0/args/1",
                json!("--netns=/run/netns/other"),
            ),
            ("/initContainers/0/command", json!(["true"])),
            (
                "/initContainers/0/env",
                json!([{ "name": "WEFT_EXCLUDE_OUTBOUND_CIDRS", "value": "0.0.0.0/0" }]),
            ),
            ("/initContainers/1/args", json!(["run", "--proxy-uid=0"])),
            ("/initContainers/1/command", json!(["sleep", "inf"])),
            ("/initContainers/1/env/0/name", json!("LD_PRELOAD")),
            ("/initContainers/1/securityContext/runAsUser", json!(0)),
            (
                "/containers/0/securityContext",
                json!({ "privileged": true }),
            ),
            (
                "/containers/0/securityContext",
                json!({ "capabilities": { "add": ["NET_ADMIN"] } }),
            ),
            ("/securityContext", json!({ "runAsUser": 1337 })),
        ];
        assert_is_none_of_ours(changes);
    }

    #[test]
    fn what_leads_around_a_sidecar_in_its_pod_makes_it_another() {
        let changes = [
            (
                "/containers/0/securityContext",
                json!({ "capabilities": { "add": ["cap_net_admin"] } }),
            ),
            (
                "/ephemeralContainers",
                json!([{ "name": "debug", "securityContext": { "runAsUser": 1337 } }]),
            ),
            ("/dnsPolicy", json!("None")),
            (
                "/initContainers/0/volumeMounts",
                json!([{ "name": "own", "mountPath": "/usr/local/bin" }]),
            ),
            (
                "/initContainers/1/startupProbe",
                json!({ "exec": { "command": ["weft-sidecar", "cleanup"] } }),
            ),
            (
                "/initContainers/1/env",
                json!([
                    { "name": "WEFT_CONTROL_PLANE", "value": "https://weft:15010" },
                    { "name": "WEFT_CONTROL_PLANE", "value": "https://other:15010" },
                ]),
            ),
            (
                "/initContainers",
                json!([
                    { "name": "first", "image": "first" },
                    { "name": "weft-init", "image": "weft/sidecar:1", "args": ["init"] },
                    { "name": "weft-proxy", "image": "weft/sidecar:1", "args": ["run"],
                      "securityContext": { "runAsUser": 1337 },
                      "env": [{ "name": "WEFT_CONTROL_PLANE", "value": "https://weft:15010" }] },
                ]),
            ),
        ];
        assert_is_none_of_ours(changes);
    }

    fn assert_is_none_of_ours(changes: impl IntoIterator<Item = (&'static str, Value)>) {
        for (path, value) in changes {
            let mut spec = injected();
            match spec.pointer_mut(path) {
                Some(field) => *field = value,
                None => {
                    let (parent, name) = path.rsplit_once('/').unwrap();
                    spec.pointer_mut(parent).unwrap()[name] = value;
                }
            }
            assert_eq!(sidecar(spec), PodSidecar::ByHand, "{path}");
        }
    }

    #[test]
    fn containers_that_run_as_the_proxy_are_named() {
        let spec = json!({
            "securityContext": { "runAsUser": 1337 },
            "initContainers": [{ "name": "weft-init" }, { "name": "migrate" }],
            "containers": [
                { "name": "web", "securityContext": { "runAsUser": 1000 } }, { "name": "helper" },
            ],
        });
        let spec = serde_json::from_value(spec).unwrap();
        let expected = ["spec.containers[1]", "spec.initContainers[1]"];
        assert_eq!(containers_of_proxy_user(&spec), expected);
    }
}
