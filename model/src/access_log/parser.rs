//! Reads filters:
//!
//! ```text
//! any        = all { "or" all }
//! all        = part { "and" part }
//! part       = "not" part | "(" any ")" | comparison
//! comparison = FIELD ( "==" | "!=" | "<" | "<=" | ">" | ">=" | "contains" | "starts_with" ) VALUE
//! VALUE      = number | number "us" | number "ms" | number "s" | number "m" | "\"" text "\""
//! ```

use super::expression::{Comparison, Expression, LONGEST, NumberField, TextField};

/// Parentheses and `not`s within each other at the most.
const DEEPEST: usize = 16;

/// Why a text is no filter.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FilterError {
    /// It is too long.
    #[error("a filter has {LONGEST} bytes at the most")]
    TooLong,
    /// Something is expected that isn't there.
    #[error("at character {at}: expected {expected}")]
    Expected {
        /// Characters before it, and one.
        at: usize,
        /// What is expected.
        expected: &'static str,
    },
}

/// Names of fields of numbers, and whether they are times.
const NUMBERS: [(&str, NumberField, bool); 9] = [
    ("status", NumberField::Status, false),
    ("grpc_status", NumberField::GrpcStatus, false),
    ("attempts", NumberField::Attempts, false),
    ("bytes_sent", NumberField::BytesSent, false),
    ("bytes_received", NumberField::BytesReceived, false),
    ("duration", NumberField::Duration, true),
    ("connect_time", NumberField::ConnectTime, true),
    ("round_trip_time", NumberField::RoundTripTime, true),
    ("retransmits", NumberField::Retransmits, false),
];

/// Names of fields of texts.
const TEXTS: [(&str, TextField); 11] = [
    ("kind", TextField::Kind),
    ("flags", TextField::Flags),
    ("direction", TextField::Direction),
    ("security", TextField::Security),
    ("method", TextField::Method),
    ("path", TextField::Path),
    ("authority", TextField::Authority),
    ("source.workload", TextField::SourceWorkload),
    ("source.namespace", TextField::SourceNamespace),
    ("destination.workload", TextField::DestinationWorkload),
    ("destination.namespace", TextField::DestinationNamespace),
];

/// Signs of comparisons, longer ones first.
const SIGNS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

/// The expression that a text is.
///
/// # Errors
/// Where and why it is none.
pub(super) fn parse(text: &str) -> Result<Expression, FilterError> {
    if text.len() > LONGEST {
        return Err(FilterError::TooLong);
    }
    let mut rest = Rest { text, rest: text };
    let expression = rest.any(0)?;
    rest.skip_space();
    match rest.rest {
        "" => Ok(expression),
        _ => Err(rest.expected("`and`, `or`, or the end")),
    }
}

/// What is left of a text.
struct Rest<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Rest<'a> {
    fn any(&mut self, depth: usize) -> Result<Expression, FilterError> {
        let mut parts = vec![self.all(depth)?];
        while self.takes_word("or") {
            parts.push(self.all(depth)?);
        }
        Ok(joined(parts, Expression::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Expression, FilterError> {
        let mut parts = vec![self.part(depth)?];
        while self.takes_word("and") {
            parts.push(self.part(depth)?);
        }
        Ok(joined(parts, Expression::All))
    }

    fn part(&mut self, depth: usize) -> Result<Expression, FilterError> {
        if depth >= DEEPEST {
            return Err(self.expected("fewer parentheses and `not`s within each other"));
        }
        if self.takes_word("not") {
            return Ok(Expression::Not(Box::new(self.part(depth + 1)?)));
        }
        if !self.takes("(") {
            return self.comparison();
        }
        let inner = self.any(depth + 1)?;
        match self.takes(")") {
            true => Ok(inner),
            false => Err(self.expected("`)`")),
        }
    }

    fn comparison(&mut self) -> Result<Expression, FilterError> {
        let before = self.rest;
        let name = self.word();
        if let Some((_, field, is_time)) = NUMBERS.iter().find(|(known, ..)| *known == name) {
            let comparison = self.sign().ok_or_else(|| self.expected("a comparison"))?;
            let value = self.number(*is_time)?;
            return Ok(Expression::Number(*field, comparison, value));
        }
        if let Some((_, field)) = TEXTS.iter().find(|(known, _)| *known == name) {
            let comparison = match self.sign() {
                Some(comparison) => comparison,
                None if self.takes_word("contains") => Comparison::Contains,
                None if self.takes_word("starts_with") => Comparison::StartsWith,
                None => return Err(self.expected("a comparison")),
            };
            return Ok(Expression::Text(*field, comparison, self.quoted()?));
        }
        self.rest = before;
        Err(self.expected("a field that filters know, such as `status`, `duration` or `flags`"))
    }

    fn sign(&mut self) -> Option<Comparison> {
        let taken = SIGNS.iter().find(|(sign, _)| self.takes(sign));
        taken.map(|(_, comparison)| *comparison)
    }

    fn number(&mut self, is_time: bool) -> Result<u64, FilterError> {
        self.skip_space();
        let digits = self.take_while(|character| character.is_ascii_digit());
        let number: u64 = digits.parse().map_err(|_| self.expected("a number"))?;
        let unit = match is_time {
            false => 1,
            true => match self.take_while(|character| character.is_ascii_lowercase()) {
                "us" => 1,
                "ms" => 1000,
                "s" => 1_000_000,
                "m" => 60_000_000,
                _ => return Err(self.expected("a unit: `us`, `ms`, `s` or `m`")),
            },
        };
        let product = number.checked_mul(unit);
        product.ok_or_else(|| self.expected("a smaller number"))
    }

    fn quoted(&mut self) -> Result<Box<str>, FilterError> {
        if !self.takes("\"") {
            return Err(self.expected("a text in double quotes"));
        }
        let mut value = String::new();
        let mut characters = self.rest.chars();
        while let Some(character) = characters.next() {
            match character {
                '"' => {
                    self.rest = characters.as_str();
                    return Ok(value.into());
                }
                '\\' => match characters.next() {
                    Some(escaped @ ('"' | '\\')) => value.push(escaped),
                    _ => break,
                },
                character => value.push(character),
            }
        }
        Err(self.expected("a closing `\"`, and after `\\` either `\"` or `\\`"))
    }

    /// The next word; empty where none follows.
    fn word(&mut self) -> &'a str {
        self.skip_space();
        self.take_while(is_of_word)
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let before = self.rest;
        let is_it = self.word() == word;
        if !is_it {
            self.rest = before;
        }
        is_it
    }

    fn takes(&mut self, sign: &str) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|character| !is_part(character));
        let (taken, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn expected(&self, expected: &'static str) -> FilterError {
        let before = self.text.len() - self.rest.trim_start().len();
        let before = self.text.get(..before).unwrap_or_default();
        FilterError::Expected {
            at: before.chars().count() + 1,
            expected,
        }
    }
}

fn is_of_word(character: char) -> bool {
    character.is_ascii_lowercase() || "._".contains(character)
}

/// One part is itself.
fn joined(mut parts: Vec<Expression>, join: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.len() {
        1 => parts.remove(0),
        _ => join(parts),
    }
}
