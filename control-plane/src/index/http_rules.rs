//! Rules of AuthorizationPolicies that look at requests, and RequestAuthentications, on ports that
//! carry none.

use weft_model::authorization_policy::{Action, AuthorizationPolicy, OperationMatch, Rule};
use weft_model::detect::protocol::DeclaredProtocol;

use super::authorization_membership::{is_of_service, selects};
use super::objects::Objects;
use crate::kinds::{AuthorizationPolicyObject, FieldError, PodObject, PolicyTarget, ServiceObject};

/// A policy has a rule that looks at requests.
pub(super) fn looks_at_requests(policy: &AuthorizationPolicyObject) -> bool {
    policy.content.as_ref().is_ok_and(|policy| {
        policy.authentication.is_some() || policy.rules.iter().any(Rule::has_http_parts)
    })
}

/// A port of a pod of which a Service says that it doesn't carry HTTP.
struct OtherPort<'a> {
    port: u16,
    pod: &'a PodObject,
    service: &'a ServiceObject,
}

/// The first rule of a policy that looks at requests on a port that carries none: one that it
/// names, or, where it names none, one that a DENY policy would close.
pub(super) fn problem(policy: &AuthorizationPolicyObject, objects: &Objects) -> Option<FieldError> {
    let content = policy.content.as_ref().ok()?;
    if !looks_at_requests(policy) {
        return None;
    }
    let others = other_ports(policy, objects);
    if let Some(authentication) = &content.authentication {
        let found = others
            .iter()
            .find(|other| authentication.is_for(other.port))?;
        return Some(FieldError::new(
            "spec.ports",
            found.describe(content.action),
        ));
    }
    let rules = content.rules.iter().enumerate();
    rules
        .flat_map(|(index, rule)| of_rule(index, rule))
        .find_map(|(field, ports)| {
            let mut others = others.iter();
            let found = others.find(|other| is_concerned(content, ports, other.port))?;
            Some(FieldError::new(field, found.describe(content.action)))
        })
}

/// The parts of a rule that look at requests, by their fields, with their ports.
fn of_rule(index: usize, rule: &Rule) -> Vec<(String, Option<&OperationMatch>)> {
    let path = format!("spec.rules[{index}]");
    if rule.to.is_empty() {
        return match rule.has_http_parts() {
            true => vec![(format!("{path}.when"), None)],
            false => Vec::new(),
        };
    }
    let parts = rule.to.iter().enumerate();
    let parts = parts.filter(|(_, part)| rule.is_about_requests() || part.has_http_parts());
    let parts = parts.map(|(at, part)| (format!("{path}.to[{at}]"), Some(part)));
    parts.collect()
}

fn is_concerned(
    policy: &AuthorizationPolicy,
    operation: Option<&OperationMatch>,
    port: u16,
) -> bool {
    let ports = operation.map(|operation| &operation.ports);
    match ports.filter(|ports| !ports.any_of.is_empty()) {
        Some(ports) => ports.any_of.contains(&port),
        // What an ALLOW policy doesn't match there is denied, as on any port.
        None => {
            let is_left_out = ports.is_some_and(|ports| ports.none_of.contains(&port));
            policy.action == Action::Deny && !is_left_out
        }
    }
}

/// Ports of the pods that a policy selects that carry no HTTP, by what their Services declare.
fn other_ports<'a>(policy: &AuthorizationPolicyObject, objects: &'a Objects) -> Vec<OtherPort<'a>> {
    let is_mesh_wide = policy.key.namespace == objects.mesh_namespace
        && matches!(policy.target, PolicyTarget::Pods(_));
    let services: Vec<&ServiceObject> = match is_mesh_wide {
        true => objects.tables.all().map(|(_, service)| service).collect(),
        false => {
            let own = objects.tables.in_namespace(&policy.key.namespace);
            own.map(|(_, service)| service).collect()
        }
    };
    let mut others = Vec::new();
    for service in services {
        for (declared, (_, target)) in service.service.ports.iter().zip(&service.targets) {
            let protocol = DeclaredProtocol::from_port(declared);
            if !matches!(protocol, DeclaredProtocol::Opaque | DeclaredProtocol::Tls) {
                continue;
            }
            let name = &service.service.key;
            let pods = objects.tables.in_namespace::<PodObject>(&name.namespace);
            let mut pods = pods
                .map(|(_, pod)| pod)
                .filter(|pod| is_of_service(pod, name, objects) && selects(policy, pod, objects));
            let found = pods.find_map(|pod| Some((pod, target.of_pod(pod)?)));
            others.extend(found.map(|(pod, port)| OtherPort { port, pod, service }));
        }
    }
    others
}

impl OtherPort<'_> {
    fn describe(&self, action: Action) -> String {
        let Self { port, pod, service } = self;
        let consequence = match action {
            Action::Allow => "it would match nothing there, so that all is denied",
            Action::Authenticate => {
                "nobody would see their tokens, so that every connection there is denied; give \
                 `ports` that carry HTTP"
            }
            Action::Deny => "it would deny every connection there; give `ports` that carry HTTP",
            Action::Audit => "it would match nothing there",
        };
        format!(
            "it looks at requests, and port {port} of pod {} carries no HTTP, as Service {} \
             declares by the name or appProtocol of the port: {consequence}",
            pod.key, service.service.key
        )
    }
}
