//! Names of a sidecar's containers, and the containers of a pod.

use k8s_openapi::api::core::v1::{Container, PodSpec};

/// The container of the proxy.
pub(crate) const PROXY_CONTAINER: &str = "weft-proxy";
/// The init container that redirects connections to it.
pub(crate) const INIT_CONTAINER: &str = "weft-init";
/// The user that the proxy runs as, whose connections are not redirected.
pub(crate) const PROXY_USER: i64 = 1337;

/// All containers of a pod but ephemeral ones, with their paths.
pub(super) fn containers(spec: &PodSpec) -> impl Iterator<Item = (String, &Container)> {
    let paths = |list: &'static str| move |index: usize| format!("spec.{list}[{index}]");
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init.map(move |(index, container)| (paths("initContainers")(index), container));
    let others = spec.containers.iter().enumerate();
    let others = others.map(move |(index, container)| (paths("containers")(index), container));
    others.chain(init)
}
