//! The proxy that a pod brings along: a container `weft-proxy`, with a container `weft-init` that
//! redirects connections to it. Anybody may write both into a pod; what is known here is whether
//! they are as Weft's webhook writes them, and what other webhooks do to every container.
//!
//! * [`names`]: how they are called
//! * [`own`]: the two containers, and their volume
//! * [`application`]: the pod's other containers, which may lead around them

mod application;
mod names;
mod own;

use k8s_openapi::api::core::v1::PodSpec;
use serde::{Deserialize, Serialize};
use weft_model::address::AddressBlock;
use weft_model::workload::CaptureExclusions;

use crate::kinds::field_error::FieldError;
pub(crate) use application::containers_of_proxy_user;
use names::containers;
pub(crate) use names::{INIT_CONTAINER, PROXY_CONTAINER, PROXY_USER};
pub(crate) use own::{CREDENTIALS, CREDENTIALS_VOLUME, PROGRAM};

/// The proxy that a pod brings along.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum PodSidecar {
    /// None.
    #[default]
    None,
    /// A container that is called as a sidecar's is, made by anybody; the first thing that is
    /// another than the webhook writes it.
    ByHand(FieldError),
    /// As Weft's webhook writes it, and nothing in the pod leads around it.
    Injected(Box<InjectedSidecar>),
}

/// A sidecar as Weft's webhook writes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InjectedSidecar {
    pub(crate) source: SidecarSource,
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

/// What is the same of all sidecars that a control plane injects.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SidecarSource {
    /// Their image, without tag and digest.
    pub(crate) repository: String,
    /// The address of their control plane.
    pub(crate) control_plane: String,
    /// The ConfigMap with the roots that they trust.
    pub(crate) root_config_map: String,
}

impl PodSidecar {
    /// The one of a pod of that name.
    pub(crate) fn of(name: Option<&str>, spec: &PodSpec) -> Self {
        match containers(spec).any(|(_, container)| container.name == PROXY_CONTAINER) {
            false => Self::None,
            true => match InjectedSidecar::of(name, spec) {
                Ok(injected) => Self::Injected(Box::new(injected)),
                Err(problem) => Self::ByHand(problem),
            },
        }
    }

    /// The pod brings one along.
    pub(crate) fn is_there(&self) -> bool {
        *self != Self::None
    }
}

impl InjectedSidecar {
    fn of(name: Option<&str>, spec: &PodSpec) -> Result<Self, FieldError> {
        let missing = |path: &str| FieldError::missing(path, "every sidecar has one");
        let mut all = containers(spec);
        let proxy = all.find(|(_, container)| container.name == PROXY_CONTAINER);
        let (proxy_path, proxy) = proxy.ok_or_else(|| missing("spec.initContainers"))?;
        let init_containers = spec.init_containers.as_deref().unwrap_or_default();
        let (init_path, init) = match init_containers.first() {
            Some(init) if init.name == INIT_CONTAINER => ("spec.initContainers[0]", init),
            _ => {
                let message = format!(
                    "another container than {INIT_CONTAINER} comes first: its connections aren't \
                     redirected"
                );
                return Err(FieldError::new("spec.initContainers[0].name", message));
            }
        };
        application::check(spec)?;
        own::check_proxy(&proxy_path, proxy)?;
        own::check_init(init_path, init)?;
        let image = proxy.image.as_deref();
        let image = image.ok_or_else(|| missing(&format!("{proxy_path}.image")))?;
        if init.image.as_deref() != Some(image) {
            let message = format!("another than {PROXY_CONTAINER} has");
            return Err(FieldError::new(format!("{init_path}.image"), message));
        }
        let arguments = init.args.as_deref().unwrap_or_default();
        let left_alone = left_alone(arguments).ok_or_else(|| {
            let message = "others than `init` and what it excludes";
            FieldError::new(format!("{init_path}.args"), message)
        })?;
        let control_plane = own::control_plane(&proxy_path, proxy)?;
        application::check_names(name, spec, &control_plane)?;
        Ok(Self {
            source: SidecarSource {
                repository: repository(image).to_owned(),
                control_plane,
                root_config_map: own::root_config_map(spec)?,
            },
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

#[cfg(test)]
mod tests;
