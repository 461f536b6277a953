//! An expression that lines of the access log fulfil, such as `status >= 500 or duration > 1s`.
//! It is read once, and evaluated without allocating.

use std::fmt;

use super::expression::Expression;
pub use super::expression::{FilteredRecord, LONGEST, NumberField, TextField};
use super::parser::{self, FilterError};

/// An expression that lines fulfil.
#[derive(Clone, Debug)]
pub struct Filter {
    text: Box<str>,
    expression: Expression,
}

impl Filter {
    /// The filter that a text is.
    ///
    /// # Errors
    /// Where and why it is none.
    ///
    /// ```
    /// use weft_model::access_log::filter::Filter;
    ///
    /// Filter::parse(r#"status >= 500 or duration > 1s or flags != """#)?;
    /// let error = Filter::parse("status >> 500").unwrap_err();
    /// assert!(error.to_string().contains("character 9"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let expression = parser::parse(text)?;
        let text = text.into();
        Ok(Self { text, expression })
    }

    /// Whether a record fulfils it. What a record doesn't have is not equal to anything.
    pub fn matches(&self, record: &impl FilteredRecord) -> bool {
        self.expression.matches(record)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The same text says the same.
impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Filter {}

#[cfg(test)]
mod tests;
