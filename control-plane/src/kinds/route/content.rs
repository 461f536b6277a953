//! What a route says, read rule by rule.

use std::sync::Arc;

use kube::api::DynamicObject;
use weft_model::route::{RouteKey, RouteKind, Rule};

use super::object::RouteContent;
use super::reader::{Reader, host_name};
use super::schema::{self, Spec};
use super::targets::targets;
use crate::kinds::document;
use crate::kinds::field_error::FieldError;

/// Reads what a route says, or everything that is wrong with it.
pub(super) fn content(
    route: &RouteKey,
    object: &DynamicObject,
) -> Result<RouteContent, Vec<FieldError>> {
    let mut reader = Reader {
        route,
        problems: Vec::new(),
        invalid: Vec::new(),
    };
    let read = match route.kind {
        RouteKind::Http => document::required_spec(object).map(|spec: Spec<schema::HttpRule>| {
            // As the schema has it.
            let rules = spec.rules.unwrap_or_else(|| vec![Default::default()]);
            let rules = rules.into_iter().enumerate();
            let rules = rules.map(|(index, rule)| reader.http_rule(index, rule));
            (None, rules.collect())
        }),
        RouteKind::Grpc => document::required_spec(object).map(|spec: Spec<schema::GrpcRule>| {
            let rules = spec.rules.into_iter().flatten().enumerate();
            let rules = rules.map(|(index, rule)| reader.grpc_rule(index, rule));
            (None, rules.collect())
        }),
        RouteKind::Tls | RouteKind::Tcp => {
            document::required_spec(object).map(|spec| connections(&mut reader, spec))
        }
    };
    let (hostnames, rules) = read.map_err(|error| vec![error])?;
    let hostnames = hostnames.map(|names| read_hostnames(&mut reader, names));
    let Reader {
        problems, invalid, ..
    } = reader;
    match problems.is_empty() {
        true => Ok(RouteContent {
            hostnames: hostnames.unwrap_or_default(),
            targets: targets(&rules),
            rules,
            invalid,
        }),
        false => Err(problems),
    }
}

/// Names to look at, and rules.
type Connections = (Option<Vec<String>>, Vec<Rule>);

fn connections(reader: &mut Reader<'_>, spec: Spec<schema::ConnectionRule>) -> Connections {
    let rules = spec.rules.unwrap_or_default();
    if rules.is_empty() {
        let why = "it says where connections go";
        let missing = FieldError::missing("spec.rules", why);
        reader.problems.push(missing);
    }
    let rules = rules.into_iter().enumerate();
    let rules: Vec<Rule> = rules
        .map(|(index, rule)| reader.connection_rule(index, rule))
        .collect();
    match (reader.route.kind, spec.hostnames) {
        (RouteKind::Tls, hostnames) => (hostnames, rules),
        (_, None) => (None, rules),
        (_, Some(_)) => {
            reader.complain("spec.hostnames", "a TCPRoute has none");
            (None, rules)
        }
    }
}

fn read_hostnames(reader: &mut Reader<'_>, names: Vec<String>) -> Vec<Arc<str>> {
    for (index, name) in names.iter().enumerate() {
        let field = format!("spec.hostnames[{index}]");
        let bare = name.strip_prefix("*.").unwrap_or(name);
        reader.take(host_name(&field, bare));
    }
    names.into_iter().map(Into::into).collect()
}
