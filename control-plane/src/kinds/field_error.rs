//! What is wrong with a field of an object.

use std::fmt::Display;

/// A field's complaint, before it is known whose field it is.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("field {field}: {message}")]
pub(crate) struct FieldError {
    /// Path of the field, such as `spec.ports[0].port`.
    pub(crate) field: String,
    /// The mistake, and what would be right.
    pub(crate) message: String,
    missing: bool,
}

impl FieldError {
    /// A field that has a value that it can't have.
    pub(crate) fn new(field: impl Into<String>, message: impl ToString) -> Self {
        Self {
            field: field.into(),
            message: message.to_string(),
            missing: false,
        }
    }

    /// A field that isn't there.
    pub(crate) fn missing(field: &str, why: &str) -> Self {
        Self {
            missing: true,
            ..Self::new(field, format!("missing; {why}"))
        }
    }

    /// A field whose value has to be one of some.
    pub(crate) fn not_one_of(
        field: impl Into<String>,
        value: impl Display,
        known: &[&str],
    ) -> Self {
        let known: Vec<_> = known.iter().map(|known| format!("`{known}`")).collect();
        Self::new(
            field,
            format!("`{value}` is not one of {}", known.join(", ")),
        )
    }

    /// The same error, of a field below that one.
    pub(crate) fn within(self, path: &str) -> Self {
        let field = match self.field.is_empty() {
            true => path.to_owned(),
            false => format!("{path}.{}", self.field),
        };
        Self { field, ..self }
    }

    /// A required field is absent.
    pub(crate) fn is_missing(&self) -> bool {
        self.missing
    }
}
