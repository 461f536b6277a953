//! What both ends of a case saw.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::case::Case;
use crate::observation::replace_address;

/// Addresses by what they are to the client.
#[derive(Clone, Debug)]
pub(crate) struct Roles {
    pub(crate) client: IpAddr,
    /// The one that is dialled, and the pod's own.
    pub(crate) server: Vec<IpAddr>,
}

/// What both ends saw, with addresses replaced by their roles.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    output: String,
    logged: String,
    took: Duration,
}

impl Outcome {
    pub(crate) fn new(output: &str, logged: &[String], took: Duration, roles: &Roles) -> Self {
        let by_role = |text: &str| {
            let mut text = replace_address(text, &roles.client.to_string(), "CLIENT");
            for address in &roles.server {
                text = replace_address(&text, &address.to_string(), "SERVER");
            }
            text
        };
        Self {
            output: by_role(output.trim_end()),
            logged: counted(logged.iter().map(|line| by_role(line))),
            took,
        }
    }

    /// Whether the client has come to its end: what fails without the mesh shows nothing.
    pub(crate) fn is_whole(&self) -> bool {
        self.output.ends_with("exit 0")
    }

    /// The properties that have another value there.
    pub(crate) fn differences_from(&self, other: &Self, case: &Case) -> Vec<&'static str> {
        let is_late = |margin| self.took.abs_diff(other.took) > margin;
        let properties = [
            ("client.output", self.output != other.output),
            ("server.log", case.logged > 0 && self.logged != other.logged),
            ("client.time", case.margin.is_some_and(is_late)),
        ];
        let differing = properties.into_iter().filter(|(_, differs)| *differs);
        differing.map(|(name, _)| name).collect()
    }

    /// A property's value in words: of texts, the lines that the other one hasn't.
    pub(crate) fn value(&self, property: &str, other: &Self) -> String {
        match property {
            "client.output" => lines_without(&self.output, &other.output),
            "server.log" => lines_without(&self.logged, &other.logged),
            _ => format!("{:?}", self.took),
        }
    }
}

fn lines_without(text: &str, other: &str) -> String {
    let lines = text
        .lines()
        .filter(|line| !other.lines().any(|known| known == *line));
    let lines: Vec<String> = lines
        .take(20)
        .map(|line| line.chars().take(300).collect())
        .collect();
    match lines.is_empty() {
        true => "the same lines, other in number or order".to_owned(),
        false => format!("`{}`", lines.join(" / ")),
    }
}

/// Lines and how often each is there: requests at the same time have no order.
fn counted(lines: impl Iterator<Item = String>) -> String {
    let mut counts = BTreeMap::new();
    for line in lines {
        *counts.entry(line).or_insert(0) += 1;
    }
    let counts = counts
        .iter()
        .map(|(line, count)| format!("{count} x {line}"));
    counts.collect::<Vec<_>>().join("\n")
}
