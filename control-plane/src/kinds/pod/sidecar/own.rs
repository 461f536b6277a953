//! The two containers of a sidecar and their volume, as the webhook writes them. Other webhooks add
//! environment and mounts to every container: those of which it is known that neither program nor
//! loader read them are let be.

use k8s_openapi::api::core::v1::{
    Container, LifecycleHandler, PodSpec, ProjectedVolumeSource, VolumeMount,
};

use super::names::PROXY_USER;
use crate::kinds::field_error::FieldError;

/// The volume with the proxy's token and roots, and where the proxy has it.
pub(crate) const CREDENTIALS_VOLUME: &str = "weft-credentials";
pub(crate) const CREDENTIALS: &str = "/var/run/secrets/weft";
/// The program in its image.
pub(crate) const PROGRAM: &str = "/usr/local/bin/weft-sidecar";

/// The environment of the proxy's own.
const ENVIRONMENT: [&str; 12] = [
    "WEFT_NODE",
    "POD_NAME",
    "POD_NAMESPACE",
    "POD_UID",
    "POD_IPS",
    "HOST_IPS",
    CONTROL_PLANE,
    "WEFT_CONTROL_PLANE_NAME",
    ROOT_CERTIFICATES,
    TOKEN_FILE,
    "WEFT_DRAIN_DEADLINE",
    "WEFT_LOG",
];
/// Those of them that say where the pod is, with the fields that they come from: of addresses of the
/// node strict pods take probes.
const OF_POD: [(&str, &[&str]); 6] = [
    ("WEFT_NODE", &["spec.nodeName"]),
    ("POD_NAME", &["metadata.name"]),
    ("POD_NAMESPACE", &["metadata.namespace"]),
    ("POD_UID", &["metadata.uid"]),
    ("POD_IPS", &["status.podIPs"]),
    ("HOST_IPS", &["status.hostIPs", "status.hostIP"]),
];
const CONTROL_PLANE: &str = "WEFT_CONTROL_PLANE";
const ROOT_CERTIFICATES: &str = "WEFT_ROOT_CERTIFICATES";
const TOKEN_FILE: &str = "WEFT_TOKEN_FILE";

/// Beginnings of the environment that others' webhooks add to all containers: the identities of
/// clouds, telemetry, the API server's address.
const HARMLESS_ENVIRONMENT: [&str; 9] = [
    "AWS_",
    "AZURE_",
    "CLOUDSDK_",
    "CORECLR_",
    "DD_",
    "DOTNET_",
    "GOOGLE_",
    "KUBERNETES_",
    "OTEL_",
];
const HARMLESS_VARIABLES: [&str; 3] = ["JAVA_TOOL_OPTIONS", "NODE_OPTIONS", "PYTHONPATH"];
/// Beginnings of folders that neither program nor loader has files in: where others' webhooks mount
/// theirs. What follows is the name of a language.
const HARMLESS_MOUNTS: [&str; 4] = [
    "/var/run/datadog",
    "/datadog-lib",
    "/opt/datadog",
    "/otel-auto-instrumentation",
];
/// Below it is what pods prove themselves by, to whomever.
const SECRETS: &str = "/var/run/secrets";

/// The container of the proxy is as it is injected.
pub(super) fn check_proxy(path: &str, container: &Container) -> Result<(), FieldError> {
    let security = container.security_context.as_ref();
    if security.and_then(|security| security.run_as_user) != Some(PROXY_USER) {
        let message = format!("another than {PROXY_USER}");
        let field = format!("{path}.securityContext.runAsUser");
        return Err(FieldError::new(field, message));
    }
    if container.args.as_deref().unwrap_or_default() != ["run"] {
        let message = "others than `run`";
        return Err(FieldError::new(format!("{path}.args"), message));
    }
    check_rights(path, container, &[])?;
    check_program(path, container)?;
    check_environment(path, container, &ENVIRONMENT)?;
    check_fields(path, container)?;
    for (name, file) in [(ROOT_CERTIFICATES, "ca.crt"), (TOKEN_FILE, "token")] {
        let expected = format!("{CREDENTIALS}/{file}");
        let found = variable(container, name);
        if found.is_none_or(|(_, value)| value != Some(&expected)) {
            let message = format!("{name} isn't {expected}");
            return Err(FieldError::new(format!("{path}.env"), message));
        }
    }
    Ok(())
}

/// The container that redirects is as it is injected, but for its arguments.
pub(super) fn check_init(path: &str, container: &Container) -> Result<(), FieldError> {
    if container.restart_policy.is_some() {
        let message = "nobody would wait for its end";
        return Err(FieldError::new(format!("{path}.restartPolicy"), message));
    }
    check_rights(path, container, &["NET_ADMIN"])?;
    check_program(path, container)?;
    check_environment(path, container, &[])
}

/// It has no more rights than these: somebody may start the program once more in it.
fn check_rights(path: &str, container: &Container, allowed: &[&str]) -> Result<(), FieldError> {
    let security = container.security_context.as_ref();
    let capabilities = security.and_then(|security| security.capabilities.as_ref());
    let mut added = capabilities.iter().flat_map(|all| all.add.iter().flatten());
    let is_privileged = security.and_then(|security| security.privileged) == Some(true);
    match is_privileged || added.any(|name| !allowed.contains(&name.as_str())) {
        true => {
            let message = "more rights than a sidecar's";
            Err(FieldError::new(format!("{path}.securityContext"), message))
        }
        false => Ok(()),
    }
}

/// What it is told of the pod is what the pod's own fields say.
fn check_fields(path: &str, container: &Container) -> Result<(), FieldError> {
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let Some((_, fields)) = OF_POD.iter().find(|(name, _)| *name == variable.name) else {
            continue;
        };
        let source = variable.value_from.as_ref();
        let field = source.and_then(|source| source.field_ref.as_ref());
        if field.is_none_or(|field| !fields.contains(&field.field_path.as_str())) {
            let message = format!(
                "{} isn't the pod's field {}",
                variable.name,
                fields.join(" or ")
            );
            return Err(FieldError::new(format!("{path}.env[{index}]"), message));
        }
    }
    Ok(())
}

/// The address of the proxy's control plane.
pub(super) fn control_plane(path: &str, container: &Container) -> Result<String, FieldError> {
    let found = variable(container, CONTROL_PLANE);
    let value = found.and_then(|(_, value)| value.cloned());
    value.ok_or_else(|| FieldError::new(format!("{path}.env"), format!("no {CONTROL_PLANE}")))
}

/// The ConfigMap with the roots in the proxy's volume, which has nothing but these and the token.
pub(super) fn root_config_map(spec: &PodSpec) -> Result<String, FieldError> {
    let mut volumes = spec.volumes.iter().flatten().enumerate();
    let volume = volumes.find(|(_, volume)| volume.name == CREDENTIALS_VOLUME);
    let why = format!("no {CREDENTIALS_VOLUME}, which every sidecar has");
    let (index, volume) = volume.ok_or_else(|| FieldError::new("spec.volumes", why))?;
    let roots = volume.projected.as_ref().and_then(roots_of);
    roots.ok_or_else(|| {
        let message = "another than a sidecar's, of a token and a ConfigMap with roots";
        FieldError::new(format!("spec.volumes[{index}]"), message)
    })
}

fn roots_of(projected: &ProjectedVolumeSource) -> Option<String> {
    let [token, roots] = projected.sources.as_deref()? else {
        return None;
    };
    let is_token = token
        .service_account_token
        .as_ref()
        .is_some_and(|token| token.path == "token");
    let roots = roots.config_map.as_ref()?;
    let [item] = roots.items.as_deref()? else {
        return None;
    };
    let is_roots = item.key == "ca.crt" && item.path == "ca.crt";
    (is_token && is_roots).then(|| roots.name.clone())
}

/// The image's own program is what runs, and nothing else does.
fn check_program(path: &str, container: &Container) -> Result<(), FieldError> {
    let problem =
        |field: &str, message: &str| Err(FieldError::new(format!("{path}.{field}"), message));
    if container.command.iter().flatten().next().is_some() {
        return problem("command", "another program than the image's");
    }
    let probes = [
        &container.liveness_probe,
        &container.readiness_probe,
        &container.startup_probe,
    ];
    if probes
        .into_iter()
        .flatten()
        .any(|probe| probe.exec.is_some())
    {
        return problem("livenessProbe", "one of its probes runs a program");
    }
    let hooks = container.lifecycle.iter();
    let mut hooks = hooks.flat_map(|hooks| [&hooks.post_start, &hooks.pre_stop]);
    if hooks.any(|hook| hook.as_ref().is_some_and(runs_another)) {
        return problem(
            "lifecycle",
            "one of its hooks runs another program than a sidecar's",
        );
    }
    if container.volume_devices.iter().flatten().next().is_some() {
        return problem("volumeDevices", "a sidecar has none");
    }
    let mut mounts = container.volume_mounts.iter().flatten().enumerate();
    match mounts.find(|(_, mount)| !is_harmless_mount(mount)) {
        None => Ok(()),
        Some((index, mount)) => {
            let message = format!(
                "{} is mounted at {}, where the program may read it",
                mount.name, mount.mount_path
            );
            problem(&format!("volumeMounts[{index}]"), &message)
        }
    }
}

fn runs_another(hook: &LifecycleHandler) -> bool {
    let command = hook.exec.as_ref().and_then(|exec| exec.command.as_deref());
    // Any other flag may name whom it asks, in the clear and past the redirection.
    let is_ours = |what: &str, limit: &str| {
        let limit = limit.strip_prefix("--timeout=");
        let seconds = limit.and_then(|limit| limit.strip_suffix('s'));
        let is_number = seconds.is_some_and(|text| text.parse::<u32>().is_ok());
        matches!(what, "drain" | "wait") && is_number
    };
    !matches!(command, Some([program, what, limit]) if program == PROGRAM && is_ours(what, limit))
}

fn is_harmless_mount(mount: &VolumeMount) -> bool {
    // As whoever mounts it reads it.
    let parts = mount.mount_path.split('/');
    let parts: Vec<_> = parts
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let path = format!("/{}", parts.join("/"));
    let below = |folder: &str| {
        let rest = path.strip_prefix(folder);
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    let is_credentials = path == CREDENTIALS || below(CREDENTIALS);
    if mount.name == CREDENTIALS_VOLUME || is_credentials {
        let is_part = mount.sub_path.is_some() || mount.sub_path_expr.is_some();
        return mount.name == CREDENTIALS_VOLUME && path == CREDENTIALS && !is_part;
    }
    let mut others = HARMLESS_MOUNTS.iter();
    let is_known = below(SECRETS) || others.any(|folder| path.starts_with(folder));
    is_known && !parts.contains(&"..")
}

/// It has that environment, each once, and beside it at most what others' webhooks add.
fn check_environment(path: &str, container: &Container, own: &[&str]) -> Result<(), FieldError> {
    if container.env_from.iter().flatten().next().is_some() {
        let message = "a sidecar has none";
        return Err(FieldError::new(format!("{path}.envFrom"), message));
    }
    let names = container.env.iter().flatten();
    let names: Vec<_> = names.map(|variable| variable.name.as_str()).collect();
    for (index, name) in names.iter().enumerate() {
        // Of two that are called alike the last counts.
        let is_second = names.iter().take(index).any(|other| other == name);
        if is_second || !own.contains(name) && !is_harmless_variable(name) {
            let message = format!(
                "{name} is set by somebody else; beside a sidecar's own, variables are known that \
                 begin with {}",
                HARMLESS_ENVIRONMENT.join(", ")
            );
            return Err(FieldError::new(format!("{path}.env[{index}]"), message));
        }
    }
    Ok(())
}

fn is_harmless_variable(name: &str) -> bool {
    let mut prefixes = HARMLESS_ENVIRONMENT.iter();
    HARMLESS_VARIABLES.contains(&name) || prefixes.any(|prefix| name.starts_with(prefix))
}

/// A variable of a container, with the value that it says itself.
fn variable<'a>(container: &'a Container, name: &str) -> Option<(usize, Option<&'a String>)> {
    let mut environment = container.env.iter().flatten().enumerate();
    let (index, variable) = environment.find(|(_, variable)| variable.name == name)?;
    Some((index, variable.value.as_ref()))
}
