//! docs/metrics.md has every series with its labels, docs/access-log.md every field.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::blocks::{document, root};

const METRICS: &str = "docs/metrics.md";
const ACCESS_LOG: &str = "docs/access-log.md";
/// What the names of all series begin with.
const PREFIXES: [&str; 3] = ["istio_", "weft_", "process_"];
/// Sources that name series.
const SOURCES: [&str; 4] = [
    "admin/src",
    "proxy/src",
    "node-agent/src",
    "control-plane/src",
];
/// Endings that the format adds to the name of a family.
const ENDINGS: [&str; 4] = ["_total", "_bucket", "_sum", "_count"];
/// A literal that begins so and is no family: a target of the log.
const OTHERS: [&str; 1] = ["weft_ebpf"];
/// The code in the first cell of each row below some headings.
fn listed(page: &str, headings: &[&str]) -> BTreeSet<String> {
    let page = document(page);
    let rows = headings.iter().flat_map(|heading| page.rows(heading));
    let names = rows.flat_map(|row| {
        let spans = row[0].split('`').skip(1).step_by(2);
        spans.map(str::to_owned).collect::<Vec<_>>()
    });
    names.collect()
}

pub(crate) fn documented_labels() -> BTreeSet<String> {
    listed(METRICS, &["## Labels"])
}

pub(crate) fn documented_families() -> BTreeSet<String> {
    listed(METRICS, &["## The agent", "## The control plane"])
        .iter()
        .map(|name| family(name).to_owned())
        .collect()
}

/// The family that a series is of.
pub(crate) fn family(series: &str) -> &str {
    let of = |ending: &&str| series.strip_suffix(*ending);
    ENDINGS.iter().find_map(of).unwrap_or(series)
}

fn families_in_sources() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in SOURCES {
        collect(&root().join(folder), &mut found);
    }
    found
}

fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for literal in text.split('"').filter(|text| is_name(text)) {
            if PREFIXES.iter().any(|prefix| literal.starts_with(prefix))
                && !OTHERS.contains(&literal)
                && !literal.starts_with("weft_node_agent")
                && !literal.starts_with("weft_proxy")
                && !literal.starts_with("weft_control_plane::")
            {
                found.insert(family(literal).to_owned());
            }
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

#[test]
fn every_series_is_documented_and_every_documented_one_exists() {
    let (documented, existing) = (documented_families(), families_in_sources());
    assert!(existing.len() > 20, "{existing:?}");
    let lacks: Vec<_> = existing.difference(&documented).collect();
    assert!(lacks.is_empty(), "{METRICS} has no row for {lacks:?}");
    let gone: Vec<_> = documented.difference(&existing).collect();
    assert!(
        gone.is_empty(),
        "{METRICS} has what nothing measures: {gone:?}"
    );
}

#[test]
fn every_documented_field_of_the_access_log_is_written() {
    let source = fs::read_to_string(root().join("proxy/src/telemetry/access_log.rs")).unwrap();
    let written = source
        .lines()
        .filter_map(|line| line.trim().split_once(" = "));
    let written: BTreeSet<_> = written
        .map(|(name, _)| name.to_owned())
        .filter(|name| {
            name.chars()
                .all(|c| c.is_ascii_lowercase() || "._".contains(c))
        })
        .collect();
    assert_eq!(
        documented_fields(),
        written,
        "{ACCESS_LOG} and the sources differ"
    );
}

fn documented_fields() -> BTreeSet<String> {
    listed(
        ACCESS_LOG,
        &["## Every line", "## Of a connection", "## Of a request"],
    )
}

/// Asserts that the labels of real series are documented.
pub(crate) fn check_labels(exposition: &str) {
    let families = documented_families();
    let labels = documented_labels();
    let series = exposition.lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for line in series {
        let name = line.split([' ', '{']).next().unwrap_or_default();
        let is_known = families.contains(name) || families.contains(family(name));
        assert!(is_known, "{METRICS} has no row for {name}");
        let inside = line
            .split_once('{')
            .and_then(|(_, rest)| rest.split_once('}'));
        let inside = inside.map_or("", |(inside, _)| inside);
        for label in inside
            .split("\",")
            .filter_map(|pair| pair.split_once("=\""))
        {
            // A bound of a bucket.
            let is_known = labels.contains(label.0) || label.0 == "le";
            assert!(
                is_known,
                "{METRICS}: label `{}` of {name} is missing",
                label.0
            );
            count += 1;
        }
    }
    assert!(count > 100, "{count} labels in {exposition}");
}

/// Asserts that the fields of real lines of the access log are documented.
pub(crate) fn check_fields(log: &str) {
    let fields = documented_fields();
    let mut count = 0;
    for line in log.lines() {
        let Some((_, line)) = line.split_once(" access: ") else {
            continue;
        };
        // Without texts in quotes, which may have anything in them.
        let bare: String = line.split('"').step_by(2).collect();
        for (field, _) in bare.split(' ').filter_map(|pair| pair.split_once('=')) {
            assert!(fields.contains(field), "{ACCESS_LOG} has no `{field}`");
            count += 1;
        }
    }
    assert!(count > 50, "{count} fields in {log}");
}
