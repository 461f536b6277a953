//! No circle of modules, at the granularity of files: whoever reads a file has to read
//! what it imports, and shall come to an end.

use std::collections::{BTreeMap, BTreeSet};

use crate::modules::{Crate, Edge};
use crate::packages::packages;

#[test]
fn no_modules_import_each_other_in_a_circle() {
    let mut shown = String::new();
    for root in packages().iter().flat_map(|package| package.crate_roots()) {
        let edges = Crate::read(&root).edges();
        for circle in circles(&edges) {
            shown += &describe(&circle, &edges);
        }
    }
    assert!(
        shown.is_empty(),
        "modules import each other in a circle: put what they share into a file that imports \
         neither. A parent that uses or re-exports its children can't be imported by \
         them.{shown}"
    );
}

/// Sets of files that import each other, directly or not: the strongly connected
/// components with more than one member.
fn circles(edges: &BTreeSet<Edge>) -> Vec<BTreeSet<String>> {
    let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to) in edges {
        next.entry(from).or_default().push(to);
    }
    let reachable = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut open = vec![from.to_owned()];
        while let Some(file) = open.pop() {
            for to in next.get(file.as_str()).into_iter().flatten() {
                if seen.insert((*to).to_owned()) {
                    open.push((*to).to_owned());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = next.keys().map(|file| (*file, reachable(file))).collect();
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for (file, from_here) in &reached {
        if !from_here.contains(*file) || found.iter().any(|circle| circle.contains(*file)) {
            continue;
        }
        let is_of_it = |other: &&String| {
            reached
                .get(other.as_str())
                .is_some_and(|back| back.contains(*file))
        };
        found.push(from_here.iter().filter(is_of_it).cloned().collect());
    }
    found
}

/// The imports within a circle, each with its file.
fn describe(circle: &BTreeSet<String>, edges: &BTreeSet<Edge>) -> String {
    let inside = edges
        .iter()
        .filter(|(from, to)| circle.contains(from) && circle.contains(to));
    let lines: Vec<_> = inside
        .map(|(from, to)| format!("\n  {from} imports {to}"))
        .collect();
    format!("\na circle of {} files:{}", circle.len(), lines.concat())
}

#[test]
fn a_circle_is_found_and_a_chain_is_none() {
    let edge = |text: &str| {
        let (from, to) = text.split_once('>').unwrap();
        (from.to_owned(), to.to_owned())
    };
    let edges: BTreeSet<_> = ["a>b", "b>c", "c>b", "c>d", "e>a"].map(edge).into();
    let circle: BTreeSet<_> = ["b".to_owned(), "c".to_owned()].into();
    assert_eq!(circles(&edges), [circle]);
}
