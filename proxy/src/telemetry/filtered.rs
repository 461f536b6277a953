//! Whether what has ended has a line in the access log, and which fields that has.

use std::time::Duration;

use weft_model::access_log::AccessLogSettings;
use weft_model::access_log::field::FieldSet;
use weft_model::access_log::filter::{FilteredRecord, NumberField, TextField};

use super::flag::ResponseFlag;
use super::info::ConnectionInfo;
use super::node_telemetry::PodTelemetry;
use super::outcome::{ConnectionOutcome, RequestOutcome};

/// The fields of the line of what has ended; nothing where it has none.
pub(super) fn admit(
    pod: &PodTelemetry,
    connection: &ConnectionInfo,
    flag: ResponseFlag,
    record: &impl FilteredRecord,
) -> Option<FieldSet> {
    let default = AccessLogSettings::default();
    let workload = connection.local().workload.as_ref();
    let settings = workload.map_or(&default, |workload| &*workload.access_log);
    // Whoever probes by connecting may well break off.
    let has_succeeded = matches!(flag, ResponseFlag::None | ResponseFlag::DownstreamReset);
    if connection.is_probe && has_succeeded && !settings.probes.unwrap_or_default() {
        return None;
    }
    let filter = settings.filter.as_ref();
    if filter.is_some_and(|filter| !filter.matches(record)) {
        return None;
    }
    if let Some(limit) = settings.lines_per_second
        && !pod.has_line_left(limit, flag == ResponseFlag::None)
    {
        pod.metrics().count_dropped_line();
        return None;
    }
    Some(settings.fields(flag != ResponseFlag::None))
}

/// A connection as filters see it.
pub(super) struct EndedConnection<'a> {
    pub(super) connection: &'a ConnectionInfo,
    pub(super) ended: &'a ConnectionOutcome<'a>,
}

impl FilteredRecord for EndedConnection<'_> {
    fn number(&self, field: NumberField) -> Option<u64> {
        let ended = self.ended;
        let peer = ended.tcp.of_peer(self.connection.direction);
        match field {
            NumberField::BytesSent => Some(ended.bytes.sent),
            NumberField::BytesReceived => Some(ended.bytes.received),
            NumberField::Duration => Some(micros(ended.duration)),
            NumberField::ConnectTime => ended.connect_time.map(micros),
            NumberField::RoundTripTime => peer?.statistics.smoothed_rtt.map(micros),
            NumberField::Retransmits => Some(peer?.statistics.retransmits.into()),
            NumberField::Status | NumberField::GrpcStatus | NumberField::Attempts => None,
        }
    }

    fn text(&self, field: TextField) -> Option<&str> {
        match field {
            TextField::Kind => Some("connection"),
            TextField::Flags => Some(flags(self.ended.outcome.flag)),
            _ => text_of(self.connection, field),
        }
    }
}

/// A request as filters see it.
pub(super) struct EndedRequest<'a> {
    pub(super) connection: &'a ConnectionInfo,
    pub(super) request: &'a RequestOutcome<'a>,
}

impl FilteredRecord for EndedRequest<'_> {
    fn number(&self, field: NumberField) -> Option<u64> {
        let request = self.request;
        match field {
            NumberField::Status => request.status.map(|status| status.as_u16().into()),
            NumberField::GrpcStatus => request.grpc_status.map(u64::from),
            NumberField::Attempts => Some(request.attempts.into()),
            NumberField::BytesSent => Some(request.sent),
            NumberField::BytesReceived => Some(request.received),
            NumberField::Duration => Some(micros(request.duration)),
            NumberField::ConnectTime | NumberField::RoundTripTime | NumberField::Retransmits => {
                None
            }
        }
    }

    fn text(&self, field: TextField) -> Option<&str> {
        match field {
            TextField::Kind => Some("request"),
            TextField::Flags => Some(flags(self.request.flag)),
            TextField::Method => Some(self.request.method.as_str()),
            TextField::Path => Some(self.request.path),
            TextField::Authority => Some(self.request.authority),
            _ => text_of(self.connection, field),
        }
    }
}

fn text_of(connection: &ConnectionInfo, field: TextField) -> Option<&str> {
    let ConnectionInfo {
        source,
        destination,
        ..
    } = connection;
    match field {
        TextField::Direction => Some(connection.direction.as_str()),
        TextField::Security => Some(connection.security.as_str()),
        TextField::SourceWorkload => source.pod.as_deref(),
        TextField::SourceNamespace => source.namespace.as_deref(),
        TextField::DestinationWorkload => destination.pod.as_deref(),
        TextField::DestinationNamespace => destination.namespace.as_deref(),
        TextField::Kind
        | TextField::Flags
        | TextField::Method
        | TextField::Path
        | TextField::Authority => None,
    }
}

fn flags(flag: ResponseFlag) -> &'static str {
    match flag {
        ResponseFlag::None => "",
        flag => flag.as_str(),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use http::{HeaderMap, Method, StatusCode};
    use weft_model::access_log::filter::Filter;
    use weft_model::workload::Workload;

    use super::*;
    use crate::telemetry::outcome::CloseReason;
    use crate::telemetry::test_support::{AccessLine, Bed, access_lines, field, inbound, outbound};
    use crate::telemetry::{ConnectionRecord, RequestDescription, RequestRecord};

    fn filtered(filter: &str) -> AccessLogSettings {
        AccessLogSettings {
            filter: Some(Arc::new(Filter::parse(filter).unwrap())),
            ..AccessLogSettings::default()
        }
    }

    /// Client and server whose access logs are like this.
    fn bed(access_log: &AccessLogSettings) -> Bed {
        let mut bed = Bed::new();
        for pod in [&mut bed.client, &mut bed.server] {
            let access_log = Arc::new(access_log.clone());
            *pod = Arc::new(Workload {
                access_log,
                ..Workload::clone(pod)
            });
        }
        bed
    }

    /// The lines of requests that were answered so.
    fn requests(settings: &AccessLogSettings, statuses: &[u16]) -> (Bed, Vec<AccessLine>) {
        let bed = bed(settings);
        let lines = access_lines(|| {
            for status in statuses {
                let info = outbound(&bed.client, &bed.server);
                let request = RequestDescription {
                    method: Method::PUT,
                    path: "/cart".to_owned(),
                    authority: "web".to_owned(),
                    grpc: false,
                    rule: None,
                };
                let mut record = RequestRecord::start(&bed.pod, info, request);
                let status = StatusCode::from_u16(*status).unwrap();
                match status {
                    StatusCode::FORBIDDEN => {
                        record.replied_locally(status, None, ResponseFlag::AuthorizationDenied);
                    }
                    status => {
                        record.response_started(status, &HeaderMap::new());
                        record.finish();
                    }
                }
            }
        });
        (bed, lines)
    }

    #[test]
    fn requests_that_the_filter_does_not_want_are_counted_and_not_logged() {
        let settings = filtered("status >= 500 or flags != \"\"");
        let (bed, lines) = requests(&settings, &[200, 503, 204, 403]);
        let statuses: Vec<_> = lines
            .iter()
            .map(|line| field(line, "response.status"))
            .collect();
        assert_eq!(statuses, ["503", "403"]);
        assert_eq!(bed.total("istio_requests_total"), 4);
    }

    #[test]
    fn a_line_has_the_chosen_fields_and_what_was_refused_names_what_was_asked_for() {
        let settings = AccessLogSettings {
            fields: Some(["bytes_sent".parse().unwrap()].into_iter().collect()),
            ..AccessLogSettings::default()
        };
        let (_, lines) = requests(&settings, &[200, 403]);
        let names: Vec<_> = lines[0].iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["message", "bytes_sent"]);
        for (name, value) in [
            ("request.method", "PUT"),
            ("request.path", "/cart"),
            ("request.authority", "web"),
            ("response.status", "403"),
            ("flags", "AUTHORIZATION_DENIED"),
        ] {
            assert_eq!(field(&lines[1], name), value, "{name}");
        }
    }

    #[test]
    fn lines_beyond_the_bound_are_counted() {
        let settings = AccessLogSettings {
            lines_per_second: Some(0),
            ..AccessLogSettings::default()
        };
        let (bed, lines) = requests(&settings, &[200, 503, 403]);
        assert!(lines.is_empty(), "{lines:?}");
        assert_eq!(bed.total("weft_access_log_dropped_lines_total"), 3);
    }

    #[test]
    fn what_succeeds_uses_up_no_line_of_what_is_refused() {
        let settings = AccessLogSettings {
            lines_per_second: Some(1),
            ..AccessLogSettings::default()
        };
        let (_, lines) = requests(&settings, &[200, 200, 200, 403]);
        let statuses = lines.iter().map(|line| field(line, "response.status"));
        assert!(statuses.into_iter().any(|status| status == "403"));
    }

    #[test]
    fn a_probe_has_a_line_when_it_fails_or_when_that_is_chosen() {
        let lines = |settings: &AccessLogSettings, end: fn(ConnectionRecord)| {
            let bed = bed(settings);
            let info = ConnectionInfo {
                is_probe: true,
                ..ConnectionInfo::clone(&inbound(&bed.server, &bed.client))
            };
            let mut record = ConnectionRecord::start(&bed.pod, Arc::new(info), Instant::now());
            record.opened(Duration::ZERO, None);
            let lines = access_lines(|| end(record));
            assert_eq!(bed.total("istio_tcp_connections_opened_total"), 1);
            lines.len()
        };
        let default = AccessLogSettings::default();
        let chosen = AccessLogSettings {
            probes: Some(true),
            ..AccessLogSettings::default()
        };
        assert_eq!(
            lines(&default, |record| record.close(CloseReason::Finished)),
            0
        );
        assert_eq!(
            lines(&default, |record| record
                .close(CloseReason::DownstreamReset)),
            0
        );
        assert_eq!(
            lines(&default, |record| record.close(CloseReason::UpstreamReset)),
            1
        );
        assert_eq!(
            lines(&chosen, |record| record.close(CloseReason::Finished)),
            1
        );
    }

    #[test]
    fn a_filter_sees_what_the_kernel_told_of_a_connection() {
        let bed = bed(&filtered(
            "kind == \"connection\" and duration >= 0s and retransmits == 0",
        ));
        let mut record =
            ConnectionRecord::start(&bed.pod, outbound(&bed.client, &bed.server), Instant::now());
        record.opened(Duration::ZERO, None);
        // The kernel told nothing.
        assert!(access_lines(|| record.close(CloseReason::Finished)).is_empty());
    }
}
