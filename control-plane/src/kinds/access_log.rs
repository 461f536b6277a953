//! Choices about the access log as objects write them: in a MeshConfig, or as JSON in the annotation
//! of a namespace.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_model::access_log::AccessLogSettings;
use weft_model::access_log::field::Field;
use weft_model::access_log::filter::Filter;

use super::field_error::FieldError;

/// Lines of the access log; what is left out is decided by the mesh, or has its default.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AccessLogSpec {
    /// Lines for kubelet's probes that succeed: `false` by default. They are counted either way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) probes: Option<bool>,
    /// The fields of a line, by their names; all of them by default. The line of what was refused
    /// or failed names what was asked for nevertheless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub(crate) fields: Option<Vec<String>>,
    /// What lines fulfil, such as `status >= 500 or duration > 1s or flags != ""`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub(crate) filter: Option<String>,
    /// Lines of one pod in a second, at the most; any number by default. The rest is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(crate) lines_per_second: Option<u32>,
}

impl AccessLogSpec {
    /// The choices, of a field of that path.
    ///
    /// # Errors
    /// When a field has no such name, or the filter is none.
    pub(super) fn settings(&self, path: &str) -> Result<AccessLogSettings, FieldError> {
        let fields = self.fields.as_ref().map(|names| {
            let fields = names.iter().enumerate().map(|(place, name)| {
                let field = name.parse::<Field>();
                field.map_err(|error| FieldError::new(format!("{path}.fields[{place}]"), error))
            });
            fields.collect::<Result<_, _>>()
        });
        let filter = self.filter.as_ref().map(|text| Filter::parse(text));
        let filter = filter.transpose();
        Ok(AccessLogSettings {
            probes: self.probes,
            fields: fields.transpose()?,
            filter: filter
                .map_err(|error| FieldError::new(format!("{path}.filter"), error))?
                .map(Arc::new),
            lines_per_second: self.lines_per_second,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_read_is_refused_with_its_place() {
        for (spec, error) in [
            (r#"{"filter":"status >> 5"}"#, "spec.accessLog.filter"),
            (
                r#"{"fields":["flags","colour"]}"#,
                "spec.accessLog.fields[1]",
            ),
        ] {
            let spec: AccessLogSpec = serde_json::from_str(spec).unwrap();
            let refused = spec.settings("spec.accessLog").unwrap_err().to_string();
            assert!(refused.contains(error), "{refused}");
        }
    }
}
