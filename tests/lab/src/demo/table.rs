//! The table that a newcomer reads.

use super::row::Row;

const HEAD: [&str; 8] = [
    "from",
    "to",
    "dialled",
    "path",
    "protected by",
    "client proved",
    "server proved",
    "result",
];

/// Draws it, with what its words mean.
pub(super) fn draw(rows: &[&Row]) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| line(row)));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<_> = (0..HEAD.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut table = String::from("\n");
    for line in &lines {
        let cells: Vec<_> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        table.push_str(cells.join("  ").trim_end());
        table.push('\n');
    }
    table + EXPLANATION
}

const EXPLANATION: &str = "
Every call was an ordinary one: the applications know nothing of the mesh, and nothing
was changed in their pods.
  mutual TLS  seen in a packet capture between the nodes: the tunnel's packets are there,
              and the text that the call carried is not
  in memory   both pods are on one node: the text never reached a wire
  nothing     the other end isn't in the mesh: the text is in the packet capture
Identities are SPIFFE IDs below spiffe://cluster.local/, each as the other end verified it.
";

fn line(row: &Row) -> [String; 8] {
    let identity = |identity: &Option<String>| {
        let short = identity
            .as_deref()
            .map(|id| id.trim_start_matches("spiffe://cluster.local/"));
        short.unwrap_or("-").to_owned()
    };
    let protection = match (row.captured, row.encrypted, row.path.as_str()) {
        (false, _, _) => "NOT CAPTURED",
        (true, true, _) => "mutual TLS",
        (true, false, "same-node") => "in memory",
        (true, false, "outside") => "nothing",
        (true, false, _) => "NOTHING",
    };
    let status = row
        .status
        .as_str()
        .map_or_else(|| row.status.to_string(), str::to_owned);
    [
        row.from.clone(),
        row.to.clone(),
        row.destination.clone(),
        row.path.clone(),
        protection.to_owned(),
        identity(&row.client_identity),
        identity(&row.server_identity),
        format!("{status} in {:.1} ms", row.latency_us as f64 / 1000.0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cross_node_call_in_the_clear_stands_out() {
        let row = Row {
            from: "client".into(),
            to: "web-v2".into(),
            path: "cross-node".into(),
            captured: true,
            encrypted: false,
            client_identity: Some("spiffe://cluster.local/ns/default/sa/client".into()),
            server_identity: None,
            status: 200.into(),
            latency_us: 1500,
            destination: "http 10.244.2.2:8080".into(),
        };
        let table = draw(&[&row]);
        assert!(
            table.contains("NOTHING") && table.contains("ns/default/sa/client"),
            "{table}"
        );
        assert!(table.contains("200 in 1.5 ms"), "{table}");
    }
}
