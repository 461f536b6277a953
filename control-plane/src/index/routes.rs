//! What a route means among other objects. One decision, [`judge`], says what agents are
//! told and what its author is told, so that both agree.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_model::NamespacedName;
use weft_model::mesh::Change;
use weft_model::route::{BackendTarget, Parent, Route, RouteKey, Rule};
use weft_model::service::{Service, ServiceKind, ServicePort};

use super::objects::Objects;
use super::{Conflict, Index};
use crate::manifest::{InvalidReference, ReferenceProblem, RouteContent, RouteObject, targets_mut};

/// What is thought of a route.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judgement {
    /// Of which state of the route.
    pub(crate) generation: Option<i64>,
    /// Whether it is in force, for each of its Services as parents, in its own order.
    pub(crate) accepted: Vec<Verdict>,
    /// Whether what it sends to exists.
    pub(crate) resolved: Verdict,
}

/// A condition of a route, without its times.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    /// Whether it holds; `None` when that can't be said.
    pub(crate) holds: Option<bool>,
    /// A word of the Gateway API for it.
    pub(crate) reason: &'static str,
    /// The same for people.
    pub(crate) message: String,
}

impl Verdict {
    fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            holds: Some(true),
            reason,
            message: message.into(),
        }
    }

    fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            holds: Some(false),
            ..Self::yes(reason, message)
        }
    }
}

/// What a route means: what agents are told, nothing when it is in force nowhere, and
/// what is thought of it.
fn judge(object: &RouteObject, objects: &Objects) -> (Option<Route>, Judgement) {
    let content = match &object.content {
        Ok(content) => content,
        Err(problems) => {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            let verdict = Verdict::no("UnsupportedValue", problems.join("; "));
            let judgement = Judgement {
                generation: object.generation,
                accepted: vec![verdict; object.parents.len()],
                resolved: Verdict {
                    holds: None,
                    ..Verdict::yes("Pending", "not looked at until the route is accepted")
                },
            };
            return (None, judgement);
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
            Err(why) => accepted.push(Verdict::no("NoMatchingParent", why)),
        }
    }
    let (rules, invalid) = resolve(content, objects);
    let judgement = Judgement {
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
    (route, judgement)
}

/// The Service that a parent is, with the ports that are meant.
fn attach<'a>(
    parent: &Parent,
    objects: &'a Objects,
) -> Result<(&'a Service, Vec<&'a ServicePort>), String> {
    let key = &parent.service;
    let Some(object) = objects.services.get(key) else {
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

/// Whether the route counts on ports that it is attached to, or another kind does
/// (GEP-1294, "Route types"). Routes of other namespaces are for other clients.
fn precedence(
    key: &RouteKey,
    service: &Service,
    ports: &[&ServicePort],
    objects: &Objects,
) -> Verdict {
    let attached = objects.routes_of.of(&service.key);
    let attached = attached
        .filter(|other| other.kind < key.kind && other.name.namespace == key.name.namespace);
    let attached = attached.filter_map(|other| objects.route(other));
    let attached: Vec<_> = attached.filter(|other| other.content.is_ok()).collect();
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
        (0, _) => Verdict::yes("Accepted", "in force"),
        (lost, all) if lost == all => Verdict::no("Conflicted", instead),
        _ => Verdict::yes("Accepted", format!("in force, but {instead}")),
    }
}

/// Rules that send only to what exists, and what doesn't.
fn resolve(content: &RouteContent, objects: &Objects) -> (Vec<Rule>, Vec<InvalidReference>) {
    let mut rules = content.rules.clone();
    let mut invalid = content.invalid.clone();
    for (field, target) in targets_mut(&mut rules) {
        let BackendTarget::Service { service, port } = target else {
            continue;
        };
        if let Err((why, message)) = exists(service, *port, objects) {
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

fn exists(
    key: &NamespacedName,
    port: u16,
    objects: &Objects,
) -> Result<(), (ReferenceProblem, String)> {
    let Some(object) = objects.services.get(key) else {
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

fn resolved(invalid: &[InvalidReference]) -> Verdict {
    let Some(worst) = invalid.iter().map(|reference| reference.why).min() else {
        return Verdict::yes("ResolvedRefs", "everything that it sends to exists");
    };
    let reason = match worst {
        ReferenceProblem::Kind => "InvalidKind",
        ReferenceProblem::NotFound => "BackendNotFound",
    };
    let list = invalid.iter().map(|reference| {
        let InvalidReference { field, message, .. } = reference;
        format!("field {field}: {message}")
    });
    let list: Vec<_> = list.collect();
    Verdict::no(reason, format!("{}; requests for it fail", list.join("; ")))
}

impl Index {
    /// What is thought of a route.
    pub(crate) fn judgement(&self, route: &RouteKey) -> Option<&Arc<Judgement>> {
        self.told.judgements.get(route)
    }

    /// Routes that there is something else to say of since the last call.
    pub(crate) fn judged(&mut self) -> BTreeSet<RouteKey> {
        std::mem::take(&mut self.judged)
    }

    /// A Service is different: what is attached to it or leads there may be, too.
    pub(super) fn touch_routes_of(&mut self, service: &NamespacedName) {
        let routes = self.objects.routes_of.of(service).cloned();
        self.dirty_routes.extend(routes);
    }

    /// A route is different: what else is attached to its Services may count or not.
    pub(super) fn touch_route(&mut self, key: RouteKey) {
        if let Some(route) = self.objects.route(&key) {
            for parent in &route.parents {
                let attached = self.objects.routes_of.of(&parent.service);
                let others = attached.filter(|other| other.kind != key.kind).cloned();
                self.dirty_routes.extend(others);
            }
        }
        self.dirty_routes.insert(key);
    }

    pub(super) fn update_route(
        &mut self,
        key: &RouteKey,
        changes: &mut Vec<Change>,
        gone: &mut Vec<Change>,
    ) {
        let entry = self.objects.route_entry(key);
        let (new, conflicts) = match entry {
            None => {
                if self.told.judgements.remove(key).is_some() {
                    self.judged.insert(key.clone());
                }
                (None, Vec::new())
            }
            Some((origin, object)) => {
                let (route, judgement) = judge(object, &self.objects);
                let conflicts = conflicts(object, origin, &judgement);
                let told = self.told.judgements.get(key);
                if told.is_none_or(|told| **told != judgement) {
                    let told = &mut self.told.judgements;
                    told.insert(key.clone(), Arc::new(judgement));
                    self.judged.insert(key.clone());
                }
                (route, conflicts)
            }
        };
        match conflicts.is_empty() {
            true => self.told.troubled.remove(key),
            false => self.told.troubled.insert(key.clone(), conflicts),
        };
        match new {
            Some(route) if self.told.routes.get(key) == Some(&route) => {}
            Some(route) => {
                changes.push(Change::Route(route.clone()));
                self.told.routes.insert(key.clone(), route);
            }
            None => {
                if self.told.routes.remove(key).is_some() {
                    gone.push(Change::RouteRemoved(key.clone()));
                }
            }
        }
    }
}

/// What of a route has no effect because of other objects. What is wrong with it itself
/// is told by whoever read it.
fn conflicts(object: &RouteObject, origin: &str, judgement: &Judgement) -> Vec<Conflict> {
    if object.content.is_err() {
        return Vec::new();
    }
    let verdicts = judgement.accepted.iter().chain([&judgement.resolved]);
    let failed = verdicts.filter(|verdict| verdict.holds == Some(false));
    let conflicts = failed.map(|verdict| Conflict::Route {
        route: object.key.clone(),
        origin: origin.to_owned(),
        message: verdict.message.clone(),
    });
    conflicts.collect()
}
