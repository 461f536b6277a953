//! Which lines the access log of a pod has, and what is in them.
//!
//! * [`field`]: the fields of a line
//! * [`filter`]: an expression that lines fulfil, made of `expression`s; `parser` reads it

mod expression;
pub mod field;
pub mod filter;
mod parser;

use std::sync::Arc;

use self::field::FieldSet;
use self::filter::Filter;

/// Choices about the access log, of the mesh, a namespace or a pod; what is left out is decided
/// further away.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AccessLogSettings {
    /// Whether kubelet's probes have lines; they have none by default.
    pub probes: Option<bool>,
    /// The fields of a line; all of them by default.
    pub fields: Option<FieldSet>,
    /// What lines fulfil; nothing by default.
    pub filter: Option<Arc<Filter>>,
    /// Lines of all connections and requests of a pod in a second at the most; any number by
    /// default.
    pub lines_per_second: Option<u32>,
}

impl AccessLogSettings {
    /// These choices, and for what they leave out the others.
    #[must_use]
    pub fn or(self, others: &Self) -> Self {
        Self {
            probes: self.probes.or(others.probes),
            fields: self.fields.or(others.fields),
            filter: self.filter.or_else(|| others.filter.clone()),
            lines_per_second: self.lines_per_second.or(others.lines_per_second),
        }
    }

    /// The fields of a line. That of something that was refused or failed names what was asked
    /// for, whatever was chosen.
    pub fn fields(&self, has_failed: bool) -> FieldSet {
        let chosen = self.fields.unwrap_or(FieldSet::ALL);
        match has_failed {
            true => chosen.with(FieldSet::ASKED_FOR),
            false => chosen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::field::Field;
    use super::*;

    #[test]
    fn what_is_left_out_is_decided_further_away() {
        let filter = Filter::parse("status >= 500").unwrap();
        let mesh = AccessLogSettings {
            probes: Some(true),
            filter: Some(Arc::new(filter)),
            ..AccessLogSettings::default()
        };
        let namespace = AccessLogSettings {
            probes: Some(false),
            lines_per_second: Some(5),
            ..AccessLogSettings::default()
        };
        let both = namespace.or(&mesh);
        assert_eq!(both.probes, Some(false));
        assert_eq!(both.filter, mesh.filter);
        assert_eq!(both.lines_per_second, Some(5));
    }

    #[test]
    fn what_was_refused_names_what_was_asked_for_whatever_is_chosen() {
        let settings = AccessLogSettings {
            fields: Some(FieldSet::from_iter([Field::DurationUs])),
            ..AccessLogSettings::default()
        };
        assert!(!settings.fields(false).contains(Field::RequestPath));
        for field in [
            Field::RequestMethod,
            Field::RequestPath,
            Field::RequestAuthority,
        ] {
            assert!(settings.fields(true).contains(field), "{field:?}");
        }
        assert!(settings.fields(true).contains(Field::Flags));
    }
}
