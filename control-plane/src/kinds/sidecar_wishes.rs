//! What a pod asks of its sidecar, by annotations.

use weft_model::AddressBlock;

use super::annotations::{self, Texts, field, or_note};
use super::field_error::FieldError;

/// Longest text of an annotation that becomes part of a container, in bytes.
const LONGEST: usize = 512;
/// Ends of quantities of memory.
const MEMORY_UNITS: [&str; 13] = [
    "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "k", "M", "G", "T", "P", "E", "",
];
/// Ends of quantities of processors.
const CPU_UNITS: [&str; 2] = ["m", ""];

/// The way in which a sidecar captures connections that arrive.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum SidecarCapture {
    /// Their destinations are rewritten.
    #[default]
    Redirect,
    /// Nothing is rewritten, so that the application sees its client's address.
    Tproxy,
}

/// What a pod asks of its sidecar.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SidecarWishes {
    /// Its image, in place of the mesh's.
    pub(crate) image: Option<String>,
    /// The filter of its log (`WEFT_LOG`).
    pub(crate) log_level: Option<String>,
    /// Kubernetes' quantities, such as `100m` and `64Mi`.
    pub(crate) cpu_request: Option<String>,
    pub(crate) cpu_limit: Option<String>,
    pub(crate) memory_request: Option<String>,
    pub(crate) memory_limit: Option<String>,
    /// The way in which it captures connections that arrive.
    pub(crate) capture: SidecarCapture,
    /// Ports of the pod that are reached past it.
    pub(crate) excluded_inbound_ports: Vec<u16>,
    /// Addresses of clients that reach the pod past it.
    pub(crate) excluded_inbound_blocks: Vec<AddressBlock>,
}

impl SidecarWishes {
    /// Reads them; one that can't be read counts as none.
    pub(super) fn read(annotations: &Texts, problems: &mut Vec<FieldError>) -> Self {
        let mut quantity = |name: &str, units: &[&str]| {
            let read = checked(
                annotations,
                name,
                |text| is_quantity(text, units),
                || {
                    format!(
                        "is no quantity; write a number, such as 100m of processors or 64Mi of memory \
                     (units here: {})",
                        units.join(" ")
                    )
                },
            );
            or_note(problems, None, read)
        };
        let cpu_request = quantity(annotations::SIDECAR_CPU_REQUEST, &CPU_UNITS);
        let cpu_limit = quantity(annotations::SIDECAR_CPU_LIMIT, &CPU_UNITS);
        let memory_request = quantity(annotations::SIDECAR_MEMORY_REQUEST, &MEMORY_UNITS);
        let memory_limit = quantity(annotations::SIDECAR_MEMORY_LIMIT, &MEMORY_UNITS);
        let mut word = |name: &str| {
            let read = checked(annotations, name, is_word, || {
                format!("is empty, longer than {LONGEST} bytes, or has blanks in it")
            });
            or_note(problems, None, read)
        };
        let image = word(annotations::SIDECAR_IMAGE);
        let log_level = word(annotations::SIDECAR_LOG_LEVEL);
        let ports = annotations::ports(annotations, annotations::EXCLUDE_INBOUND_PORTS);
        let blocks = annotations::blocks(annotations, annotations::EXCLUDE_INBOUND_BLOCKS);
        Self {
            image,
            log_level,
            cpu_request,
            cpu_limit,
            memory_request,
            memory_limit,
            capture: or_note(problems, SidecarCapture::default(), capture(annotations)),
            excluded_inbound_ports: or_note(problems, Vec::new(), ports),
            excluded_inbound_blocks: or_note(problems, Vec::new(), blocks),
        }
    }
}

fn capture(annotations: &Texts) -> Result<SidecarCapture, FieldError> {
    let name = annotations::SIDECAR_CAPTURE;
    match annotations.get(name).map(|text| text.trim()) {
        None | Some("redirect") => Ok(SidecarCapture::Redirect),
        Some("tproxy") => Ok(SidecarCapture::Tproxy),
        Some(other) => {
            let shown: String = other.chars().take(LONGEST).collect();
            let message = format!("`{shown}` is neither `redirect` nor `tproxy`");
            Err(FieldError::new(field("annotations", name), message))
        }
    }
}

fn checked(
    annotations: &Texts,
    name: &str,
    is_valid: impl Fn(&str) -> bool,
    why: impl Fn() -> String,
) -> Result<Option<String>, FieldError> {
    match annotations.get(name).map(|text| text.trim()) {
        None => Ok(None),
        Some(text) if is_valid(text) => Ok(Some(text.to_owned())),
        Some(text) => {
            let shown: String = text.chars().take(LONGEST).collect();
            let message = format!("`{shown}` {}", why());
            Err(FieldError::new(field("annotations", name), message))
        }
    }
}

fn is_word(text: &str) -> bool {
    let is_shown = text.bytes().all(|byte| byte.is_ascii_graphic());
    !text.is_empty() && text.len() <= LONGEST && is_shown
}

/// A positive decimal number and its unit; the first unit that fits counts.
fn is_quantity(text: &str, units: &[&str]) -> bool {
    let number = units.iter().find_map(|unit| text.strip_suffix(unit));
    let Some(number) = number.filter(|number| number.len() <= 15) else {
        return false;
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    is_digits(whole)
        && is_digits(fraction)
        && number.bytes().any(|byte| matches!(byte, b'1'..=b'9'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> (SidecarWishes, Vec<String>) {
        let annotations = Texts::from([(name.to_owned(), value.to_owned())]);
        let mut problems = Vec::new();
        let wishes = SidecarWishes::read(&annotations, &mut problems);
        let problems = problems.iter().map(ToString::to_string).collect();
        (wishes, problems)
    }

    #[test]
    fn quantities_are_those_of_kubernetes_and_nothing_else() {
        for right in ["100m", "1", "0.5", "2.25"] {
            let (wishes, problems) = read("weft.dev/sidecar-cpu-limit", right);
            assert_eq!(wishes.cpu_limit.as_deref(), Some(right));
            assert_eq!(problems, [""; 0]);
        }
        for right in ["64Mi", "1G", "128974848"] {
            let (wishes, _) = read("weft.dev/sidecar-memory-request", right);
            assert_eq!(wishes.memory_request.as_deref(), Some(right));
        }
        for wrong in ["", "m", "-1", "64Mi", "1.", ".5", "0", "1e3", "1 m"] {
            let (wishes, problems) = read("weft.dev/sidecar-cpu-request", wrong);
            assert_eq!(wishes, SidecarWishes::default(), "{wrong}");
            let field = "metadata.annotations[weft.dev/sidecar-cpu-request]";
            assert!(problems[0].contains(field), "{problems:?}");
        }
    }

    #[test]
    fn an_image_and_a_log_level_are_one_word() {
        let (wishes, _) = read("weft.dev/sidecar-log-level", "info,access=off");
        assert_eq!(wishes.log_level.as_deref(), Some("info,access=off"));
        for wrong in ["", "a b", "a\nb", &"a".repeat(LONGEST + 1)] {
            let (wishes, problems) = read("weft.dev/sidecar-image", wrong);
            assert_eq!((wishes.image, problems.len()), (None, 1), "{wrong}");
        }
    }

    #[test]
    fn connections_are_captured_by_redirection_unless_a_pod_asks_for_tproxy() {
        for (text, expected, count) in [
            ("tproxy", SidecarCapture::Tproxy, 0),
            ("redirect", SidecarCapture::Redirect, 0),
            ("TPROXY", SidecarCapture::Redirect, 1),
            ("", SidecarCapture::Redirect, 1),
        ] {
            let (wishes, problems) = read("weft.dev/sidecar-capture", text);
            assert_eq!(
                (wishes.capture, problems.len()),
                (expected, count),
                "{text}"
            );
        }
    }

    #[test]
    fn inbound_ports_are_listed_as_outbound_ones() {
        let (wishes, _) = read("weft.dev/exclude-inbound-ports", "9100, 9101");
        assert_eq!(wishes.excluded_inbound_ports, [9100, 9101]);
        let (wishes, problems) = read("weft.dev/exclude-inbound-ports", "http");
        assert_eq!(
            (wishes.excluded_inbound_ports.len(), problems.len()),
            (0, 1)
        );
    }

    #[test]
    fn inbound_blocks_are_listed_as_outbound_ones() {
        let (wishes, _) = read("weft.dev/exclude-inbound-cidrs", "192.0.2.0/24, fd00::/8");
        let blocks = wishes.excluded_inbound_blocks.iter();
        let blocks: Vec<_> = blocks.map(ToString::to_string).collect();
        assert_eq!(blocks, ["192.0.2.0/24", "fd00::/8"]);
        let (wishes, problems) = read("weft.dev/exclude-inbound-cidrs", "192.0.2.1/24");
        assert_eq!(
            (wishes.excluded_inbound_blocks.len(), problems.len()),
            (0, 1)
        );
    }
}
