//! The error of routes on the wire.

/// The reason why a message is not a route.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidRoute {
    /// A field that must not be empty is.
    #[error("field {0} is empty")]
    Missing(&'static str),
    /// A field has a value that it can't have.
    #[error("field {field}: {message}")]
    Field {
        /// Its path in the message.
        field: &'static str,
        /// What is wrong.
        message: String,
    },
}

impl InvalidRoute {
    /// A field that has a value that it can't have.
    pub(crate) fn new(field: &'static str, message: impl ToString) -> Self {
        let message = message.to_string();
        Self::Field { field, message }
    }
}
