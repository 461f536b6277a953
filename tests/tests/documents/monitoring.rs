//! `deploy/monitoring`: every query asks for what docs/metrics.md has, every alert has its
//! runbook, and the PrometheusRule is the file of rules.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::blocks::{document, root};
use crate::metrics::{documented_families, documented_labels, family};
use crate::promql::Names;

const FOLDER: &str = "deploy/monitoring";
const RUNBOOKS: &str = "docs/runbooks.md";
/// What Prometheus itself has: series about targets, and labels of them.
const PROMETHEUS: [&str; 1] = ["up"];
const TARGET_LABELS: [&str; 2] = ["job", "instance"];

fn rules() -> Value {
    let text = fs::read_to_string(root().join(FOLDER).join("rules.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

fn all_rules() -> Vec<Value> {
    let rules = rules();
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    rules.cloned().collect()
}

fn dashboards() -> Vec<(String, Value)> {
    let files = fs::read_dir(root().join(FOLDER).join("dashboards")).unwrap();
    let mut dashboards: Vec<_> = files
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(path).unwrap();
            let parsed = serde_json::from_str(&text);
            (
                name.clone(),
                parsed.unwrap_or_else(|error| panic!("{name}: {error}")),
            )
        })
        .collect();
    dashboards.sort_by(|one, other| one.0.cmp(&other.0));
    dashboards
}

/// What there is to ask for.
struct Known {
    series: BTreeSet<String>,
    labels: BTreeSet<String>,
}

impl Known {
    fn new() -> Self {
        let recorded = all_rules();
        let recorded = recorded.iter().filter_map(|rule| rule["record"].as_str());
        let series = documented_families().into_iter();
        let series = series.chain(recorded.chain(PROMETHEUS).map(str::to_owned));
        let labels = documented_labels().into_iter();
        let more = TARGET_LABELS.iter().chain(&["le"]);
        Self {
            series: series.collect(),
            labels: labels.chain(more.map(|&name| name.to_owned())).collect(),
        }
    }

    /// The names in a query that nothing has.
    fn unknown(&self, query: &str) -> Vec<String> {
        let names = Names::of(query);
        let is_known = |name: &String| {
            self.series.contains(name.as_str()) || self.series.contains(family(name))
        };
        let series = names.series.into_iter().filter(|name| !is_known(name));
        let labels = names.labels.into_iter();
        let labels = labels.filter(|name| !self.labels.contains(name));
        series.chain(labels).collect()
    }

    /// The labels between `{{` and `}}` that nothing has.
    fn unknown_in_template(&self, template: &str) -> Vec<String> {
        let insides = template.split("{{").skip(1);
        let insides = insides.filter_map(|rest| rest.split("}}").next());
        let names = insides.map(|inside| inside.split('|').next().unwrap_or_default().trim());
        let names = names.filter(|name| *name != "$value");
        let labels = names.map(|name| name.strip_prefix("$labels.").unwrap_or(name));
        let labels = labels.filter(|name| !self.labels.contains(*name));
        labels.map(str::to_owned).collect()
    }
}

#[test]
fn every_query_of_a_dashboard_asks_for_documented_series_and_labels() {
    let known = Known::new();
    let mut count = 0;
    for (name, dashboard) in dashboards() {
        assert_eq!(dashboard["uid"], *name);
        for panel in dashboard["panels"].as_array().unwrap() {
            let place = format!("{name}, {}", panel["title"]);
            for target in panel["targets"].as_array().unwrap() {
                let query = target["expr"].as_str().unwrap();
                assert_eq!(known.unknown(query), [""; 0], "{place}: {query}");
                let legend = target["legendFormat"].as_str().unwrap();
                assert_eq!(known.unknown_in_template(legend), [""; 0], "{place}");
                count += 1;
            }
        }
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            let Some(query) = variable["query"]["query"].as_str() else {
                continue;
            };
            let inside = query.strip_prefix("label_values(").unwrap();
            let (series, label) = inside.trim_end_matches(')').rsplit_once(", ").unwrap();
            assert_eq!(known.unknown(series), [""; 0], "{name}: {query}");
            assert!(known.labels.contains(label), "{name}: {query}");
        }
    }
    assert!(count > 50, "{count} queries");
}

#[test]
fn every_rule_asks_for_documented_series_and_labels() {
    let known = Known::new();
    for rule in all_rules() {
        let query = rule["expr"].as_str().unwrap();
        assert_eq!(known.unknown(query), [""; 0], "{query}");
        for annotation in ["summary", "description"] {
            let text = rule["annotations"][annotation].as_str().unwrap_or_default();
            assert_eq!(known.unknown_in_template(text), [""; 0], "{text}");
        }
    }
}

#[test]
fn a_series_or_a_label_that_nothing_has_is_found() {
    let known = Known::new();
    for (query, unknown) in [
        ("rate(istio_requests_totals[5m])", "istio_requests_totals"),
        ("sum by (colour) (up)", "colour"),
        ("up{colour=~\"weft_x\"} == 0", "colour"),
        ("up and on (job, colour) up", "colour"),
        (
            "up / weft:service_requests:rate7m",
            "weft:service_requests:rate7m",
        ),
    ] {
        assert_eq!(known.unknown(query), [unknown], "{query}");
    }
    assert_eq!(
        known.unknown_in_template("{{ $labels.colour }}"),
        ["colour"]
    );
}

#[test]
fn every_alert_has_its_runbook_and_every_runbook_its_alert() {
    let page = document(RUNBOOKS);
    let headings: BTreeSet<_> = page
        .prose()
        .filter_map(|(_, line)| line.strip_prefix("## "))
        .map(str::to_owned)
        .collect();
    let mut alerts = BTreeSet::new();
    for rule in all_rules() {
        let Some(name) = rule["alert"].as_str() else {
            continue;
        };
        let anchor = format!("{RUNBOOKS}#{}", name.to_lowercase());
        assert_eq!(rule["annotations"]["runbook_url"], *anchor, "{name}");
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{name}"
        );
        assert!(alerts.insert(name.to_owned()), "{name} twice");
    }
    assert_eq!(alerts, headings, "{RUNBOOKS} and the alerts differ");
}

#[test]
fn the_object_has_the_rules_of_the_file() {
    let path = root().join(FOLDER).join("prometheus-rule.yaml");
    let before = fs::read_to_string(&path).unwrap();
    let rules = fs::read_to_string(root().join(FOLDER).join("rules.yaml")).unwrap();
    let (head, _) = before.split_once("\nspec:\n").unwrap();
    let lines = rules.lines().filter(|line| !line.starts_with('#'));
    let lines: String = lines.map(|line| format!("  {line}\n")).collect();
    let expected = format!("{head}\nspec:\n{lines}");
    if std::env::var_os("WEFT_TEST_WRITE").is_some() {
        fs::write(&path, expected).unwrap();
        return;
    }
    assert!(
        before == expected,
        "{} is not as rules.yaml: WEFT_TEST_WRITE=1 before this test writes it",
        path.display()
    );
}
