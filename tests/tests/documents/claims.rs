//! What a page promises is shown by a test that it names, and that test is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::blocks::{documents, root};

/// Folders whose tests a page may name.
const FOLDERS: [&str; 12] = [
    "admin",
    "control-plane",
    "ebpf",
    "http-guard",
    "model",
    "node-agent",
    "proto",
    "proxy",
    "sidecar",
    "testing",
    "tests",
    "xtask",
];
/// Underscores that tell the name of a test, which is a sentence, from other names in code.
const SENTENCE: usize = 4;

/// Names of all tests in sources below a folder.
fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.extend(tests_of(&fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Functions below an attribute of a test, those that generate their input included, and the lines
/// `NAME: FUNCTION;` of a macro that makes a test of each.
fn tests_of(source: &str) -> Vec<String> {
    let mut is_test = false;
    let mut found = Vec::new();
    for line in source.lines().map(str::trim) {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let function = line.trim_start_matches("async ").strip_prefix("fn ");
        if let (true, Some(function)) = (is_test, function) {
            is_test = false;
            let name = function.split(['(', '<']).next().unwrap_or_default();
            found.push(name.to_owned());
        }
        let made = line
            .strip_suffix(';')
            .and_then(|line| line.split_once(": "));
        if let Some((name, _)) = made.filter(|(name, _)| is_sentence(name)) {
            found.push(name.to_owned());
        }
    }
    found
}

fn is_sentence(code: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    code.bytes().all(is_name) && code.matches('_').count() >= SENTENCE
}

#[test]
fn every_test_that_a_page_names_is_there() {
    let mut tests = BTreeSet::new();
    for folder in FOLDERS {
        collect(&root().join(folder), &mut tests);
    }
    let mut missing = Vec::new();
    for document in documents() {
        for (line, code) in document.inline_code() {
            let name = code.rsplit("::").next().unwrap_or_default();
            let is_series = name.starts_with("weft_") || name.starts_with("istio_");
            if is_sentence(name) && !is_series && !tests.contains(name) {
                missing.push(format!("{}:{line}: {name}", document.file));
            }
        }
    }
    assert!(missing.is_empty(), "no such tests:\n{}", missing.join("\n"));
}

#[test]
fn every_row_of_a_table_of_claims_names_a_test() {
    for document in documents() {
        let mut is_claims = false;
        for (line, text) in document.prose() {
            let cells: Vec<_> = text.trim_matches('|').split(" | ").map(str::trim).collect();
            let last = cells.last().copied().unwrap_or_default();
            let is_row = text.starts_with("| ");
            is_claims = is_row && (is_claims || last == "test");
            if is_claims && last != "test" && !last.starts_with("---") {
                let names = last.split('`').skip(1).step_by(2);
                assert!(names.count() > 0, "{}:{line}: no test", document.file);
            }
        }
    }
}
