//! Nodes that a pod may land on, and the proxy that follows from them. Only what surely keeps it from
//! a node counts: a pod with a sidecar that it didn't need is in the mesh, one without that it did is
//! not.

use k8s_openapi::api::core::v1::{
    NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};
use weft_model::NamespacedName;

use super::objects::Objects;
use crate::kinds::{NamespaceObject, NodeObject, RuntimeClassObject};

/// Parts of the names of runtime classes, and of their handlers, whose pods have a kernel of their
/// own, where no node's programs see their connections.
const SANDBOXES: [&str; 3] = ["gvisor", "runsc", "kata"];
/// The beginning of the names of taints that come and go with the state of a node.
const PASSING: &str = "node.kubernetes.io/";
/// The field of a node that terms may name.
const NAME: &str = "metadata.name";

/// The proxy of a pod that leaves the choice to the mesh, as the nodes are now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Placement {
    /// Its node's agent: it lands on no node that is known not to capture.
    Anywhere,
    /// Its node's agent, as long as the pod is kept off nodes that can't capture.
    CapableNodes,
    /// A sidecar.
    NeedsSidecar,
}

/// Nodes of one kind that a pod may land on.
#[derive(Clone, Copy, Debug, Default)]
struct Nodes {
    all: usize,
    /// Those of which it isn't kept at the moment, either.
    now: usize,
}

impl Nodes {
    fn count(&mut self, spec: &PodSpec, node: &NodeObject) {
        self.all += 1;
        self.now += usize::from(is_tolerated(spec, node, |_| true));
    }
}

/// The proxy of a pod. Where it may land both on nodes that can capture and on others, those of
/// which there are more decide: no single node, whatever it says of itself, has all pods get sidecars,
/// nor draws them all.
pub(super) fn placement(
    objects: &Objects,
    namespace: Option<&NamespaceObject>,
    spec: &PodSpec,
) -> Placement {
    if has_own_kernel(objects, spec) {
        return Placement::NeedsSidecar;
    }
    let (mut capable, mut incapable) = (Nodes::default(), Nodes::default());
    let nodes = objects.tables.all::<NodeObject>().map(|(_, node)| node);
    for node in nodes.filter(|node| may_land(spec, node)) {
        match node.can_capture {
            Some(true) => capable.count(spec, node),
            Some(false) => incapable.count(spec, node),
            None => {}
        }
    }
    if incapable.all == 0 {
        return Placement::Anywhere;
    }
    if capable.all == 0 {
        return Placement::NeedsSidecar;
    }
    // A sidecar that isn't admitted is no pod.
    let takes_sidecars = namespace.is_none_or(NamespaceObject::takes_sidecars);
    match takes_sidecars && (capable.now < incapable.now || has_volume_claim(spec)) {
        true => Placement::NeedsSidecar,
        false => Placement::CapableNodes,
    }
}

/// It may land on a node whose kubelet would wait for a native sidecar to end.
pub(super) fn may_meet_old_kubelet(objects: &Objects, spec: &PodSpec) -> bool {
    let nodes = objects.tables.all::<NodeObject>().map(|(_, node)| node);
    let mut old = nodes.filter(|node| node.has_old_kubelet);
    old.any(|node| may_land(spec, node))
}

/// By the name of its runtime class, or what containers' runtimes call that.
fn has_own_kernel(objects: &Objects, spec: &PodSpec) -> bool {
    let Some(name) = spec.runtime_class_name.as_deref() else {
        return false;
    };
    let class = NamespacedName::new("", name);
    let class = objects.tables.get::<RuntimeClassObject>(&class);
    let handler = class.map(|class| class.handler.as_str());
    let mut names = [Some(name), handler].into_iter().flatten();
    names.any(|name| {
        let name = name.to_ascii_lowercase();
        SANDBOXES.iter().any(|sandbox| name.contains(sandbox))
    })
}

/// Its storage may be on a node that can't capture, and nobody could start it elsewhere.
fn has_volume_claim(spec: &PodSpec) -> bool {
    let mut volumes = spec.volumes.iter().flatten();
    volumes.any(|volume| volume.persistent_volume_claim.is_some())
}

fn may_land(spec: &PodSpec, node: &NodeObject) -> bool {
    let chosen = spec.node_name.as_deref().filter(|name| !name.is_empty());
    if let Some(chosen) = chosen {
        return *chosen == *node.node.name;
    }
    let mut selector = spec.node_selector.iter().flatten();
    let is_selected = selector.all(|(name, value)| node.labels.get(name) == Some(value));
    let lasting = |taint: &Taint| !taint.key.starts_with(PASSING);
    is_selected && is_tolerated(spec, node, lasting) && has_affinity(spec, node)
}

/// The pod tolerates those of a node's taints that count and keep pods away.
fn is_tolerated(spec: &PodSpec, node: &NodeObject, counts: impl Fn(&Taint) -> bool) -> bool {
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let keeps_away = |taint: &&Taint| {
        matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute") && counts(taint)
    };
    let mut taints = node.taints.iter().filter(keeps_away);
    taints.all(|taint| tolerations.iter().any(|one| tolerates(one, taint)))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    let is_meant =
        (effect.is_empty() || effect == taint.effect) && (key.is_empty() || key == taint.key);
    let exists = match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => text(&toleration.value) == text(&taint.value),
        // Also what a newer version may have.
        _ => true,
    };
    is_meant && exists
}

/// Of several terms one is enough.
fn has_affinity(spec: &PodSpec, node: &NodeObject) -> bool {
    let affinity = spec.affinity.as_ref();
    let affinity = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| {
        let required = &affinity.required_during_scheduling_ignored_during_execution;
        required.as_ref()
    });
    required.is_none_or(|required| {
        let mut terms = required.node_selector_terms.iter();
        terms.any(|term| matches(term, node))
    })
}

fn matches(term: &NodeSelectorTerm, node: &NodeObject) -> bool {
    let mut expressions = term.match_expressions.iter().flatten();
    let mut fields = term.match_fields.iter().flatten();
    let of_label = |requirement: &NodeSelectorRequirement| {
        let label = node.labels.get(&requirement.key);
        meets(requirement, label.map(String::as_str))
    };
    let of_field = |requirement: &NodeSelectorRequirement| {
        requirement.key != NAME || meets(requirement, Some(&node.node.name))
    };
    // An empty one matches nothing.
    !is_empty(term) && expressions.all(of_label) && fields.all(of_field)
}

fn is_empty(term: &NodeSelectorTerm) -> bool {
    let expressions = term.match_expressions.iter().flatten();
    let fields = term.match_fields.iter().flatten();
    expressions.chain(fields).next().is_none()
}

fn meets(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let is_listed = || value.is_some_and(|value| values.iter().any(|one| one == value));
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let bound = number(values.first().map(String::as_str));
    match requirement.operator.as_str() {
        "In" => is_listed(),
        "NotIn" => !is_listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value)
            .zip(bound)
            .is_some_and(|(value, bound)| value > bound),
        "Lt" => number(value)
            .zip(bound)
            .is_some_and(|(value, bound)| value < bound),
        // One of a newer version doesn't surely keep it away.
        _ => true,
    }
}

#[cfg(test)]
mod tests;
