use super::*;
use crate::index::Index;
use crate::kinds::{KindObject, PodObject};
use crate::source::Event;
use crate::source::manifest::parse;
use weft_proto::v1::resource;

/// An index and its resources.
#[derive(Default)]
struct Bed {
    index: Index,
    resources: Resources,
}

impl Bed {
    fn of(pods: std::ops::Range<usize>) -> Self {
        let mut bed = Self::default();
        bed.set(pods);
        bed
    }

    /// These pods are there, and no others.
    fn set(&mut self, pods: std::ops::Range<usize>) {
        let pod = |n| {
            format!(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: p{n} }}\n\
                 spec: {{ nodeName: n, containers: [] }}\nstatus: {{ podIP: 10.0.{}.{} }}\n",
                n / 250,
                n % 250 + 1
            )
        };
        let text: String = pods.map(pod).collect();
        let objects = parse(&text).unwrap();
        self.index
            .handle_event(Event::Replaced(PodObject::KIND, objects, vec![]));
        self.resources.apply(self.index.changes());
    }
}

fn all() -> HashSet<ResourceKind> {
    HashSet::from([
        ResourceKind::Workload,
        ResourceKind::Service,
        ResourceKind::Endpoint,
    ])
}

/// Everything that is to be sent now: per response, what changed, what is gone, and
/// whether it says that all was sent.
fn drain(cursor: &mut Cursor, resources: &Resources) -> Vec<(usize, usize, bool)> {
    let mut responses = Vec::new();
    while let Next::Response(response) = cursor.next(resources).unwrap() {
        let (changed, removed) = (response.changed.len(), response.removed.len());
        responses.push((changed, removed, response.synchronized));
    }
    responses
}

#[test]
fn a_large_mesh_comes_in_portions_and_then_only_changes_come() {
    let mut bed = Bed::of(0..500);
    let mut cursor = Cursor::new(agent(), all(), Vec::new());
    let portions = [(200, 0, false), (200, 0, false), (100, 0, true)];
    assert_eq!(drain(&mut cursor, &bed.resources), portions);
    bed.set(1..501);
    assert_eq!(drain(&mut cursor, &bed.resources), [(1, 1, false)]);
}

#[test]
fn changes_that_happened_together_are_marked_as_belonging_together() {
    let mut bed = Bed::default();
    let mut cursor = Cursor::new(agent(), all(), Vec::new());
    drain(&mut cursor, &bed.resources);
    bed.set(0..450);
    let mut portions = Vec::new();
    while let Next::Response(response) = cursor.next(&bed.resources).unwrap() {
        portions.push((response.changed.len(), response.more));
    }
    assert_eq!(portions, [(200, true), (200, true), (50, false)]);
}

#[test]
fn an_empty_mesh_is_soon_synchronized() {
    let mut cursor = Cursor::new(agent(), all(), Vec::new());
    assert_eq!(drain(&mut cursor, &Resources::default()), [(0, 0, true)]);
}

#[test]
fn a_reconnecting_agent_is_told_only_what_it_missed() {
    let bed = Bed::of(0..10);
    let held = bed
        .resources
        .after(None)
        .skip(1)
        .map(|((kind, name), versioned)| ResourceVersion {
            kind: (*kind).into(),
            name: name.to_string(),
            version: versioned.version.clone(),
        });
    let gone = ResourceVersion {
        kind: ResourceKind::Service.into(),
        name: "shop/gone".into(),
        version: "1".into(),
    };
    let mut cursor = Cursor::new(agent(), all(), held.chain([gone]).collect());
    assert_eq!(drain(&mut cursor, &bed.resources), [(1, 1, true)]);
}

#[test]
fn what_changes_behind_the_walks_back_comes_after_it() {
    let mut bed = Bed::of(0..300);
    let mut cursor = Cursor::new(agent(), all(), Vec::new());
    let Next::Response(first) = cursor.next(&bed.resources).unwrap() else {
        panic!("nothing to send");
    };
    assert_eq!(first.changed.len(), 200);
    // Names are in the order of text: `default/p0` was in the first portion.
    bed.set(1..300);
    assert_eq!(
        drain(&mut cursor, &bed.resources),
        [(100, 0, true), (0, 1, false)]
    );
}

#[test]
fn what_is_held_and_came_back_during_the_walk_is_not_removed() {
    let mut bed = Bed::of(1..300);
    let back = ResourceVersion {
        kind: ResourceKind::Workload.into(),
        name: "default/p0".into(),
        version: "old".into(),
    };
    let mut cursor = Cursor::new(agent(), all(), vec![back]);
    cursor.next(&bed.resources).unwrap();
    bed.set(0..300);
    assert_eq!(
        drain(&mut cursor, &bed.resources),
        [(99, 0, true), (1, 0, false)]
    );
}

#[test]
fn kinds_that_were_not_asked_for_are_not_sent() {
    let mut bed = Bed::of(0..3);
    let mut cursor = Cursor::new(agent(), HashSet::from([ResourceKind::Service]), Vec::new());
    assert_eq!(drain(&mut cursor, &bed.resources), [(0, 0, true)]);
    bed.set(0..4);
    assert_eq!(drain(&mut cursor, &bed.resources), []);
}

/// The names of all that a stream is told, by kind.
fn told(cursor: &mut Cursor, resources: &Resources) -> Vec<(ResourceKind, String)> {
    let mut told = Vec::new();
    while let Next::Response(response) = cursor.next(resources).unwrap() {
        for resource in response.changed {
            let kind = match resource.resource {
                Some(resource::Resource::Workload(_)) => ResourceKind::Workload,
                Some(resource::Resource::ExternalService(_)) => ResourceKind::ExternalService,
                Some(resource::Resource::NetworkPolicy(_)) => ResourceKind::NetworkPolicy,
                Some(resource::Resource::AuthorizationPolicy(_)) => {
                    ResourceKind::AuthorizationPolicy
                }
                other => panic!("{other:?}"),
            };
            told.push((kind, resource.name));
        }
    }
    told
}

fn mixed() -> HashSet<ResourceKind> {
    HashSet::from([
        ResourceKind::Workload,
        ResourceKind::ExternalService,
        ResourceKind::NetworkPolicy,
    ])
}

/// The agent of the node of all pods.
fn agent() -> View {
    View::Agent { node: "n".into() }
}

fn sidecar_of(pod: &str, namespace: &str) -> View {
    View::Sidecar {
        pod: pod.into(),
        namespace: namespace.to_owned(),
    }
}

/// Two namespaces, each with a NetworkPolicy and an ExternalService.
fn two_namespaces() -> Resources {
    let of = |namespace: &str| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {{ name: rules, namespace: {namespace} }}\n\
             spec: {{ podSelector: {{}}, ingress: [] }}\n\
             ---\napiVersion: weft.dev/v1alpha1\nkind: ExternalService\n\
             metadata: {{ name: bank, namespace: {namespace} }}\n\
             spec: {{ hosts: [bank.example], ports: [{{ number: 443, protocol: TLS }}] }}\n"
        )
    };
    let mut index = Index::default();
    for object in parse(&(of("shop") + &of("bank"))).unwrap() {
        index.handle_event(Event::Applied(crate::source::Origin::new(), object));
    }
    let mut resources = Resources::default();
    resources.apply(index.changes());
    resources
}

#[test]
fn a_sidecar_is_told_the_policies_and_external_services_of_its_namespace_alone() {
    let resources = two_namespaces();
    let mut cursor = Cursor::new(sidecar_of("shop/web", "shop"), mixed(), Vec::new());
    let of_shop = [
        (ResourceKind::ExternalService, "shop/bank".to_owned()),
        (ResourceKind::NetworkPolicy, "shop/rules".to_owned()),
    ];
    let mut names = told(&mut cursor, &resources);
    names.sort();
    assert_eq!(names, of_shop);
    let mut agents = Cursor::new(agent(), mixed(), Vec::new());
    assert_eq!(told(&mut agents, &resources).len(), 4);
}

#[test]
fn a_sidecar_that_says_it_holds_what_is_not_its_own_is_told_to_forget_it() {
    let resources = two_namespaces();
    let held = ResourceVersion {
        kind: ResourceKind::NetworkPolicy.into(),
        name: "bank/rules".into(),
        version: "1".into(),
    };
    let mut cursor = Cursor::new(sidecar_of("shop/web", "shop"), mixed(), vec![held]);
    let mut removed = Vec::new();
    while let Next::Response(response) = cursor.next(&resources).unwrap() {
        removed.extend(response.removed.into_iter().map(|gone| gone.name));
    }
    assert_eq!(removed, ["bank/rules"]);
}

#[test]
fn a_sidecar_is_not_told_what_other_pods_ask_of_their_own_proxies() {
    let pod = |name: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: shop\n  \
             annotations: {{ weft.dev/mesh: enabled, weft.dev/exclude-outbound-ports: '5432', weft.dev/netns: {name} }}\n\
             spec: {{ nodeName: n, containers: [] }}\nstatus: {{ podIP: 10.0.0.{} }}\n",
            name.len()
        )
    };
    let mut index = Index::default();
    for object in parse(&(pod("web") + &pod("other"))).unwrap() {
        index.handle_event(Event::Applied(crate::source::Origin::new(), object));
    }
    let mut resources = Resources::default();
    resources.apply(index.changes());
    let mut cursor = Cursor::new(sidecar_of("shop/web", "shop"), mixed(), Vec::new());
    let Next::Response(response) = cursor.next(&resources).unwrap() else {
        panic!("nothing is told");
    };
    for changed in response.changed {
        let Some(resource::Resource::Workload(workload)) = changed.resource else {
            panic!("{changed:?}");
        };
        let is_own = workload.name == "web";
        assert_eq!(workload.exclusions.is_some(), is_own, "{workload:?}");
        assert_eq!(
            !workload.network_namespace.is_empty(),
            is_own,
            "{workload:?}"
        );
        assert_eq!(workload.addresses.len(), 1);
    }
}

/// Two nodes with a pod each that a policy of its own selects, and a policy for both.
fn policies_of_two_nodes() -> Index {
    let of = |n: usize| {
        format!(
            "---\napiVersion: v1\nkind: Pod\n\
             metadata: {{ name: p{n}, namespace: shop, labels: {{ app: p{n} }}, annotations: {{ weft.dev/mesh: enabled }} }}\n\
             spec: {{ nodeName: n{n}, serviceAccountName: web, containers: [] }}\nstatus: {{ podIP: 10.0.0.{n} }}\n\
             ---\napiVersion: weft.dev/v1alpha1\nkind: AuthorizationPolicy\n\
             metadata: {{ name: of-p{n}, namespace: shop }}\n\
             spec: {{ selector: {{ matchLabels: {{ app: p{n} }} }} }}\n"
        )
    };
    let both = "---\napiVersion: weft.dev/v1alpha1\nkind: AuthorizationPolicy\n\
                metadata: { name: of-both, namespace: shop }\nspec: {}\n";
    let mut index = Index::default();
    for object in parse(&(of(1) + &of(2) + both)).unwrap() {
        index.handle_event(Event::Applied(crate::source::Origin::new(), object));
    }
    index
}

fn policies_and_pods() -> HashSet<ResourceKind> {
    HashSet::from([ResourceKind::Workload, ResourceKind::AuthorizationPolicy])
}

fn agent_of(node: &str) -> View {
    View::Agent { node: node.into() }
}

#[test]
fn an_agent_is_told_the_authorization_policies_of_its_own_pods_alone() {
    let mut index = policies_of_two_nodes();
    let mut resources = Resources::default();
    resources.apply(index.changes());
    let mut cursor = Cursor::new(agent_of("n1"), policies_and_pods(), Vec::new());
    let mut policies = Vec::new();
    while let Next::Response(response) = cursor.next(&resources).unwrap() {
        for resource in response.changed {
            match resource.resource {
                Some(resource::Resource::Workload(workload)) => {
                    assert_eq!(workload.authorization.is_some(), workload.node == "n1");
                }
                _ => policies.push(resource.name),
            }
        }
    }
    policies.sort();
    assert_eq!(policies, ["shop/of-both", "shop/of-p1"]);
    let mut none = Cursor::new(agent_of("n3"), policies_and_pods(), Vec::new());
    let told = told(&mut none, &resources);
    assert!(told.iter().all(|(kind, _)| *kind == ResourceKind::Workload));
}

#[test]
fn an_agent_is_told_of_the_access_log_of_its_own_pods_alone() {
    let mut index = policies_of_two_nodes();
    let config = "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: { name: default }\n\
        spec: { accessLog: { filter: status >= 500 } }\n";
    let config = parse(config).unwrap().remove(0);
    index.handle_event(Event::Applied(crate::source::Origin::new(), config));
    let mut resources = Resources::default();
    resources.apply(index.changes());
    let mut cursor = Cursor::new(agent_of("n1"), mixed(), Vec::new());
    let mut nodes = Vec::new();
    while let Next::Response(response) = cursor.next(&resources).unwrap() {
        for resource in response.changed {
            if let Some(resource::Resource::Workload(workload)) = resource.resource {
                assert_eq!(workload.access_log.is_some(), workload.node == "n1");
                nodes.push(workload.node);
            }
        }
    }
    nodes.sort();
    assert_eq!(nodes, ["n1", "n2"]);
}

#[test]
fn a_pod_that_comes_to_a_node_brings_its_policies_and_takes_them_along() {
    let mut index = policies_of_two_nodes();
    let mut resources = Resources::default();
    resources.apply(index.changes());
    let mut cursor = Cursor::new(agent_of("n3"), policies_and_pods(), Vec::new());
    told(&mut cursor, &resources);
    let text = "apiVersion: v1\nkind: Pod\n\
        metadata: { name: p3, namespace: shop, labels: { app: p1 }, annotations: { weft.dev/mesh: enabled } }\n\
        spec: { nodeName: n3, serviceAccountName: web, containers: [] }\nstatus: { podIP: 10.0.0.3 }\n";
    let pod = parse(text).unwrap().remove(0);
    let key = pod.key();
    index.handle_event(Event::Applied(crate::source::Origin::new(), pod));
    resources.apply(index.changes());
    let names = |told: Vec<(ResourceKind, String)>| {
        let policies = told.into_iter();
        let policies = policies.filter(|(kind, _)| *kind == ResourceKind::AuthorizationPolicy);
        policies.map(|(_, name)| name).collect::<Vec<_>>()
    };
    let brought = names(told(&mut cursor, &resources));
    assert_eq!(brought, ["shop/of-both", "shop/of-p1"]);
    index.handle_event(Event::Deleted(crate::source::Origin::new(), key));
    resources.apply(index.changes());
    let mut removed = Vec::new();
    while let Next::Response(response) = cursor.next(&resources).unwrap() {
        removed.extend(response.removed.into_iter().map(|gone| gone.name));
    }
    removed.retain(|name| name.contains("of-"));
    removed.sort();
    assert_eq!(removed, ["shop/of-both", "shop/of-p1"]);
}
