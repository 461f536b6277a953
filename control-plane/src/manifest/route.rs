//! Routes of the Gateway API, as far as they are attached to Services (GEP-1294): those
//! of Gateways are somebody else's.
//!
//! Everything that a route says is checked, also what the schema of its kind says, which
//! nobody checks in a directory.

mod cors;
mod document;
pub(crate) mod duration;
mod filter;
mod matching;
mod reader;
mod rule;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use weft_model::NamespacedName;
use weft_model::route::{BackendTarget, Filter, Parent, RouteKey, RouteKind, Rule};

use super::FieldError;
use document::{Document, Envelope, GROUP, ParentReference, Spec};
use reader::{Reader, host_name, port, unknown};

/// A route that has a Service among its parents.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RouteObject {
    pub(crate) key: RouteKey,
    /// Seconds since 1970; 0 in a directory.
    pub(crate) created: i64,
    /// Counts what was asked for; none in a directory.
    pub(crate) generation: Option<i64>,
    /// The Services among its parents, in its own order.
    pub(crate) parents: Vec<Parent>,
    /// What it says, or everything that is wrong with that.
    pub(crate) content: Result<RouteContent, Vec<FieldError>>,
}

/// What a route says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RouteContent {
    /// Of a TLSRoute.
    pub(crate) hostnames: Vec<Arc<str>>,
    /// Whether what they send to exists is not looked at here.
    pub(crate) rules: Vec<Rule>,
    /// References that lead nowhere, whatever exists.
    pub(crate) invalid: Vec<InvalidReference>,
    /// The Services that rules send to.
    pub(crate) targets: BTreeSet<NamespacedName>,
}

/// A reference that leads nowhere.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InvalidReference {
    /// Its path in the route.
    pub(crate) field: String,
    pub(crate) why: ReferenceProblem,
    pub(crate) message: String,
}

/// Why a reference leads nowhere.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum ReferenceProblem {
    /// To something that requests can't be sent to.
    Kind,
    /// To something that doesn't exist.
    NotFound,
}

impl RouteObject {
    /// A route of a directory, where it counts as a whole or not at all; `None` for any
    /// other kind, and for a route that has no Service among its parents.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub(super) fn from_document(
        api_version: &str,
        kind: &str,
        document: Value,
    ) -> Result<Option<Self>, FieldError> {
        let mut kinds = RouteKind::ALL.into_iter();
        let kind = kinds.find(|known| known.as_str() == kind);
        let Some((kind, (GROUP, version))) = kind.zip(api_version.split_once('/')) else {
            return Ok(None);
        };
        let known = versions(kind);
        if !known.contains(&version) {
            return unknown("apiVersion", version, known);
        }
        let route = Self::from_value(kind, document)?;
        match route.as_ref().and_then(|route| route.problems().first()) {
            None => Ok(route),
            Some(problem) => Err(problem.clone()),
        }
    }

    /// A route as it is written; `None` when it has no Service among its parents.
    ///
    /// # Errors
    /// When it isn't even known whom it is about.
    pub(crate) fn from_value(kind: RouteKind, route: Value) -> Result<Option<Self>, FieldError> {
        let spec = json!({ "spec": route.get("spec") });
        let Envelope {
            metadata,
            spec: shared,
        } = super::typed(route)?;
        let namespace = metadata.namespace.unwrap_or_else(|| "default".to_owned());
        let name = metadata.name.filter(|name| !name.is_empty());
        // Whoever is to admit a route that is to be named by the API server has no name.
        let name = name.or(metadata.generate_name);
        let name =
            name.ok_or_else(|| FieldError::missing("metadata.name", "every object has one"))?;
        let parents = shared.parent_refs.unwrap_or_default();
        let parents = parents.into_iter().enumerate();
        let services = parents.filter(|(_, parent)| parent.is_service());
        let parents = services.map(|(index, parent)| parent.read(index, &namespace));
        let parents: Vec<Parent> = parents.collect::<Result<_, _>>()?;
        if parents.is_empty() {
            return Ok(None);
        }
        let created = metadata.creation_timestamp;
        let key = RouteKey {
            kind,
            name: NamespacedName::new(&namespace, &name),
        };
        Ok(Some(Self {
            content: content(&key, spec),
            key,
            created: created.map_or(0, |created| created.0.as_second()),
            generation: metadata.generation,
            parents,
        }))
    }

    /// Everything that is wrong with what it says.
    pub(crate) fn problems(&self) -> &[FieldError] {
        self.content.as_ref().err().map_or(&[], Vec::as_slice)
    }

    /// The Services that it has to do with.
    pub(crate) fn services(&self) -> BTreeSet<&NamespacedName> {
        let parents = self.parents.iter().map(|parent| &parent.service);
        let targets = self.content.iter().flat_map(|content| &content.targets);
        parents.chain(targets).collect()
    }
}

/// The versions of a kind that are read, the newest first.
pub(crate) fn versions(kind: RouteKind) -> &'static [&'static str] {
    match kind {
        RouteKind::Http => &["v1", "v1beta1", "v1alpha2"],
        RouteKind::Grpc | RouteKind::Tcp => &["v1", "v1alpha2"],
        RouteKind::Tls => &["v1", "v1alpha3", "v1alpha2"],
    }
}

impl ParentReference {
    /// GEP-1294: a route of a mesh has Services as parents, whose group is empty.
    fn is_service(&self) -> bool {
        self.kind.as_deref() == Some("Service") && self.group.as_deref() == Some("")
    }

    fn read(self, index: usize, namespace: &str) -> Result<Parent, FieldError> {
        let of = |name: &str| format!("spec.parentRefs[{index}].{name}");
        if self.name.is_empty() {
            return Err(FieldError::missing(&of("name"), "it names a Service"));
        }
        let named = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let own = named(&self.namespace);
        let port = self.port.map(|number| port(of("port"), number));
        Ok(Parent {
            service: NamespacedName::new(own.as_deref().unwrap_or(namespace), &self.name),
            port: port.transpose()?,
            section: named(&self.section_name).map(Into::into),
        })
    }
}

fn content(route: &RouteKey, spec: Value) -> Result<RouteContent, Vec<FieldError>> {
    let mut reader = Reader {
        route,
        problems: Vec::new(),
        invalid: Vec::new(),
    };
    let read = match route.kind {
        RouteKind::Http => typed(spec).map(|spec: Spec<document::HttpRule>| {
            // As the schema has it.
            let rules = spec.rules.unwrap_or_else(|| vec![Default::default()]);
            let rules = rules.into_iter().enumerate();
            let rules = rules.map(|(index, rule)| reader.http_rule(index, rule));
            (None, rules.collect())
        }),
        RouteKind::Grpc => typed(spec).map(|spec: Spec<document::GrpcRule>| {
            let rules = spec.rules.into_iter().flatten().enumerate();
            let rules = rules.map(|(index, rule)| reader.grpc_rule(index, rule));
            (None, rules.collect())
        }),
        RouteKind::Tls | RouteKind::Tcp => typed(spec).map(|spec| connections(&mut reader, spec)),
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

fn connections(reader: &mut Reader<'_>, spec: Spec<document::ConnectionRule>) -> Connections {
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

fn typed<R: DeserializeOwned>(spec: Value) -> Result<Spec<R>, FieldError> {
    super::typed::<Document<R>>(spec).map(|document| document.spec)
}

fn read_hostnames(reader: &mut Reader<'_>, names: Vec<String>) -> Vec<Arc<str>> {
    for (index, name) in names.iter().enumerate() {
        let field = format!("spec.hostnames[{index}]");
        let bare = name.strip_prefix("*.").unwrap_or(name);
        reader.take(host_name(&field, bare));
    }
    names.into_iter().map(Into::into).collect()
}

fn targets(rules: &[Rule]) -> BTreeSet<NamespacedName> {
    let mut rules = rules.to_vec();
    let targets = targets_mut(&mut rules).into_iter();
    let services = targets.filter_map(|(_, target)| match target {
        BackendTarget::Service { service, .. } => Some(service.clone()),
        BackendTarget::Invalid { .. } => None,
    });
    services.collect()
}

/// Everything that rules send to, with the field that says so.
pub(crate) fn targets_mut(rules: &mut [Rule]) -> Vec<(String, &mut BackendTarget)> {
    let mut targets = Vec::new();
    for (index, rule) in rules.iter_mut().enumerate() {
        let field = format!("spec.rules[{index}]");
        mirrors(&field, &mut rule.filters, &mut targets);
        for (index, backend) in rule.backends.iter_mut().enumerate() {
            let field = format!("{field}.backendRefs[{index}]");
            mirrors(&field, &mut backend.filters, &mut targets);
            targets.push((field, &mut backend.target));
        }
    }
    targets
}

fn mirrors<'a>(
    field: &str,
    filters: &'a mut [Filter],
    targets: &mut Vec<(String, &'a mut BackendTarget)>,
) {
    for (index, filter) in filters.iter_mut().enumerate() {
        if let Filter::Mirror(mirror) = filter {
            let field = format!("{field}.filters[{index}].requestMirror.backendRef");
            targets.push((field, &mut mirror.target));
        }
    }
}

#[cfg(test)]
mod tests;
