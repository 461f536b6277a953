//! docs/kernel-maps.md has every map of the programs, each with a test that there is.

use std::collections::BTreeSet;
use std::fs;

use crate::blocks::{document, root};

const PAGE: &str = "docs/kernel-maps.md";
const MAPS: &str = "ebpf/programs/src/maps.rs";
/// Where the tests are that the page names.
const TESTS: [&str; 4] = [
    "node-agent/tests/redirect/full.rs",
    "node-agent/tests/redirect/held.rs",
    "node-agent/tests/redirect/unknown.rs",
    "ebpf/common/src/finding.rs",
];

fn maps_in_programs() -> BTreeSet<String> {
    let source = fs::read_to_string(root().join(MAPS)).unwrap();
    let names = source.lines().filter_map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let (name, _) = line.strip_prefix("static ")?.split_once(':')?;
        Some(name.to_owned())
    });
    names.collect()
}

/// The cells of rows that begin with a map's name, without their code marks.
fn rows() -> Vec<Vec<String>> {
    let page = document(PAGE);
    let rows = page.text.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| {
        let cells = row.trim_matches('|').split(" | ");
        cells.map(|cell| cell.trim().trim_matches('`').to_owned())
    });
    cells.map(Iterator::collect).collect()
}

#[test]
fn every_map_has_a_row_and_no_other() {
    let documented: BTreeSet<_> = rows().into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(documented, maps_in_programs());
}

#[test]
fn every_row_of_a_map_names_a_test_that_there_is() {
    let tests = TESTS.map(|path| fs::read_to_string(root().join(path)).unwrap());
    for row in rows() {
        assert_eq!(row.len(), 6, "{row:?}");
        let test = format!("fn {}()", row[5]);
        assert!(tests.iter().any(|source| source.contains(&test)), "{test}");
    }
}
