//! What rules send to.

use std::collections::BTreeSet;

use weft_model::NamespacedName;
use weft_model::route::{BackendTarget, Filter, Rule};

/// The Services that rules send to.
pub(super) fn targets(rules: &[Rule]) -> BTreeSet<NamespacedName> {
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
