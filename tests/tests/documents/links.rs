//! Links between documents.

use std::fs;
use std::path::Path;

use crate::blocks::{Document, document, documents, root};

/// Targets of links in a document, with their lines; those to other sites left out.
fn links(document: &Document) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in document.prose() {
        for rest in line.split("](").skip(1) {
            let target = rest.split(')').next().unwrap_or_default();
            if !target.contains("://") {
                found.push((number, target.to_owned()));
            }
        }
    }
    found
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
            title
                .chars()
                .filter(kept)
                .collect::<String>()
                .replace(' ', "-")
        })
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    for document in documents() {
        let folder = root().join(Path::new(&document.file).parent().unwrap());
        for (number, target) in links(&document) {
            let place = format!("{}:{number}", document.file);
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = match path.is_empty() {
                true => root().join(&document.file),
                false => folder.join(path),
            };
            assert!(path.exists(), "{place}: there is no {}", path.display());
            if !anchor.is_empty() {
                let anchors = anchors(&fs::read_to_string(&path).unwrap());
                assert!(
                    anchors.iter().any(|known| known == anchor),
                    "{place}: no `#{anchor}` in {}: {anchors:?}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn the_index_has_every_page_of_the_manual() {
    let index = links(&document("docs/README.md"));
    for page in documents() {
        if let Some(name) = page.file.strip_prefix("docs/") {
            let is_there = name == "README.md" || index.iter().any(|(_, target)| target == name);
            assert!(is_there, "docs/README.md has no link to {name}");
        }
    }
}
