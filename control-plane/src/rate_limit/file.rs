//! The file of limits: the format of Envoy's own rate limit server, one domain a
//! document.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use weft_model::traffic::rate_limit::{RateLimitUnit, RequestLimit};

use super::limits::{Branches, Limits, Node, Rule};
use crate::file_changes::FileChanges;
use crate::yaml;

/// Descriptors inside descriptors, at the most: requests have no more entries, either.
const DEEPEST: usize = 24;

/// A reason to have no limits from the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It can't be read.
    #[error("--rate-limit-config {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It says what can't be.
    #[error("--rate-limit-config {path}: {source}")]
    Content {
        /// The file.
        path: PathBuf,
        /// The mistake.
        source: InvalidLimits,
    },
}

/// A mistake in a file of limits.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum InvalidLimits {
    /// It isn't YAML.
    #[error("{0}")]
    Syntax(String),
    /// A field has a value that it can't have.
    #[error("document {document}: {field}: {message}")]
    Field {
        /// Which document of the file, from 1.
        document: usize,
        /// Path of the field.
        field: String,
        /// The mistake, and what would be right.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Domain {
    domain: String,
    #[serde(default)]
    descriptors: Vec<Configured>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Configured {
    key: String,
    #[serde(default, deserialize_with = "scalar")]
    value: String,
    rate_limit: Option<Limit>,
    #[serde(default)]
    descriptors: Vec<Configured>,
    #[serde(default)]
    shadow_mode: bool,
    #[serde(default)]
    share_threshold: bool,
    #[serde(default)]
    quota_mode: bool,
    // About the other server's metrics and metadata: of no effect on who is limited.
    #[serde(default, rename = "detailed_metric")]
    _detailed_metric: bool,
    #[serde(default, rename = "value_to_metric")]
    _value_to_metric: bool,
    #[serde(default, rename = "metadata")]
    _metadata: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    #[serde(default)]
    unit: String,
    #[serde(default)]
    requests_per_unit: u32,
    #[serde(default)]
    unlimited: bool,
    #[serde(default)]
    name: String,
    #[serde(default)]
    replaces: Vec<Replaced>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replaced {
    name: String,
}

/// `value: 404` means the text.
fn scalar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Null => Ok(String::new()),
        Value::Array(_) | Value::Object(_) => Err(serde::de::Error::custom("not a text")),
    }
}

/// Reads the file, and again whenever it changes. One that isn't there (yet) has no
/// limits; one that has become bad changes nothing.
///
/// # Errors
/// When it is there, but can't be used.
pub(super) fn follow(path: PathBuf, limits: Arc<ArcSwap<Limits>>) -> Result<(), FileError> {
    // Before it is read, so that nothing falls between both.
    let mut changes = FileChanges::watch_file(&path);
    let mut text = read(&path)?;
    match &text {
        Some(text) => limits.store(Arc::new(content(&path, text)?)),
        None => {
            tracing::warn!(path = %path.display(), "no such file: requests have the limits that they bring along");
        }
    }
    tokio::spawn(async move {
        loop {
            changes.next().await;
            let now = read(&path);
            if matches!(&now, Ok(now) if *now == text) {
                continue;
            }
            let parsed = now.and_then(|now| {
                text = now;
                text.as_deref()
                    .map_or(Ok(Limits::default()), |text| content(&path, text))
            });
            match parsed {
                Ok(parsed) => {
                    tracing::info!(path = %path.display(), domains = parsed.domains(), "limits changed");
                    limits.store(Arc::new(parsed));
                }
                Err(error) => tracing::error!(%error, "the limits before stay"),
            }
        }
    });
    Ok(())
}

fn read(path: &Path) -> Result<Option<String>, FileError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::Read {
            path: path.to_path_buf(),
            source,
        }),
    }
}

fn content(path: &Path, text: &str) -> Result<Limits, FileError> {
    parse(text).map_err(|source| FileError::Content {
        path: path.to_path_buf(),
        source,
    })
}

/// The limits that a file says.
///
/// # Errors
/// The first thing that is wrong with it.
pub(super) fn parse(text: &str) -> Result<Limits, InvalidLimits> {
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, yaml::options())
        .map_err(|error| InvalidLimits::Syntax(error.to_string()))?;
    let mut limits = Limits::default();
    for (index, document) in documents.into_iter().enumerate() {
        if document.is_null() {
            continue;
        }
        let wrong = |(field, message)| InvalidLimits::Field {
            document: index + 1,
            field,
            message,
        };
        let domain: Domain = serde_path_to_error::deserialize(document)
            .map_err(|error| wrong((error.path().to_string(), error.inner().to_string())))?;
        let field = || "domain".to_owned();
        if domain.domain.is_empty() {
            return Err(wrong((field(), "must not be empty".to_owned())));
        }
        let branches = branches(domain.descriptors, "descriptors", 1).map_err(wrong)?;
        let name = domain.domain.clone();
        if limits.0.insert(domain.domain, branches).is_some() {
            let message = format!("`{name}` was there before; a domain is one document");
            return Err(wrong((field(), message)));
        }
    }
    Ok(limits)
}

/// A field, and what is wrong with it.
type Wrong = (String, String);

fn branches(configured: Vec<Configured>, field: &str, depth: usize) -> Result<Branches, Wrong> {
    if depth > DEEPEST {
        return Err((field.to_owned(), format!("deeper than {DEEPEST} levels")));
    }
    let mut branches = Branches::default();
    for (index, descriptor) in configured.into_iter().enumerate() {
        let field = format!("{field}[{index}]");
        let (key, value) = (descriptor.key.clone(), descriptor.value.clone());
        if key.is_empty() {
            return Err((format!("{field}.key"), "must not be empty".to_owned()));
        }
        let node = node(descriptor, &field, depth)?;
        if !branches.add(&key, &value, node) {
            let message = format!("key `{key}` with value `{value}` was there before");
            return Err((field, message));
        }
    }
    Ok(branches)
}

fn node(configured: Configured, field: &str, depth: usize) -> Result<Node, Wrong> {
    if configured.quota_mode {
        let message = "is not known here; leave it out, or use a server that knows it".to_owned();
        return Err((format!("{field}.quota_mode"), message));
    }
    if configured.share_threshold && !configured.value.contains('*') {
        let message = "needs a value with `*` in it".to_owned();
        return Err((format!("{field}.share_threshold"), message));
    }
    let shadow = configured.shadow_mode;
    let rule = configured.rate_limit.map(|limit| {
        rule(limit, shadow)
            .map_err(|(name, message)| (format!("{field}.rate_limit.{name}"), message))
    });
    Ok(Node {
        rule: rule.transpose()?,
        shared: configured.share_threshold,
        next: branches(
            configured.descriptors,
            &format!("{field}.descriptors"),
            depth + 1,
        )?,
    })
}

fn rule(limit: Limit, shadow: bool) -> Result<Rule, Wrong> {
    let unit = RateLimitUnit::ALL
        .into_iter()
        .find(|unit| unit.as_str().eq_ignore_ascii_case(&limit.unit));
    let requests = limit.requests_per_unit;
    let counted = match (limit.unlimited, unit) {
        (true, None) if limit.unit.is_empty() => None,
        (true, _) => {
            return Err((
                "unit".to_owned(),
                "has no meaning with `unlimited`".to_owned(),
            ));
        }
        (false, Some(unit)) => Some(RequestLimit { requests, unit }),
        (false, None) => {
            let names = RateLimitUnit::ALL.map(RateLimitUnit::as_str).join(", ");
            let message = format!("`{}` is none; use one of {names}", limit.unit);
            return Err(("unit".to_owned(), message));
        }
    };
    let replaces: Vec<_> = limit.replaces.into_iter().map(|other| other.name).collect();
    if replaces
        .iter()
        .any(|name| name.is_empty() || *name == limit.name)
    {
        let message = "names another limit, not this one and not nothing".to_owned();
        return Err(("replaces".to_owned(), message));
    }
    Ok(Rule {
        limit: counted,
        name: limit.name,
        replaces,
        shadow,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_can_not_be_is_refused_with_document_and_field() {
        let descriptor = |text: &str| format!("domain: a\ndescriptors:\n  - {text}\n");
        for (text, expected) in [
            ("domain: [".to_owned(), "line"),
            ("[]".to_owned(), "document 1"),
            (
                "domain: ''".to_owned(),
                "document 1: domain: must not be empty",
            ),
            ("descriptors: []".to_owned(), "missing field `domain`"),
            (
                "domain: a\n---\ndomain: a".to_owned(),
                "document 2: domain: `a` was there before",
            ),
            ("domain: a\nlimits: []".to_owned(), "unknown field `limits`"),
            (descriptor("{ value: x }"), "missing field `key`"),
            (
                descriptor("{ key: '' }"),
                "descriptors[0].key: must not be empty",
            ),
            (descriptor("{ key: a, value: [] }"), "descriptors[0].value"),
            (
                descriptor("{ key: a }\n  - { key: a }"),
                "descriptors[1]: key `a` with value `` was there before",
            ),
            (
                descriptor("{ key: a, value: 'b*' }\n  - { key: a, value: 'b*' }"),
                "value `b*` was there before",
            ),
            (
                descriptor("{ key: a, rate_limit: { unit: fortnight } }"),
                "descriptors[0].rate_limit.unit: `fortnight` is none; use one of second",
            ),
            (descriptor("{ key: a, rate_limit: {} }"), "rate_limit.unit"),
            (
                descriptor("{ key: a, rate_limit: { unlimited: true, unit: day } }"),
                "has no meaning",
            ),
            (
                descriptor("{ key: a, rate_limit: { unit: day, requests_per_unit: -1 } }"),
                "descriptors[0].rate_limit.requests_per_unit",
            ),
            (
                descriptor(
                    "{ key: a, rate_limit: { unit: day, name: n, replaces: [{ name: n }] } }",
                ),
                "rate_limit.replaces",
            ),
            (
                descriptor("{ key: a, quota_mode: true }"),
                "quota_mode: is not known here",
            ),
            (
                descriptor("{ key: a, value: b, share_threshold: true }"),
                "needs a value with `*`",
            ),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}\n{error}");
        }
    }

    #[test]
    fn descriptors_are_not_nested_without_end() {
        let nested = |levels: usize| {
            let open = "{ key: a, descriptors: [".repeat(levels);
            format!(
                "domain: a\ndescriptors: [ {open} {} ]",
                "] }".repeat(levels)
            )
        };
        assert!(parse(&nested(DEEPEST - 1)).is_ok());
        let error = parse(&nested(DEEPEST)).unwrap_err().to_string();
        assert!(error.contains("deeper than 24 levels"), "{error}");
    }

    #[test]
    fn the_settings_of_the_other_server_that_limit_nobody_are_passed_over() {
        let text = "
domain: a
descriptors:
  - key: status
    value: 404
    detailed_metric: true
    value_to_metric: true
    metadata: { any: [thing] }
    shadow_mode: true
    rate_limit: { unit: MINUTE, requests_per_unit: 5, name: x, replaces: [{ name: y }] }
---
---
domain: b
descriptors:
  - { key: user, rate_limit: { unlimited: true } }
";
        assert_eq!(parse(text).unwrap().domains(), 2);
        assert_eq!(parse("").unwrap(), Limits::default());
    }

    async fn until(limits: &ArcSwap<Limits>, domains: usize) {
        let reached = async {
            while limits.load().domains() != domains {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, reached)
            .await
            .expect("limits don't change");
    }

    #[tokio::test]
    async fn a_file_is_followed_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("limits.yaml");
        let limits = Arc::new(ArcSwap::from_pointee(Limits::default()));
        follow(path.clone(), Arc::clone(&limits)).unwrap();
        assert_eq!(limits.load().domains(), 0);
        std::fs::write(&path, "domain: a").unwrap();
        until(&limits, 1).await;
        std::fs::write(&path, "domain: [").unwrap();
        std::fs::write(&path, "domain: a\n---\ndomain: b\n---\ndomain: c").unwrap();
        until(&limits, 3).await;
        let error = follow(folder.path().to_path_buf(), limits).unwrap_err();
        assert!(error.to_string().contains("--rate-limit-config"), "{error}");
        std::fs::write(&path, "domain: ''").unwrap();
        let error = follow(path, Arc::default()).unwrap_err().to_string();
        assert!(error.contains("limits.yaml: document 1: domain"), "{error}");
    }
}
