//! Wishes of pods and namespaces.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use weft_model::AddressBlock;
use weft_model::access_log::AccessLogSettings;
use weft_model::authorization_policy::DefaultAuthorization;
use weft_model::egress::EgressMode;
use weft_model::idle::IdleLimits;
use weft_model::mtls::{MtlsMode, PortModes};
use weft_model::node_access::NodeAccessMode;
use weft_model::workload::CaptureExclusions;

use super::access_log::AccessLogSpec;
use super::duration;
use super::field_error::FieldError;
use super::proxy_mode::ProxyMode;

pub(super) const MESH: &str = "weft.dev/mesh";
pub(super) const MTLS_MODE: &str = "weft.dev/mtls-mode";
pub(super) const PORT_MODES: &str = "weft.dev/port-modes";
pub(super) const NODE_ACCESS: &str = "weft.dev/node-access";
pub(super) const EGRESS_MODE: &str = "weft.dev/egress-mode";
const IDLE_TIMEOUT: &str = "weft.dev/idle-timeout";
const HALF_CLOSED_TIMEOUT: &str = "weft.dev/half-closed-timeout";
pub(super) const EXCLUDE_PORTS: &str = "weft.dev/exclude-outbound-ports";
pub(super) const EXCLUDE_BLOCKS: &str = "weft.dev/exclude-outbound-cidrs";
pub(super) const NETNS: &str = "weft.dev/netns";
pub(super) const DEFAULT_AUTHORIZATION: &str = "weft.dev/default-authorization";
const ACCESS_LOG: &str = "weft.dev/access-log";
const DRY_RUN: &str = "weft.dev/dry-run";
pub(super) const MODE: &str = "weft.dev/mode";
pub(super) const EXCLUDE_INBOUND_PORTS: &str = "weft.dev/exclude-inbound-ports";
pub(super) const EXCLUDE_INBOUND_BLOCKS: &str = "weft.dev/exclude-inbound-cidrs";
pub(super) const SIDECAR_CAPTURE: &str = "weft.dev/sidecar-capture";
pub(super) const SIDECAR_IMAGE: &str = "weft.dev/sidecar-image";
pub(super) const SIDECAR_LOG_LEVEL: &str = "weft.dev/sidecar-log-level";
pub(super) const SIDECAR_CPU_REQUEST: &str = "weft.dev/sidecar-cpu-request";
pub(super) const SIDECAR_CPU_LIMIT: &str = "weft.dev/sidecar-cpu-limit";
pub(super) const SIDECAR_MEMORY_REQUEST: &str = "weft.dev/sidecar-memory-request";
pub(super) const SIDECAR_MEMORY_LIMIT: &str = "weft.dev/sidecar-memory-limit";

/// The beginning of every label and annotation of Weft's.
const PREFIX: &str = "weft.dev/";

/// The labels and annotations of Weft's that count on objects of a kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownKeys {
    kind: &'static str,
    labels: &'static [&'static str],
    annotations: &'static [&'static str],
}

pub(super) const OF_PODS: KnownKeys = KnownKeys {
    kind: "Pod",
    labels: &[],
    annotations: &[
        MESH,
        MTLS_MODE,
        PORT_MODES,
        NODE_ACCESS,
        IDLE_TIMEOUT,
        HALF_CLOSED_TIMEOUT,
        EXCLUDE_PORTS,
        EXCLUDE_BLOCKS,
        NETNS,
        MODE,
        EXCLUDE_INBOUND_PORTS,
        EXCLUDE_INBOUND_BLOCKS,
        SIDECAR_CAPTURE,
        SIDECAR_IMAGE,
        SIDECAR_LOG_LEVEL,
        SIDECAR_CPU_REQUEST,
        SIDECAR_CPU_LIMIT,
        SIDECAR_MEMORY_REQUEST,
        SIDECAR_MEMORY_LIMIT,
    ],
};

pub(super) const OF_NAMESPACES: KnownKeys = KnownKeys {
    kind: "Namespace",
    labels: &[MESH, MODE],
    annotations: &[
        MTLS_MODE,
        NODE_ACCESS,
        EGRESS_MODE,
        IDLE_TIMEOUT,
        HALF_CLOSED_TIMEOUT,
        DEFAULT_AUTHORIZATION,
        ACCESS_LOG,
    ],
};

pub(super) const OF_AUTHORIZATION_POLICIES: KnownKeys = KnownKeys {
    kind: "AuthorizationPolicy",
    labels: &[],
    annotations: &[DRY_RUN],
};

pub(super) const OF_REQUEST_AUTHENTICATIONS: KnownKeys = KnownKeys {
    kind: "RequestAuthentication",
    labels: &[],
    annotations: &[],
};

impl KnownKeys {
    /// The labels and annotations of Weft's that have no effect where they are: misspelt ones, and
    /// those that belong elsewhere. Somebody means to have said something by them.
    pub(super) fn without_effect(&self, metadata: &ObjectMeta) -> Vec<FieldError> {
        let places = [
            ("labels", metadata.labels.as_ref(), self.labels),
            (
                "annotations",
                metadata.annotations.as_ref(),
                self.annotations,
            ),
        ];
        let mut problems = Vec::new();
        for (place, texts, known) in places {
            let keys = texts.into_iter().flat_map(Texts::keys);
            let ours = keys.filter(|key| key.starts_with(PREFIX));
            for key in ours.filter(|key| !known.contains(&key.as_str())) {
                problems.push(FieldError::new(field(place, key), self.right_place(key)));
            }
        }
        problems
    }

    fn right_place(&self, key: &str) -> String {
        let belongs = |keys: &Self| {
            let place = match (keys.labels.contains(&key), keys.annotations.contains(&key)) {
                (true, _) => "a label",
                (false, true) => "an annotation",
                (false, false) => return None,
            };
            Some(format!("no effect here: it is {place} of a {}", keys.kind))
        };
        let places = [*self, OF_PODS, OF_NAMESPACES, OF_AUTHORIZATION_POLICIES];
        places.iter().find_map(belongs).unwrap_or_else(|| {
            let known: Vec<_> = self
                .labels
                .iter()
                .chain(self.annotations)
                .copied()
                .collect();
            format!(
                "Weft knows no such key and follows nothing by it; of a {} it knows {}",
                self.kind,
                known.join(", ")
            )
        })
    }
}

/// Labels or annotations.
pub(super) type Texts = BTreeMap<String, String>;

/// A value that could be read, or a fallback and a note of the problem.
pub(super) fn or_note<T>(
    problems: &mut Vec<FieldError>,
    fallback: T,
    read: Result<T, FieldError>,
) -> T {
    read.unwrap_or_else(|problem| {
        problems.push(problem);
        fallback
    })
}

/// The path of a label or an annotation.
pub(super) fn field(place: &str, name: &str) -> String {
    format!("metadata.{place}[{name}]")
}

/// The choice to be in (true) or out; `None` when there is none.
pub(super) fn mesh(place: &str, texts: &Texts) -> Result<Option<bool>, FieldError> {
    match texts.get(MESH).map(String::as_str) {
        None => Ok(None),
        Some("enabled") => Ok(Some(true)),
        Some("disabled") => Ok(Some(false)),
        Some(other) => {
            let message = format!("`{other}` is neither `enabled` nor `disabled`");
            Err(FieldError::new(field(place, MESH), message))
        }
    }
}

/// The mTLS mode that it asks for.
pub(super) fn mtls_mode(annotations: &Texts) -> Result<Option<MtlsMode>, FieldError> {
    let mode = annotations.get(MTLS_MODE).map(|mode| mode.parse());
    mode.transpose()
        .map_err(|error| FieldError::new(field("annotations", MTLS_MODE), error))
}

/// The mTLS modes that it asks for, for single ports.
pub(super) fn port_modes(annotations: &Texts) -> Result<PortModes, FieldError> {
    let modes = annotations.get(PORT_MODES).map(|modes| modes.parse());
    let modes = modes.transpose().map(Option::unwrap_or_default);
    modes.map_err(|error| FieldError::new(field("annotations", PORT_MODES), error))
}

/// The access of its own node that it asks for.
pub(super) fn node_access(annotations: &Texts) -> Result<Option<NodeAccessMode>, FieldError> {
    let mode = annotations.get(NODE_ACCESS).map(|mode| mode.parse());
    mode.transpose()
        .map_err(|error| FieldError::new(field("annotations", NODE_ACCESS), error))
}

/// The egress mode that it asks for.
pub(super) fn egress_mode(annotations: &Texts) -> Result<Option<EgressMode>, FieldError> {
    let mode = annotations.get(EGRESS_MODE).map(|mode| mode.parse());
    mode.transpose()
        .map_err(|error| FieldError::new(field("annotations", EGRESS_MODE), error))
}

/// What may reach its workloads that no ALLOW policy selects.
pub(super) fn default_authorization(
    annotations: &Texts,
) -> Result<Option<DefaultAuthorization>, FieldError> {
    let text = annotations.get(DEFAULT_AUTHORIZATION);
    let default = text.map(|text| text.parse());
    default
        .transpose()
        .map_err(|error| FieldError::new(field("annotations", DEFAULT_AUTHORIZATION), error))
}

/// The choice to decide nothing and say what would have been decided.
pub(super) fn dry_run(annotations: &Texts) -> Result<bool, FieldError> {
    match annotations.get(DRY_RUN).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => {
            let message = format!("`{other}` is neither `true` nor `false`");
            Err(FieldError::new(field("annotations", DRY_RUN), message))
        }
    }
}

/// The idle limits that it asks for.
pub(super) fn idle_limits(annotations: &Texts) -> Result<IdleLimits, FieldError> {
    let limit = |name: &str| {
        let limit = annotations.get(name).map(|text| duration::parse(text));
        let limit = limit.transpose();
        limit.map_err(|error| FieldError::new(field("annotations", name), error))
    };
    Ok(IdleLimits {
        open: limit(IDLE_TIMEOUT)?,
        half_closed: limit(HALF_CLOSED_TIMEOUT)?,
    })
}

/// The lines of the access log that it asks for.
pub(super) fn access_log(annotations: &Texts) -> Result<AccessLogSettings, FieldError> {
    let place = field("annotations", ACCESS_LOG);
    match annotations.get(ACCESS_LOG) {
        None => Ok(AccessLogSettings::default()),
        Some(text) => match serde_json::from_str::<AccessLogSpec>(text) {
            Ok(spec) => spec.settings(&place),
            Err(error) => Err(FieldError::new(place, error)),
        },
    }
}

/// The proxy that it asks for: the node's, or a sidecar.
pub(super) fn mode(place: &str, texts: &Texts) -> Result<Option<ProxyMode>, FieldError> {
    let mode = texts.get(MODE).map(|mode| mode.parse());
    mode.transpose()
        .map_err(|error| FieldError::new(field(place, MODE), error))
}

/// The outbound traffic that a pod wants left alone.
pub(super) fn exclusions(annotations: &Texts) -> Result<CaptureExclusions, FieldError> {
    let ports = ports(annotations, EXCLUDE_PORTS)?;
    let blocks = blocks(annotations, EXCLUDE_BLOCKS)?;
    Ok(CaptureExclusions { ports, blocks })
}

/// The blocks of addresses that an annotation lists.
pub(super) fn blocks(annotations: &Texts, name: &str) -> Result<Vec<AddressBlock>, FieldError> {
    let blocks = list(annotations, name).map(|text| {
        let block = text.parse();
        block.map_err(|error| FieldError::new(field("annotations", name), error))
    });
    let blocks: Vec<AddressBlock> = blocks.collect::<Result<_, _>>()?;
    at_most(name, blocks.len(), CaptureExclusions::MOST_BLOCKS)?;
    Ok(blocks)
}

/// The ports that an annotation lists.
pub(super) fn ports(annotations: &Texts, name: &str) -> Result<Vec<u16>, FieldError> {
    let ports = list(annotations, name).map(|text| match text.parse::<u16>() {
        Ok(port) if port != 0 => Ok(port),
        _ => {
            let message = format!("`{text}` is not a port between 1 and 65535");
            Err(FieldError::new(field("annotations", name), message))
        }
    });
    let ports: Vec<u16> = ports.collect::<Result<_, _>>()?;
    at_most(name, ports.len(), CaptureExclusions::MOST_PORTS)?;
    Ok(ports)
}

fn list<'a>(annotations: &'a Texts, name: &str) -> impl Iterator<Item = &'a str> {
    let text = annotations.get(name).map_or("", String::as_str);
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// A node's kernel keeps the lists of all its pods in one table.
fn at_most(name: &str, count: usize, most: usize) -> Result<(), FieldError> {
    if count <= most {
        return Ok(());
    }
    let message = format!("{count} entries, at most {most} are allowed in a pod");
    Err(FieldError::new(field("annotations", name), message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(keys: KnownKeys, metadata: serde_json::Value) -> Vec<String> {
        let metadata = serde_json::from_value(metadata).unwrap();
        let problems = keys.without_effect(&metadata);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_key_that_is_misspelt_or_in_the_wrong_place_is_told_with_the_right_one() {
        let found = problems(
            OF_PODS,
            serde_json::json!({
                "labels": { "weft.dev/mesh": "enabled", "app": "web" },
                "annotations": {
                    "weft.dev/egress-mode": "RegisteredOnly",
                    "weft.dev/mtls-mod": "strict",
                    "weft.dev/mtls-mode": "strict",
                    "example.com/own": "1",
                },
            }),
        );
        let misspelt = "field metadata.annotations[weft.dev/mtls-mod]: Weft knows no such key and \
                        follows nothing by it; of a Pod it knows weft.dev/mesh, weft.dev/mtls-mode, ";
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(
            found[..2],
            [
                "field metadata.labels[weft.dev/mesh]: no effect here: it is an annotation of a Pod",
                "field metadata.annotations[weft.dev/egress-mode]: no effect here: it is an \
                 annotation of a Namespace",
            ]
        );
        assert!(found[2].starts_with(misspelt), "{}", found[2]);
    }

    #[test]
    fn a_namespace_opts_in_by_its_label_and_is_told_so_where_it_has_an_annotation() {
        let enabled = serde_json::json!({ "weft.dev/mesh": "enabled" });
        let labels = serde_json::json!({ "labels": enabled });
        assert_eq!(problems(OF_NAMESPACES, labels), [""; 0]);
        assert_eq!(
            problems(OF_NAMESPACES, serde_json::json!({ "annotations": enabled })),
            [
                "field metadata.annotations[weft.dev/mesh]: no effect here: it is a label of a \
                 Namespace"
            ]
        );
    }
}
