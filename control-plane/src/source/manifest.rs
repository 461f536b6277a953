//! Manifests: files of YAML or JSON documents, parsed and checked at the edge. What comes
//! out is valid, what doesn't is one error that names document and field.

use serde_json::{Value, json};

use crate::kinds::{self, FieldError, Kind, Object};
use crate::yaml;

/// A mistake in a manifest.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ManifestError {
    /// It isn't YAML or JSON.
    #[error("document {document}: {message}")]
    Syntax {
        /// Which document of the file, from 1.
        document: usize,
        /// The parser's words, with line and column.
        message: String,
    },
    /// A field has a value that it can't have.
    #[error("document {document} ({object}): field {field}: {message}")]
    Field {
        /// Which document of the file, from 1.
        document: usize,
        /// Kind, namespace and name.
        object: String,
        /// Path of the field, such as `spec.ports[0].port`.
        field: String,
        /// The mistake, and what would be right.
        message: String,
    },
}

/// Checks a file's text, and counts the objects in it that the mesh has a use for.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check(text: &str) -> Result<usize, ManifestError> {
    parse(text).map(|objects| objects.len())
}

/// All objects of a file; kinds that the mesh has no use for are passed over.
///
/// # Errors
/// The first thing that is wrong: a file counts as a whole, or not at all.
pub(crate) fn parse(text: &str) -> Result<Vec<Object>, ManifestError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, yaml::options())
        .map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            let line = usize::try_from(line).unwrap_or(1);
            ManifestError::Syntax {
                document: document_at(text, line),
                message: error.to_string(),
            }
        })?;
    let mut objects = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        if !document.is_null() {
            parse_document(index + 1, document, &mut objects)?;
        }
    }
    Ok(objects)
}

/// What stands in for the objects of a file that can't be used, as far as the mesh would be open
/// without them.
pub(crate) fn substitutes(text: &str) -> Vec<Object> {
    let documents = serde_saphyr::from_multiple_with_options(text, yaml::options());
    let documents: Vec<Value> =
        documents.unwrap_or_else(|_| split(text).map(|part| readable(&part)).collect());
    let mut substitutes = Vec::new();
    for document in documents {
        let items = document.get("items").and_then(Value::as_array);
        for object in items.map_or(std::slice::from_ref(&document), Vec::as_slice) {
            let kind = Header::of(object).find_kind_of_any_version();
            substitutes.extend(kind.and_then(|kind| kinds::substitute(kind, object)));
        }
    }
    substitutes
}

/// A document that may not be one of YAML: what it is, by its lines, where it isn't.
fn readable(text: &str) -> Value {
    let document = serde_saphyr::from_str_with_options(text, yaml::options());
    document.unwrap_or_else(|_| {
        let value = |key: &str| {
            let (_, behind) = text.split_once(&format!("{key}:"))?;
            let end = behind.find([',', '}', '\n', '#']).unwrap_or(behind.len());
            let value = behind[..end].trim().trim_matches(['"', '\'']);
            (!value.is_empty()).then(|| value.to_owned())
        };
        json!({
            "apiVersion": value("apiVersion"),
            "kind": value("kind"),
            "metadata": { "namespace": value("namespace"), "name": value("name") },
        })
    })
}

/// The documents of a text.
fn split(text: &str) -> impl Iterator<Item = String> {
    let mut parts = vec![String::new()];
    for line in text.lines() {
        if is_separator(line) {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    parts.into_iter()
}

fn is_separator(line: &str) -> bool {
    line == "---" || line.starts_with("--- ")
}

fn parse_document(
    number: usize,
    document: Value,
    objects: &mut Vec<Object>,
) -> Result<(), ManifestError> {
    let header = Header::of(&document);
    if header.kind == "List" {
        let items = document.get("items").and_then(Value::as_array).cloned();
        return items
            .unwrap_or_default()
            .into_iter()
            .try_for_each(|item| parse_document(number, item, objects));
    }
    let read = match header.find_kind() {
        Ok(Some(kind)) => kinds::read_manifest(kind, document),
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    objects.extend(read.map_err(|error| header.blame(number, error))?);
    Ok(())
}

/// The part of a document that says what it is.
#[derive(Debug)]
struct Header {
    api_version: String,
    kind: String,
    /// Namespace and name, as far as they are there.
    name: String,
}

impl Header {
    fn of(document: &Value) -> Self {
        let text = |path: &str| {
            let text = document.pointer(path).and_then(Value::as_str);
            text.unwrap_or_default()
        };
        Self {
            api_version: text("/apiVersion").to_owned(),
            kind: text("/kind").to_owned(),
            name: match text("/metadata/namespace") {
                "" => text("/metadata/name").to_owned(),
                namespace => format!("{namespace}/{}", text("/metadata/name")),
            },
        }
    }

    /// The kind; none when the mesh has no use for it.
    fn find_kind(&self) -> Result<Option<Kind>, FieldError> {
        for (field, text) in [("kind", &self.kind), ("apiVersion", &self.api_version)] {
            if text.is_empty() {
                let why = "a manifest has apiVersion and kind";
                return Err(FieldError::missing(field, why));
            }
        }
        let core = ("", self.api_version.as_str());
        let (group, version) = self.api_version.split_once('/').unwrap_or(core);
        let Some(kind) = kinds::find(group, &self.kind) else {
            return self.refuse_unknown_kind(group).map(|()| None);
        };
        match kind.versions.contains(&version) {
            true => Ok(Some(kind)),
            false => {
                let error = FieldError::not_one_of("apiVersion", version, kind.versions);
                Err(error)
            }
        }
    }

    /// Nobody else has kinds of the mesh's own group: one that isn't known is misspelt, and may be a
    /// policy.
    fn refuse_unknown_kind(&self, group: &str) -> Result<(), FieldError> {
        match kinds::own_names(group) {
            Some(names) => Err(FieldError::not_one_of("kind", &self.kind, &names)),
            None => Ok(()),
        }
    }

    /// The kind, also of a version that isn't read: a newer one isn't the absence of the object.
    fn find_kind_of_any_version(&self) -> Option<Kind> {
        let group = self.api_version.split_once('/').map(|(group, _)| group);
        let is_it = |kind: &Kind| {
            let is_unsaid = self.api_version.is_empty();
            kind.name == self.kind && (is_unsaid || group.unwrap_or_default() == kind.group)
        };
        kinds::all().find(is_it)
    }

    fn blame(&self, document: usize, error: FieldError) -> ManifestError {
        let Self { kind, name, .. } = self;
        let kind = if kind.is_empty() { "no kind" } else { kind };
        ManifestError::Field {
            document,
            object: format!("{kind} {name}"),
            field: error.field,
            message: error.message,
        }
    }
}

/// Which document of a multi-document text a line (from 1) belongs to.
fn document_at(text: &str, line: usize) -> usize {
    let mut document = 1;
    let mut content = false;
    for text in text.lines().take(line) {
        if is_separator(text) {
            document += usize::from(content);
            content = false;
        } else if !text.trim().is_empty() && !text.starts_with('#') {
            content = true;
        }
    }
    document
}

#[cfg(test)]
mod tests;
