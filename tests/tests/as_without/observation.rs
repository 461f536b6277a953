//! What both ends of a case saw.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

use crate::case::Case;

/// A time that the client has measured.
const SECONDS: &str = "client.seconds";

/// Addresses, IPv4 first, by what they are to the client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Roles {
    pub(crate) client: [IpAddr; 2],
    pub(crate) dialled: [IpAddr; 2],
}

/// What both ends saw, by property, such as `client.peer`; addresses are replaced by their
/// roles.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Observation {
    properties: BTreeMap<String, String>,
    server_events: usize,
}

impl Observation {
    /// From the client's line and the server's lines.
    pub(crate) fn new(client: &str, server: &[String], roles: &Roles) -> Self {
        let mut observation = Self {
            server_events: server.len(),
            ..Self::default()
        };
        observation.add("client", client, roles);
        for (index, line) in server.iter().enumerate() {
            let line: Value = serde_json::from_str(line).unwrap();
            let name = match index {
                0 => "server".to_owned(),
                _ => format!("server-{}", index + 1),
            };
            observation.add(&name, &line["seen"].to_string(), roles);
        }
        observation
    }

    fn add(&mut self, end: &str, seen: &str, roles: &Roles) {
        let mut seen = seen.trim().to_owned();
        // Long addresses first: one may begin with another.
        for (addresses, role) in [(roles.dialled, "SERVER"), (roles.client, "CLIENT")] {
            for address in addresses {
                seen = replace_address(&seen, &address.to_string(), role);
            }
        }
        let seen: BTreeMap<String, Value> = serde_json::from_str(&seen).unwrap();
        let properties = seen.into_iter();
        self.properties.extend(
            properties.map(|(property, value)| (format!("{end}.{property}"), value.to_string())),
        );
    }

    /// Whether both ends have come to the end of the case: what fails without the mesh shows
    /// nothing.
    pub(crate) fn is_whole(&self, case: &Case) -> bool {
        let mut names = self.properties.keys();
        self.server_events >= case.events && !names.any(|name| name.ends_with(".error"))
    }

    /// The properties that have another value there, or are there only once; the time only if
    /// it is longer there than the case allows.
    pub(crate) fn differences_from(&self, other: &Self, case: &Case) -> Vec<String> {
        let names = self.properties.keys().chain(other.properties.keys());
        let names: BTreeSet<_> = names.collect();
        let differing = names.into_iter().filter(|name| match name.as_str() {
            SECONDS => match (self.seconds(), other.seconds()) {
                (Some(own), Some(others)) => others > own + case.margin.as_secs_f64(),
                _ => true,
            },
            _ => self.properties.get(*name) != other.properties.get(*name),
        });
        differing.cloned().collect()
    }

    /// The time that the client has measured.
    fn seconds(&self) -> Option<f64> {
        self.properties.get(SECONDS)?.parse().ok()
    }

    /// A property's value in words.
    pub(crate) fn value(&self, property: &str) -> String {
        let value = self.properties.get(property);
        let mut value = value.map_or("nothing", String::as_str).to_owned();
        let end = value.char_indices().nth(300).map(|(end, _)| end);
        value.truncate(end.unwrap_or(value.len()));
        value
    }
}

/// Replaces an address where it isn't the beginning of a longer one.
pub(crate) fn replace_address(text: &str, address: &str, role: &str) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(address) {
        let after = &rest[at + address.len()..];
        let is_longer = after.starts_with(|next: char| next.is_ascii_hexdigit());
        replaced.push_str(&rest[..at]);
        replaced.push_str(if is_longer { address } else { role });
        rest = after;
    }
    replaced + rest
}

#[test]
fn a_time_differs_when_it_is_longer_than_the_case_allows() {
    let of = |seconds: &str| Observation {
        properties: [(SECONDS.to_owned(), seconds.to_owned())].into(),
        server_events: 0,
    };
    let mut cases = crate::cases::CASES.iter();
    let case = cases.find(|case| case.name == "two_part_writes");
    let differences = |within: &str| {
        of("0.002")
            .differences_from(&of(within), case.unwrap())
            .len()
    };
    assert_eq!(
        ["0.001", "0.0269", "0.0271", "x"].map(differences),
        [0, 0, 1, 1]
    );
}

#[test]
fn addresses_become_roles_and_longer_ones_stay() {
    let text = "10.0.0.1 10.0.0.12 10.0.0.1:80";
    let expected = "SERVER 10.0.0.12 SERVER:80";
    assert_eq!(replace_address(text, "10.0.0.1", "SERVER"), expected);
}
