//! Choices about the access log on the wire.

use std::sync::Arc;

use weft_model::access_log::AccessLogSettings;
use weft_model::access_log::field::FieldSet;
use weft_model::access_log::filter::Filter;

use crate::v1;

/// The choices. A filter that this version can't read filters nothing, and fields that it doesn't
/// know are left out: rather too much is logged than nothing.
pub(crate) fn settings(message: v1::AccessLog) -> AccessLogSettings {
    let known = message.fields.iter().filter_map(|name| name.parse().ok());
    let fields = FieldSet::from_iter(known);
    AccessLogSettings {
        probes: message.probes,
        fields: Some(fields).filter(|fields| fields.iter().next().is_some()),
        filter: match &*message.filter {
            "" => None,
            text => Filter::parse(text).ok().map(Arc::new),
        },
        lines_per_second: message.lines_per_second,
    }
}

/// The message, where anything was chosen.
pub(crate) fn message(settings: &AccessLogSettings) -> Option<v1::AccessLog> {
    let fields = settings.fields.iter().flat_map(|fields| fields.iter());
    let filter = settings.filter.as_ref();
    (*settings != AccessLogSettings::default()).then(|| v1::AccessLog {
        probes: settings.probes,
        filter: filter.map(ToString::to_string).unwrap_or_default(),
        fields: fields.map(|field| field.name().to_owned()).collect(),
        lines_per_second: settings.lines_per_second,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weft_model::access_log::field::Field;

    use super::*;

    proptest! {
        #[test]
        fn choices_come_back_as_they_went(
            probes in any::<Option<bool>>(),
            lines_per_second in any::<Option<u32>>(),
            filter in prop::option::of(0..600_u32),
            some in prop::option::of(prop::collection::vec(0..40_usize, 1..9)),
        ) {
            let all: Vec<_> = Field::all().collect();
            let fields = some.map(|some| some.iter().filter_map(|place| all.get(*place).copied()).collect());
            let filter = filter.map(|status| Filter::parse(&format!("status == {status}")).unwrap());
            let settings = AccessLogSettings {
                probes,
                fields,
                filter: filter.map(Arc::new),
                lines_per_second,
            };
            let sent = message(&settings).unwrap_or_default();
            prop_assert_eq!(super::settings(sent), settings);
        }
    }

    #[test]
    fn what_a_newer_control_plane_says_loses_no_line() {
        let message = v1::AccessLog {
            probes: None,
            filter: "colour == \"red\"".to_owned(),
            fields: vec!["colour".to_owned()],
            lines_per_second: None,
        };
        assert_eq!(settings(message), AccessLogSettings::default());
    }
}
