//! What a route means among other objects. One decision, [`evaluate`], says what agents are
//! told and what its author is told, so that both agree.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weft_model::NamespacedName;
use weft_model::mesh::Change;
use weft_model::route::{BackendTarget, Parent, Route, RouteKey, Rule};
use weft_model::service::{Service, ServiceKind, ServicePort};

use super::changes::Changes;
use super::conflict::Conflict;
use super::objects::Objects;
use super::published::{Published, Resource, STAYS_IN_FORCE};
use crate::kinds::{
    InvalidReference, ReferenceGrantObject, ReferenceProblem, RouteContent, RouteObject,
    ServiceObject, targets_mut,
};

/// The routes that agents have, their statuses, and those that may be others by now.
#[derive(Debug, Default)]
pub(super) struct Routes {
    pub(super) dirty: BTreeSet<RouteKey>,
    published: Published<Route>,
    pub(super) statuses: HashMap<RouteKey, Arc<RouteStatus>>,
    changed_statuses: BTreeSet<RouteKey>,
    /// Routes that are not in force as they should be.
    conflicts: BTreeMap<RouteKey, Vec<Conflict>>,
}

/// The conditions of a route, and the state of it that they are about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RouteStatus {
    /// The generation of the route that was evaluated.
    pub(crate) generation: Option<i64>,
    /// `Accepted` for each of its Services as parents, in its own order.
    pub(crate) accepted: Vec<Condition>,
    /// `ResolvedRefs`: all that it sends to exists.
    pub(crate) resolved: Condition,
}

/// A condition of a route, without its times.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    /// True, false, or `None` for unknown.
    pub(crate) status: Option<bool>,
    /// A word of the Gateway API for it.
    pub(crate) reason: &'static str,
    /// The same for people.
    pub(crate) message: String,
}

impl Condition {
    fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: Some(true),
            reason,
            message: message.into(),
        }
    }

    fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: Some(false),
            ..Self::yes(reason, message)
        }
    }
}

/// The route as agents get it, none when it is in force nowhere, and its status.
fn evaluate(object: &RouteObject, objects: &Objects) -> (Option<Route>, RouteStatus) {
    let content = match &object.content {
        Ok(content) => content,
        Err(problems) => {
            let good = object.last_good.as_deref();
            let good = good.and_then(|good| evaluate(good, objects).0);
            let mut problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            if good.is_some() {
                problems.push(STAYS_IN_FORCE.to_owned());
            }
            let condition = Condition::no("UnsupportedValue", problems.join("; "));
            let status = RouteStatus {
                generation: object.generation,
                accepted: vec![condition; object.parents.len()],
                resolved: Condition {
                    status: None,
                    ..Condition::yes("Pending", "not looked at until the route is accepted")
                },
            };
            return (good, status);
        }
    };
    let (mut parents, mut accepted) = (Vec::new(), Vec::new());
    for parent in &object.parents {
        match attach(parent, objects) {
            Ok((service, ports)) => {
                // Where another kind counts instead, proxies find that out by themselves.
                parents.push(parent.clone());
                accepted.push(precedence(&object.key, service, &ports, objects));
            }
            Err(why) => accepted.push(Condition::no("NoMatchingParent", why)),
        }
    }
    let (rules, invalid) = resolve(object, content, objects);
    let status = RouteStatus {
        generation: object.generation,
        accepted,
        resolved: resolved(&invalid),
    };
    let route = Route {
        key: object.key.clone(),
        created: object.created,
        parents,
        hostnames: content.hostnames.clone(),
        rules,
    };
    let route = Some(route).filter(|route| !route.parents.is_empty());
    (route, status)
}

/// The Service that a parent is, with the ports that are meant.
fn attach<'a>(
    parent: &Parent,
    objects: &'a Objects,
) -> Result<(&'a Service, Vec<&'a ServicePort>), String> {
    let key = &parent.service;
    let Some(object) = objects.tables.get::<ServiceObject>(key) else {
        return Err(format!("there is no Service {key}"));
    };
    let service = &object.service;
    match &service.kind {
        ServiceKind::ClusterIp(_) => {}
        // GEP-1294, "Allowed service types".
        ServiceKind::Headless => {
            let why = "clients ask DNS for its pods, so nothing is ever sent to the Service";
            return Err(format!("Service {key} is headless: {why}"));
        }
        ServiceKind::External(_) => {
            let why = "clients ask DNS for its name, so nothing is ever sent to the Service";
            return Err(format!("Service {key} is of type ExternalName: {why}"));
        }
    }
    let ports: Vec<_> = service.ports.iter().collect();
    let meant = ports.iter().copied();
    let meant: Vec<_> = meant
        .filter(|port| parent.attaches_to(service, port))
        .collect();
    match (meant.is_empty(), parent.port, &parent.section) {
        (false, _, _) => Ok((service, meant)),
        (true, Some(port), None) => Err(format!("Service {key} has no TCP port {port}")),
        (true, None, Some(name)) => Err(format!("Service {key} has no TCP port named {name}")),
        (true, Some(port), Some(name)) => Err(format!(
            "Service {key} has no TCP port {port} that is named {name}"
        )),
        (true, None, None) => Err(format!("Service {key} has no TCP ports")),
    }
}

/// The condition of a route on ports that it is attached to: another kind may count there
/// (GEP-1294, "Route types"). Routes of other namespaces are for other clients.
fn precedence(
    key: &RouteKey,
    service: &Service,
    ports: &[&ServicePort],
    objects: &Objects,
) -> Condition {
    let attached = objects.references.routes_of_service.to(&service.key);
    let attached = attached
        .filter(|other| other.kind < key.kind && other.name.namespace == key.name.namespace);
    let attached = attached.filter_map(|other| objects.route(other));
    let attached: Vec<_> = attached.filter_map(RouteObject::in_force).collect();
    let mut lost = Vec::new();
    let mut winners = BTreeSet::new();
    for port in ports {
        let mut here = attached.iter().filter(|other| {
            let mut parents = other.parents.iter();
            parents.any(|parent| parent.attaches_to(service, port))
        });
        if let Some(winner) = here.next() {
            lost.push(port.port.to_string());
            winners.insert(winner.key.to_string());
        }
    }
    let winners: Vec<_> = winners.into_iter().collect();
    let instead = format!(
        "{} counts instead of a {} on port {}",
        winners.join(", "),
        key.kind,
        lost.join(", ")
    );
    match (lost.len(), ports.len()) {
        (0, _) => Condition::yes("Accepted", "in force"),
        (lost, all) if lost == all => Condition::no("Conflicted", instead),
        _ => Condition::yes("Accepted", format!("in force, but {instead}")),
    }
}

/// Rules that send only to what exists and may be sent to, and what doesn't or may not.
fn resolve(
    route: &RouteObject,
    content: &RouteContent,
    objects: &Objects,
) -> (Vec<Rule>, Vec<InvalidReference>) {
    let mut rules = content.rules.clone();
    let mut invalid = content.invalid.clone();
    for (field, target) in targets_mut(&mut rules) {
        let BackendTarget::Service { service, port } = target else {
            continue;
        };
        let leads_there = permitted(route, service, objects);
        let leads_there = leads_there.and_then(|()| exists(service, *port, objects));
        if let Err((why, message)) = leads_there {
            let reason = message.as_str().into();
            invalid.push(InvalidReference {
                field,
                why,
                message,
            });
            *target = BackendTarget::Invalid { reason };
        }
    }
    (rules, invalid)
}

/// Clients that ask a Service never chose the Services behind its routes, and are let in there as
/// themselves: so the namespace there has a say (GEP-709). A route for the clients of its own
/// namespace sends them nowhere where they couldn't go by themselves (GEP-1294, "Namespace
/// boundaries").
fn permitted(
    route: &RouteObject,
    service: &NamespacedName,
    objects: &Objects,
) -> Result<(), (ReferenceProblem, String)> {
    let (kind, own) = (route.key.kind, &route.key.name.namespace);
    let target = &service.namespace;
    if target == own || !route.is_producer() {
        return Ok(());
    }
    let mut grants = objects.tables.in_namespace::<ReferenceGrantObject>(target);
    match grants.any(|(_, grant)| grant.permits(&route.key, &service.name)) {
        true => Ok(()),
        false => {
            let message = format!(
                "no ReferenceGrant of namespace {target} lets {kind}s of namespace {own} send to \
                 Service {service}"
            );
            Err((ReferenceProblem::NotPermitted, message))
        }
    }
}

fn exists(
    key: &NamespacedName,
    port: u16,
    objects: &Objects,
) -> Result<(), (ReferenceProblem, String)> {
    let Some(object) = objects.tables.get::<ServiceObject>(key) else {
        let message = format!("there is no Service {key}");
        return Err((ReferenceProblem::NotFound, message));
    };
    // Its name may be anybody's, so that whoever may write a Service could send other
    // people's requests wherever the mesh gets (GEP-1294; CVE-2021-25740).
    if let ServiceKind::External(_) = object.service.kind {
        let message = format!("Service {key} is of type ExternalName");
        return Err((ReferenceProblem::Kind, message));
    }
    match object.service.port(port) {
        Some(_) => Ok(()),
        None => {
            let message = format!("Service {key} has no TCP port {port}");
            Err((ReferenceProblem::NotFound, message))
        }
    }
}

fn resolved(invalid: &[InvalidReference]) -> Condition {
    let Some(worst) = invalid.iter().map(|reference| reference.why).min() else {
        return Condition::yes("ResolvedRefs", "everything that it sends to exists");
    };
    let reason = match worst {
        ReferenceProblem::Kind => "InvalidKind",
        ReferenceProblem::NotPermitted => "RefNotPermitted",
        ReferenceProblem::NotFound => "BackendNotFound",
    };
    let list = invalid.iter().map(|reference| {
        let InvalidReference { field, message, .. } = reference;
        format!("field {field}: {message}")
    });
    let list: Vec<_> = list.collect();
    Condition::no(reason, format!("{}; requests for it fail", list.join("; ")))
}

impl Resource for Route {
    type Key = RouteKey;

    fn changed(self) -> Change {
        Change::Route(self)
    }

    fn removed(key: RouteKey) -> Change {
        Change::RouteRemoved(key)
    }
}

impl Routes {
    /// The status of a route that is known.
    pub(super) fn status(&self, route: &RouteKey) -> Option<&Arc<RouteStatus>> {
        self.statuses.get(route)
    }

    /// Routes whose status is another since the last call.
    pub(super) fn take_changed_statuses(&mut self) -> BTreeSet<RouteKey> {
        std::mem::take(&mut self.changed_statuses)
    }

    /// Routes that have no effect, in part at least, because of other objects.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        self.conflicts.values().flatten()
    }

    /// A Service is different: what is attached to it or leads there may be, too.
    pub(super) fn mark_referring_dirty(&mut self, service: &NamespacedName, objects: &Objects) {
        let routes = objects.references.routes_of_service.to(service).cloned();
        self.dirty.extend(routes);
    }

    /// A ReferenceGrant is different: routes that it is for may lead there, or not.
    pub(super) fn mark_granted_dirty(&mut self, grant: &ReferenceGrantObject, objects: &Objects) {
        let routes = objects.references.routes_into(&grant.key.namespace);
        self.dirty
            .extend(routes.filter(|route| grant.is_for(route)).cloned());
    }

    /// A route is different: what else is attached to its Services may count or not.
    pub(super) fn mark_dirty(&mut self, route: &RouteObject, objects: &Objects) {
        let before = route.last_good.iter().flat_map(|route| &route.parents);
        for parent in route.parents.iter().chain(before) {
            let attached = objects.references.routes_of_service.to(&parent.service);
            let others = attached.filter(|other| other.kind != route.key.kind);
            self.dirty.extend(others.cloned());
        }
        self.dirty.insert(route.key.clone());
    }

    /// Looks at everything dirty.
    pub(super) fn update(&mut self, objects: &Objects, changes: &mut Changes) {
        for key in std::mem::take(&mut self.dirty) {
            let now = self.update_status(&key, objects);
            self.published.set(&key, now, changes);
        }
    }

    fn update_status(&mut self, key: &RouteKey, objects: &Objects) -> Option<Route> {
        let Some((origin, object)) = objects.route_entry(key) else {
            self.conflicts.remove(key);
            if self.statuses.remove(key).is_some() {
                self.changed_statuses.insert(key.clone());
            }
            return None;
        };
        let (route, status) = evaluate(object, objects);
        let conflicts = conflicts(object, origin, &status);
        match conflicts.is_empty() {
            true => self.conflicts.remove(key),
            false => self.conflicts.insert(key.clone(), conflicts),
        };
        let known = self.statuses.get(key);
        if known.is_none_or(|known| **known != status) {
            self.statuses.insert(key.clone(), Arc::new(status));
            self.changed_statuses.insert(key.clone());
        }
        route
    }
}

/// The parts of a route that have no effect because of other objects. Its own mistakes are
/// told by whoever read it.
fn conflicts(object: &RouteObject, origin: &str, status: &RouteStatus) -> Vec<Conflict> {
    if object.content.is_err() {
        return Vec::new();
    }
    let conditions = status.accepted.iter().chain([&status.resolved]);
    let failed = conditions.filter(|condition| condition.status == Some(false));
    let conflicts = failed.map(|condition| Conflict::Route {
        route: object.key.clone(),
        origin: origin.to_owned(),
        message: condition.message.clone(),
    });
    conflicts.collect()
}
