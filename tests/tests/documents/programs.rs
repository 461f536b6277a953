//! Command lines of our own programs, parsed by these; other lines of Cargo's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use crate::blocks::documents;
use crate::script::{Checker, scripts, split};

/// Our programs, and the words that call each.
const PROGRAMS: [(&str, &[&str]); 4] = [
    ("xtask", &["cargo", "xtask"]),
    ("weft-control-plane", &["weft-control-plane"]),
    ("weft-node-agent", &["weft-node-agent"]),
    ("weft-sidecar", &["weft-sidecar"]),
];

/// Lines of Cargo's own that documents may have, and why no test runs them.
const CARGO: [(&str, &str); 4] = [
    (
        "cargo build --workspace --bins",
        "whoever runs the tests has",
    ),
    ("cargo build --release", "how programs are published"),
    ("cargo fmt --all --check", "CI does"),
    ("cargo clippy --workspace --all-targets", "CI does"),
];
/// Beginnings of lines of Cargo's own that documents may have, and why no test runs them.
const CARGO_BEGINNINGS: [(&str, &str); 1] =
    [("cargo +nightly fuzz run ", "runs until it finds something")];

/// Where programs under test are.
pub(crate) fn programs() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().into()
}

/// A program that Cargo has built, with none of the variables that set its flags.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(programs().join(name));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("WEFT_") {
            command.env_remove(variable);
        }
    }
    command
}

/// The program that a command line is of, with its arguments.
fn of_program(words: &[String]) -> Option<(&'static str, &[String])> {
    PROGRAMS.iter().find_map(|(program, call)| {
        let (first, arguments) = words.split_at_checked(call.len())?;
        (first == *call).then_some((*program, arguments))
    })
}

/// Every command line of a document, and where it stands: in blocks, in what a container is
/// told to run, in prose.
fn command_lines() -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for checker in [Checker::Cargo, Checker::Cluster, Checker::Playground] {
        for block in scripts(checker) {
            for command in split(&block.text) {
                let inside = command.iter().position(|word| word == "--");
                let inside = inside.map(|at| command[at + 1..].to_vec());
                let line = command.join(" ");
                if let Some(inside) = inside.filter(|_| checker == Checker::Cluster) {
                    found.insert(format!("{block}: `{line}`, inside"), inside);
                }
                found.insert(format!("{block}: `{line}`"), command);
            }
        }
    }
    // What changed once may have changed again.
    let documents = documents().into_iter();
    for document in documents.filter(|document| document.file != "CHANGELOG.md") {
        for (number, code) in document.inline_code() {
            let words = code.split_whitespace().map(str::to_owned).collect();
            found.insert(format!("{}:{number}: `{code}`", document.file), words);
        }
    }
    found
}

#[test]
fn cargo_is_asked_for_nothing_that_is_not_known() {
    for block in scripts(Checker::Cargo) {
        for command in split(&block.text) {
            let line = command.join(" ");
            let is_known = of_program(&command).is_some()
                || CARGO.iter().any(|(known, _)| *known == line)
                || CARGO_BEGINNINGS
                    .iter()
                    .any(|(known, _)| line.starts_with(known));
            assert!(is_known, "{block}: add `{line}` to {}", file!());
        }
    }
}

/// The program itself parses the line, up to the `--help` at its end. What a line lacks is
/// missed by the playground.
#[test]
#[cfg_attr(not(feature = "end-to-end"), ignore = "needs the programs built")]
fn our_programs_take_the_command_lines_that_documents_name() {
    let mut count = 0;
    for (place, words) in command_lines() {
        // The name alone is a name.
        let Some((name, arguments)) = of_program(&words).filter(|found| !found.1.is_empty()) else {
            continue;
        };
        let output = program(name).args(arguments).arg("--help").output();
        let output = output.unwrap_or_else(|error| panic!("{name}: {error}"));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{place}: {error}");
        count += 1;
    }
    assert!(count > 20, "{count}");
}
