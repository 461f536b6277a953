//! Fields by their paths, and what they may hold.

use std::time::Duration;

use http::{HeaderName, StatusCode};

use crate::kinds::duration::Span;
use crate::kinds::field_error::FieldError;

pub(super) type Result<T> = std::result::Result<T, FieldError>;

pub(super) const SECOND: Duration = Duration::from_secs(1);
/// Longest time that anything here may be: what is longer is a mistake in the unit.
pub(super) const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// A field by its path.
pub(super) struct At(pub(super) &'static str);

impl At {
    pub(super) fn error(&self, message: impl ToString) -> FieldError {
        FieldError::new(self.0, message)
    }

    pub(super) fn span(&self, span: &Span) -> Result<Duration> {
        let duration = span.duration().map_err(|error| self.error(error))?;
        match duration <= LONGEST {
            true => Ok(duration),
            false => Err(self.error("longer than 720h")),
        }
    }

    /// A time that has to be one.
    pub(super) fn positive(&self, span: Option<Span>, default: Duration) -> Result<Duration> {
        match span.map(|span| self.span(&span)).transpose()? {
            None => Ok(default),
            Some(Duration::ZERO) => Err(self.error("has to be longer than nothing")),
            Some(duration) => Ok(duration),
        }
    }

    /// A time whose absence is said by 0, too.
    pub(super) fn no_limit(&self, span: Option<Span>) -> Result<Option<Duration>> {
        let duration = span.map(|span| self.span(&span)).transpose()?;
        Ok(duration.filter(|duration| !duration.is_zero()))
    }

    /// A number of that range.
    pub(super) fn within(&self, number: i32, least: u32, most: u32) -> Result<u32> {
        let found = u32::try_from(number).ok();
        let found = found.filter(|number| (least..=most).contains(number));
        found.ok_or_else(|| match most {
            u32::MAX => self.error(format!("{number} is less than {least}")),
            _ => self.error(format!("{number} is not between {least} and {most}")),
        })
    }

    pub(super) fn at_least(&self, number: Option<i32>, least: u32) -> Result<Option<u32>> {
        number
            .map(|number| self.within(number, least, u32::MAX))
            .transpose()
    }

    pub(super) fn percent(&self, number: i32, least: u32) -> Result<u8> {
        let percent = self.within(number, least, 100)?;
        Ok(u8::try_from(percent).unwrap_or(100))
    }

    /// A share, from percent.
    pub(super) fn share(&self, percent: Option<i32>) -> Result<Option<f64>> {
        let percent = percent
            .map(|percent| self.percent(percent, 1))
            .transpose()?;
        Ok(percent.map(|percent| f64::from(percent) / 100.0))
    }

    pub(super) fn header(&self, name: &str) -> Result<HeaderName> {
        let invalid = |_| self.error(format!("`{name}` is not a header's name"));
        HeaderName::from_bytes(name.as_bytes()).map_err(invalid)
    }

    pub(super) fn status(&self, number: i32, least: u32) -> Result<StatusCode> {
        let code = self.within(number, least, 599)?;
        let code = u16::try_from(code).ok();
        let status = code.and_then(|code| StatusCode::from_u16(code).ok());
        status.ok_or_else(|| self.error(format!("{number} is not a status")))
    }
}
