use super::*;
use crate::index::Index;
use crate::kinds::{KindObject, PodObject};
use crate::source::Event;
use crate::source::manifest::parse;

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
            .handle_event(Event::Replaced(PodObject::KIND, objects));
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
    let mut cursor = Cursor::new(all(), Vec::new());
    let portions = [(200, 0, false), (200, 0, false), (100, 0, true)];
    assert_eq!(drain(&mut cursor, &bed.resources), portions);
    bed.set(1..501);
    assert_eq!(drain(&mut cursor, &bed.resources), [(1, 1, false)]);
}

#[test]
fn an_empty_mesh_is_soon_synchronized() {
    let mut cursor = Cursor::new(all(), Vec::new());
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
    let mut cursor = Cursor::new(all(), held.chain([gone]).collect());
    assert_eq!(drain(&mut cursor, &bed.resources), [(1, 1, true)]);
}

#[test]
fn what_changes_behind_the_walks_back_comes_after_it() {
    let mut bed = Bed::of(0..300);
    let mut cursor = Cursor::new(all(), Vec::new());
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
    let mut cursor = Cursor::new(all(), vec![back]);
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
    let mut cursor = Cursor::new(HashSet::from([ResourceKind::Service]), Vec::new());
    assert_eq!(drain(&mut cursor, &bed.resources), [(0, 0, true)]);
    bed.set(0..4);
    assert_eq!(drain(&mut cursor, &bed.resources), []);
}
