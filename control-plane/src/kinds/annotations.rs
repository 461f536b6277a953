//! Wishes of pods and namespaces.

use std::collections::BTreeMap;

use weft_model::egress::EgressMode;
use weft_model::idle::IdleLimits;
use weft_model::mtls::MtlsMode;
use weft_model::workload::CaptureExclusions;

use super::duration;
use super::field_error::FieldError;

pub(super) const MESH: &str = "weft.dev/mesh";
const MTLS_MODE: &str = "weft.dev/mtls-mode";
const EGRESS_MODE: &str = "weft.dev/egress-mode";
const IDLE_TIMEOUT: &str = "weft.dev/idle-timeout";
const HALF_CLOSED_TIMEOUT: &str = "weft.dev/half-closed-timeout";
const EXCLUDE_PORTS: &str = "weft.dev/exclude-outbound-ports";
const EXCLUDE_BLOCKS: &str = "weft.dev/exclude-outbound-cidrs";
pub(super) const NETNS: &str = "weft.dev/netns";

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

fn field(place: &str, name: &str) -> String {
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

/// The egress mode that it asks for.
pub(super) fn egress_mode(annotations: &Texts) -> Result<Option<EgressMode>, FieldError> {
    let mode = annotations.get(EGRESS_MODE).map(|mode| mode.parse());
    mode.transpose()
        .map_err(|error| FieldError::new(field("annotations", EGRESS_MODE), error))
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

/// The outbound traffic that a pod wants left alone.
pub(super) fn exclusions(annotations: &Texts) -> Result<CaptureExclusions, FieldError> {
    let list = |name: &str| {
        let text = annotations.get(name).map_or("", String::as_str).to_owned();
        let items: Vec<_> = text.split(',').map(str::trim).map(str::to_owned).collect();
        items.into_iter().filter(|item| !item.is_empty())
    };
    let ports = list(EXCLUDE_PORTS).map(|text| match text.parse::<u16>() {
        Ok(port) if port != 0 => Ok(port),
        _ => {
            let message = format!("`{text}` is not a port between 1 and 65535");
            Err(FieldError::new(
                field("annotations", EXCLUDE_PORTS),
                message,
            ))
        }
    });
    let blocks = list(EXCLUDE_BLOCKS).map(|text| {
        let block = text.parse();
        block.map_err(|error| FieldError::new(field("annotations", EXCLUDE_BLOCKS), error))
    });
    Ok(CaptureExclusions {
        ports: ports.collect::<Result<_, _>>()?,
        blocks: blocks.collect::<Result<_, _>>()?,
    })
}
