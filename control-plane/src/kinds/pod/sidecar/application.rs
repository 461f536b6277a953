//! The containers of a pod beside its sidecar's: what of them leads around it.

use k8s_openapi::api::core::v1::{PodSpec, SecurityContext};

use super::names::{INIT_CONTAINER, PROXY_CONTAINER, PROXY_USER, containers};
use crate::kinds::field_error::FieldError;

/// Capabilities with which a container could undo the redirection, or do as the sidecar's process
/// where it sees that, as every runtime reads them.
const ADMIN_CAPABILITIES: [&str; 5] = ["NET_ADMIN", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "ALL"];
/// The policies by which the cluster's DNS is asked, and nobody else.
const DNS_OF_CLUSTER: [&str; 2] = ["ClusterFirst", "ClusterFirstWithHostNet"];
/// Characters that kubelet lets a host name have.
const LONGEST_HOST_NAME: usize = 63;

/// Nothing of the pod but its sidecar is left alone by the redirection, could undo it, or has the
/// sidecar talk to another control plane.
pub(super) fn check(spec: &PodSpec) -> Result<(), FieldError> {
    if spec.host_aliases.iter().flatten().next().is_some() {
        let message = "they may lead the sidecar to another control plane";
        return Err(FieldError::new("spec.hostAliases", message));
    }
    let elsewhere = "names of the sidecar's may lead elsewhere than the cluster's DNS says";
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    if !DNS_OF_CLUSTER.contains(&policy) {
        return Err(FieldError::new("spec.dnsPolicy", elsewhere));
    }
    let dns = spec.dns_config.iter();
    let mut dns = dns.flat_map(|dns| [&dns.nameservers, &dns.searches]);
    if dns.any(|list| list.as_ref().is_some_and(|list| !list.is_empty())) {
        return Err(FieldError::new("spec.dnsConfig", elsewhere));
    }
    if spec.host_pid == Some(true) {
        let message = "it sees the processes of its node, and of its sidecar";
        return Err(FieldError::new("spec.hostPID", message));
    }
    for (path, security) in security_contexts(spec) {
        check_container(spec, &path, security)?;
    }
    Ok(())
}

/// The pod isn't called as its control plane is: kubelet writes a pod's name into its hosts file, and
/// the sidecar would connect to the application.
pub(super) fn check_names(
    name: Option<&str>,
    spec: &PodSpec,
    control_plane: &str,
) -> Result<(), FieldError> {
    let name = name.filter(|_| spec.hostname.is_none());
    let names = [
        ("metadata.name", name),
        ("spec.hostname", spec.hostname.as_deref()),
        ("spec.hostnameOverride", spec.hostname_override.as_deref()),
    ];
    let host = host(control_plane);
    for (field, name) in names {
        let name = name.unwrap_or_default();
        let name = name.get(..LONGEST_HOST_NAME).unwrap_or(name);
        // As kubelet does where it has shortened it.
        let name = name.trim_end_matches(['-', '.']);
        if !name.is_empty() && name.eq_ignore_ascii_case(host.trim_end_matches('.')) {
            let message = "the sidecar would take the pod itself for its control plane";
            return Err(FieldError::new(field, message));
        }
    }
    Ok(())
}

/// The host of a URL.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host)
}

/// The paths and security contexts of the application's containers.
fn security_contexts(spec: &PodSpec) -> impl Iterator<Item = (String, Option<&SecurityContext>)> {
    let own = [INIT_CONTAINER, PROXY_CONTAINER];
    let others = containers(spec).filter(move |(_, other)| !own.contains(&other.name.as_str()));
    let others = others.map(|(path, other)| (path, other.security_context.as_ref()));
    let added = spec.ephemeral_containers.iter().flatten().enumerate();
    others.chain(added.map(|(index, added)| {
        let path = format!("spec.ephemeralContainers[{index}]");
        (path, added.security_context.as_ref())
    }))
}

fn check_container(
    spec: &PodSpec,
    path: &str,
    security: Option<&SecurityContext>,
) -> Result<(), FieldError> {
    let problem = |field: &str, message: String| {
        Err(FieldError::new(
            format!("{path}.securityContext.{field}"),
            message,
        ))
    };
    if security.and_then(|security| security.privileged) == Some(true) {
        return problem("privileged", "it could undo the redirection".to_owned());
    }
    let capabilities = security.and_then(|security| security.capabilities.as_ref());
    let added = capabilities.and_then(|capabilities| capabilities.add.as_deref());
    for name in added.unwrap_or_default() {
        if ADMIN_CAPABILITIES.contains(&&*capability(name)) {
            let message = format!("with {name} it could undo the redirection, or be the sidecar");
            return problem("capabilities", message);
        }
    }
    if user(spec, security) == Some(PROXY_USER) {
        let message = format!("user {PROXY_USER} is the sidecar's, whose connections pass it");
        return problem("runAsUser", message);
    }
    if may_become_proxy_user(spec, security) {
        let message = format!(
            "it may become user {PROXY_USER}, whose connections pass the sidecar: set \
             allowPrivilegeEscalation: false, drop the capability ALL or SETUID, and say as which \
             other user it runs (runAsUser, here or of the pod)"
        );
        return Err(FieldError::new(format!("{path}.securityContext"), message));
    }
    Ok(())
}

/// By its image's user, by the capability, or by a program with the set-user-ID bit.
fn may_become_proxy_user(spec: &PodSpec, security: Option<&SecurityContext>) -> bool {
    let escalates = security.and_then(|security| security.allow_privilege_escalation);
    let capabilities = security.and_then(|security| security.capabilities.as_ref());
    let has = |list: Option<&Vec<String>>, names: &[&str]| {
        let mut list = list.into_iter().flatten();
        list.any(|name| names.contains(&&*capability(name)))
    };
    let added = capabilities.and_then(|capabilities| capabilities.add.as_ref());
    let dropped = capabilities.and_then(|capabilities| capabilities.drop.as_ref());
    let is_bound = escalates == Some(false)
        && has(dropped, &["ALL", "SETUID"])
        && !has(added, &["SETUID"])
        && user(spec, security).is_some();
    !is_bound
}

/// The name of a capability as the kernel's headers have it, without `CAP_`.
fn capability(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    name.to_owned()
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
    let of_proxy =
        security_contexts(spec).filter(|(_, security)| user(spec, *security) == Some(PROXY_USER));
    of_proxy.map(|(path, _)| path).collect()
}
