//! The containers of a sidecar, and the volume with what it proves itself by. docs/sidecar.md says
//! what each is for.

use serde_json::{Value, json};
use weft_model::AddressBlock;

use super::options::InjectionOptions;
use crate::index::AdmittedPod;
use crate::kinds::{
    CREDENTIALS, CREDENTIALS_VOLUME, INIT_CONTAINER, PROGRAM, PROXY_CONTAINER, PROXY_USER,
    SidecarCapture, SidecarWishes,
};

/// The port of health and readiness.
const PROBES_PORT: u16 = 15021;
/// Seconds of a pod's grace period that are left when the proxy has to be gone.
const SPARE: i64 = 5;
/// Seconds that the application may be held until the proxy is ready.
const START_WITHIN: u32 = 600;

const CPU_REQUEST: &str = "10m";
const MEMORY_REQUEST: &str = "32Mi";
const MEMORY_LIMIT: &str = "256Mi";

/// The init container that redirects the pod's connections.
pub(super) fn init(pod: &AdmittedPod, options: &InjectionOptions) -> Value {
    let mut arguments = vec!["init".to_owned()];
    if pod.wishes.capture == SidecarCapture::Tproxy {
        arguments.push("--capture=tproxy".to_owned());
    }
    let mut exclude = |flag: &str, items: Vec<String>| {
        if !items.is_empty() {
            arguments.push(format!("--exclude-{flag}={}", items.join(",")));
        }
    };
    let texts = |items: &[u16]| items.iter().map(ToString::to_string).collect();
    exclude("inbound-ports", texts(&pod.wishes.excluded_inbound_ports));
    let blocks = |items: &[AddressBlock]| items.iter().map(ToString::to_string).collect();
    exclude("inbound-cidrs", blocks(&pod.wishes.excluded_inbound_blocks));
    exclude("outbound-ports", texts(&pod.exclusions.ports));
    exclude("outbound-cidrs", blocks(&pod.exclusions.blocks));
    json!({
        "name": INIT_CONTAINER,
        "image": image(pod, options),
        "imagePullPolicy": options.image_pull_policy,
        "args": arguments,
        "resources": resources(&pod.wishes),
        "securityContext": {
            // nf_tables takes NET_ADMIN, and no more: it opens no sockets of packets.
            "capabilities": { "add": ["NET_ADMIN"], "drop": ["ALL"] },
            "privileged": false,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
    })
}

/// The container of the proxy.
pub(super) fn proxy(pod: &AdmittedPod, options: &InjectionOptions) -> Value {
    let is_native = options.shape.is_native(pod);
    let drain = drain_seconds(pod);
    let get = |path: &str| json!({ "path": path, "port": PROBES_PORT });
    let mut container = json!({
        "name": PROXY_CONTAINER,
        "image": image(pod, options),
        "imagePullPolicy": options.image_pull_policy,
        "args": ["run"],
        "env": environment(pod, options, drain),
        "ports": [{ "name": "weft-metrics", "containerPort": 15020, "protocol": "TCP" }],
        "resources": resources(&pod.wishes),
        "readinessProbe": {
            "httpGet": get("/readyz"), "periodSeconds": 5, "timeoutSeconds": 3,
        },
        "livenessProbe": {
            "httpGet": get("/healthz"),
            "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6,
        },
        "securityContext": proxy_rights(pod.wishes.capture),
        "volumeMounts": [{ "name": CREDENTIALS_VOLUME, "mountPath": CREDENTIALS, "readOnly": true }],
    });
    match is_native {
        // Without `preStop`: kubelet runs the hooks of all containers at once, and would have it drain
        // while the application still works. It is told to stop when all others have ended.
        true => {
            container["restartPolicy"] = json!("Always");
            // What comes after it waits for its start, which is over when it is ready.
            container["startupProbe"] = json!({
                "httpGet": get("/readyz"),
                "periodSeconds": 1, "timeoutSeconds": 3, "failureThreshold": START_WITHIN,
            });
        }
        // Kubelet starts no container before the hook of the one before has ended.
        false => {
            let hook = |what: &str, timeout: String| json!({ "exec": { "command": [PROGRAM, what, format!("--timeout={timeout}")] } });
            container["lifecycle"] = json!({
                "postStart": hook("wait", format!("{START_WITHIN}s")),
                "preStop": hook("drain", format!("{drain}s")),
            });
        }
    }
    container
}

/// None but what TPROXY takes: sockets at addresses of others, for which the proxy begins as root and
/// becomes its own user, as Kubernetes gives capabilities to root alone.
fn proxy_rights(capture: SidecarCapture) -> Value {
    let (user, capabilities) = match capture {
        SidecarCapture::Redirect => (PROXY_USER, json!({ "drop": ["ALL"] })),
        SidecarCapture::Tproxy => {
            let added = ["NET_RAW", "SETGID", "SETUID"];
            (0, json!({ "add": added, "drop": ["ALL"] }))
        }
    };
    json!({
        "capabilities": capabilities,
        "privileged": false,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "runAsUser": user,
        "runAsGroup": user,
        "runAsNonRoot": user != 0,
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

/// The volume with the pod's token for the control plane, and the roots that it trusts.
pub(super) fn volume(options: &InjectionOptions) -> Value {
    json!({
        "name": CREDENTIALS_VOLUME,
        "projected": {
            // 0444, in decimal: not every reader of YAML knows octal numbers. The proxy is neither
            // root nor, for certain, of the pod's group; only it has the volume.
            "defaultMode": 292,
            "sources": [
                { "serviceAccountToken": {
                    "audience": options.token_audience,
                    "expirationSeconds": 3600,
                    "path": "token",
                } },
                { "configMap": {
                    "name": options.root_config_map,
                    "items": [{ "key": "ca.crt", "path": "ca.crt" }],
                } },
            ],
        },
    })
}

fn environment(pod: &AdmittedPod, options: &InjectionOptions, drain: i64) -> Value {
    let of_pod = |name: &str, path: &str| {
        let field = json!({ "apiVersion": "v1", "fieldPath": path });
        json!({ "name": name, "valueFrom": { "fieldRef": field } })
    };
    let value = |name: &str, value: &str| json!({ "name": name, "value": value });
    // All of them can be asked for as long as native sidecars can.
    let host = match options.shape.is_native(pod) {
        true => "status.hostIPs",
        false => "status.hostIP",
    };
    let log = pod.wishes.log_level.as_deref().unwrap_or("info");
    let mut environment = json!([
        of_pod("WEFT_NODE", "spec.nodeName"),
        of_pod("POD_NAME", "metadata.name"),
        of_pod("POD_NAMESPACE", "metadata.namespace"),
        of_pod("POD_UID", "metadata.uid"),
        of_pod("POD_IPS", "status.podIPs"),
        of_pod("HOST_IPS", host),
        value("WEFT_CONTROL_PLANE", &options.control_plane),
        value("WEFT_CONTROL_PLANE_NAME", &options.control_plane_name),
        value("WEFT_ROOT_CERTIFICATES", &format!("{CREDENTIALS}/ca.crt")),
        value("WEFT_TOKEN_FILE", &format!("{CREDENTIALS}/token")),
        value("WEFT_DRAIN_DEADLINE", &format!("{drain}s")),
        value("WEFT_LOG", log),
    ]);
    if let (SidecarCapture::Tproxy, Some(list)) = (pod.wishes.capture, environment.as_array_mut()) {
        list.push(value("WEFT_CAPTURE", "tproxy"));
    }
    environment
}

fn image<'a>(pod: &'a AdmittedPod, options: &'a InjectionOptions) -> &'a str {
    pod.wishes.image.as_deref().unwrap_or(&options.image)
}

/// Less than the pod's own time, so that what is left is cut by the proxy and not by kubelet.
fn drain_seconds(pod: &AdmittedPod) -> i64 {
    pod.grace_period.saturating_sub(SPARE).max(1)
}

/// Where somebody sets a limit alone, Kubernetes takes it as the request, too: one of ours could be
/// above it.
fn resources(wishes: &SidecarWishes) -> Value {
    let mut resources = json!({ "requests": {}, "limits": {} });
    let mut put = |of: &str, name: &str, text: Option<&str>| {
        if let Some(text) = text {
            resources[of][name] = json!(text);
        }
    };
    let default = |limit: &Option<String>, text: &'static str| limit.is_none().then_some(text);
    let cpu = wishes.cpu_request.as_deref();
    put(
        "requests",
        "cpu",
        cpu.or(default(&wishes.cpu_limit, CPU_REQUEST)),
    );
    // No limit of processors unless somebody asks for it: throttled, the application waits.
    put("limits", "cpu", wishes.cpu_limit.as_deref());
    let memory = wishes.memory_request.as_deref();
    put(
        "requests",
        "memory",
        memory.or(default(&wishes.memory_limit, MEMORY_REQUEST)),
    );
    let limit = wishes.memory_limit.as_deref();
    put(
        "limits",
        "memory",
        limit.or(default(&wishes.memory_request, MEMORY_LIMIT)),
    );
    resources
}
