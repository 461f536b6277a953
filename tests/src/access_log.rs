//! What the agents say about connections that ended.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer};
use time::OffsetDateTime;

/// One line of an agent's access log.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct AccessRecord {
    /// When it ended.
    #[serde(with = "time::serde::rfc3339")]
    pub timestamp: OffsetDateTime,
    /// `node-agent` or `sidecar`.
    #[serde(default)]
    pub component: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// `cross-node`, `same-node` or `outside`.
    pub path: String,
    /// `mutual_tls`, `same_node` or `plaintext`.
    pub security: String,
    /// Who opened it.
    #[serde(rename = "source.address", deserialize_with = "known", default)]
    pub source_address: Option<SocketAddr>,
    /// Pod that opened it.
    #[serde(rename = "source.workload", deserialize_with = "known", default)]
    pub source_workload: Option<String>,
    /// SPIFFE ID that it proved.
    #[serde(rename = "source.identity", deserialize_with = "known", default)]
    pub source_identity: Option<String>,
    /// Who served it.
    #[serde(rename = "destination.address", deserialize_with = "known", default)]
    pub destination_address: Option<SocketAddr>,
    /// Pod that served it.
    #[serde(rename = "destination.workload", deserialize_with = "known", default)]
    pub destination_workload: Option<String>,
    /// SPIFFE ID that it proved.
    #[serde(rename = "destination.identity", deserialize_with = "known", default)]
    pub destination_identity: Option<String>,
    /// What the application dialled.
    #[serde(deserialize_with = "known", default)]
    pub original_destination: Option<SocketAddr>,
    /// Bytes from client to server.
    pub bytes_sent: u64,
    /// Bytes from server to client.
    pub bytes_received: u64,
    /// How long it was open, in microseconds.
    pub duration_us: u64,
    /// `-`, or why it failed.
    pub flags: String,
    /// What went wrong, in words.
    #[serde(default)]
    pub error: Option<String>,
    /// Round-trip time of the accepted TCP connection, in microseconds.
    #[serde(rename = "tcp.downstream.rtt_us", default)]
    pub downstream_rtt_us: Option<u64>,
    /// The same of the one that was opened for it.
    #[serde(rename = "tcp.upstream.rtt_us", default)]
    pub upstream_rtt_us: Option<u64>,
    /// Bytes that were acknowledged on that.
    #[serde(rename = "tcp.upstream.delivered_bytes", default)]
    pub upstream_delivered_bytes: Option<u64>,
    /// The AuthorizationPolicy that decided.
    #[serde(default)]
    pub authorization_policy: Option<String>,
}

/// `-` stands for what isn't known.
fn known<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr,
{
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| if text == "-" { None } else { text.parse().ok() }))
}

/// The access records in an agent's log (JSON lines); other lines are passed over.
pub fn records(log: &str) -> Vec<AccessRecord> {
    let lines = log
        .lines()
        .filter(|line| line.contains(r#""target":"access""#));
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// One line: enough to see why a record isn't the one that was waited for.
impl std::fmt::Display for AccessRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = |address: Option<SocketAddr>| {
            address.map_or_else(|| "-".to_owned(), |address| address.to_string())
        };
        write!(
            f,
            "{} {} {}: {} -> {} (dialled {}) {} {}",
            self.direction,
            self.path,
            self.security,
            address(self.source_address),
            address(self.destination_address),
            address(self.original_destination),
            self.flags,
            self.error.as_deref().unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_between_other_lines() {
        let log = r#"{"level":"INFO","message":"ready","target":"agent"}
{"timestamp":"2026-01-02T03:04:05.000006Z","level":"INFO","message":"connection","direction":"outbound","path":"outside","security":"plaintext","source.address":"10.244.1.2:4000","source.workload":"client","source.identity":"-","destination.address":"-","original_destination":"10.96.0.1:80","bytes_sent":1,"bytes_received":2,"duration_us":3,"connect_us":null,"flags":"-","target":"access"}
garbage"#;
        let records = records(log);
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].source_workload.as_deref(), Some("client"));
        assert_eq!(records[0].source_identity, None);
        assert_eq!(
            records[0].original_destination,
            Some("10.96.0.1:80".parse().unwrap())
        );
    }
}
