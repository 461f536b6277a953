//! Lines of `sh`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::blocks::{blocks, root};

/// What stands for a command that a document names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rule {
    /// A program of ours, which parses it; with what the command's beginning is short for.
    Program(&'static str, &'static [&'static str]),
    /// A test does it: in this file, where this stands.
    Test(&'static str, &'static str),
    /// Nobody does, because of this.
    Never(&'static str),
}

use Rule::{Never, Program, Test};

/// By the beginning of a command; the first that fits.
const RULES: &[(&str, Rule)] = &[
    ("cargo xtask", Program("xtask", &[])),
    ("weft-control-plane", Program("weft-control-plane", &[])),
    ("weft-node-agent", Program("weft-node-agent", &[])),
    // docs/root-rotation.md's function, and what calls it.
    (
        "rotate() { kubectl --namespace weft-system exec deploy/weft-control-plane",
        Test(
            "tests/tests/kubernetes/main.rs",
            "exec deploy/weft-control-plane -n weft-system -- weft-control-plane rotate-root",
        ),
    ),
    ("rotate", Program("weft-control-plane", &["rotate-root"])),
    ("sleep", Never("what waits needs no test")),
    // deploy/README.md's way out.
    ("kubectl apply -k deploy/uninstall", Never(UNINSTALL)),
    ("kubectl delete -k deploy", Never(UNINSTALL)),
    ("kubectl delete -k deploy/", Never(UNINSTALL)),
    (
        "kubectl --namespace weft-system delete daemonset weft-node-agent",
        Never(UNINSTALL),
    ),
    (
        "kubectl label namespace NAME weft.dev/mesh-",
        Test(
            "tests/tests/kubernetes/main.rs",
            "label namespace shop weft.dev/mesh-",
        ),
    ),
    (
        "kubectl get pods --all-namespaces -o json",
        Never("counts what other tests look at one by one"),
    ),
    (
        "grep -c",
        Never("counts what other tests look at one by one"),
    ),
    (
        "kubectl apply -k deploy/",
        Test(
            "tests/src/cluster/weft.rs",
            "[\"apply\", \"--server-side\", \"-k\", &deploy]",
        ),
    ),
    (
        "kubectl --namespace weft-system rollout status",
        Test("tests/src/cluster/weft.rs", "\"rollout\","),
    ),
    (
        "kubectl --namespace weft-system rollout restart",
        Test("tests/tests/kubernetes/main.rs", "rollout restart"),
    ),
    (
        "kubectl label namespace shop weft.dev/mesh=enabled",
        Test(
            "tests/tests/kubernetes/main.rs",
            "label namespace shop weft.dev/mesh=enabled",
        ),
    ),
    (
        "kubectl label namespace shop weft.dev/mesh-",
        Test(
            "tests/tests/kubernetes/main.rs",
            "label namespace shop weft.dev/mesh-",
        ),
    ),
    (
        "kubectl wait pod --namespace shop --all --for=condition=weft.dev/Captured",
        Test(
            "tests/tests/kubernetes/bed.rs",
            "condition(\"weft.dev/Captured\")",
        ),
    ),
    (
        "kubectl --namespace weft-system create secret generic weft-redis --from-literal=url=",
        Test("tests/tests/deploy.rs", "Secret weft-redis"),
    ),
    (
        "kubectl create namespace weft-system",
        Test("tests/tests/deploy.rs", "namespace.create=true"),
    ),
    (
        "kubectl label namespace weft-system pod-security.kubernetes.io/enforce=privileged",
        Test(
            "deploy/base/namespace.yaml",
            "pod-security.kubernetes.io/enforce: privileged",
        ),
    ),
    (
        "helm install weft deploy/helm/weft --namespace weft-system",
        Test(
            "tests/tests/deploy.rs",
            "the_chart_makes_the_same_objects_as_the_kustomization",
        ),
    ),
    (
        "cargo +nightly fuzz",
        Never("runs until it finds something; nightly only"),
    ),
    (
        "cargo fuzz",
        Never("runs until it finds something; nightly only"),
    ),
    ("cargo install cargo-fuzz", Never("installs a tool")),
];

const UNINSTALL: &str =
    "takes Weft off a cluster; what it runs on nodes is tested in node-agent/tests/redirect";

/// The commands of all documents, each with where it stands.
fn commands() -> Vec<(String, Vec<String>)> {
    let mut all = Vec::new();
    for block in blocks("sh") {
        for command in split(&block.text) {
            all.push((block.to_string(), command));
        }
    }
    all
}

fn rule(command: &[String]) -> Option<Rule> {
    let line = command.join(" ");
    let fits = |beginning: &str| {
        let rest = line.strip_prefix(beginning);
        rest.is_some_and(|rest| {
            rest.is_empty() || rest.starts_with(' ') || beginning.ends_with(['/', '='])
        })
    };
    RULES
        .iter()
        .find(|(beginning, _)| fits(beginning))
        .map(|(_, rule)| *rule)
}

#[test]
fn every_command_has_a_rule_and_every_rule_a_test_or_a_reason() {
    let commands = commands();
    for (place, command) in &commands {
        let line = command.join(" ");
        assert!(
            rule(command).is_some(),
            "{place}: nothing is known about `{line}`: add a rule to tests/tests/documents/commands.rs"
        );
    }
    for (beginning, rule) in RULES {
        match rule {
            Test(file, what) => {
                let text = fs::read_to_string(root().join(file)).unwrap();
                assert!(
                    text.contains(what),
                    "{file} doesn't do `{beginning}` any more"
                );
            }
            Never(why) => assert!(!why.is_empty()),
            Program(..) => {}
        }
    }
}

/// The program itself parses the line, up to the `--help` at its end.
#[test]
#[cfg_attr(not(feature = "end-to-end"), ignore = "needs the programs built")]
fn our_programs_take_the_command_lines_that_documents_name() {
    let test = std::env::current_exe().unwrap();
    let programs: PathBuf = test.ancestors().nth(2).unwrap().into();
    let mut count = 0;
    for (place, command) in commands() {
        let Some(Program(program, before)) = rule(&command) else {
            continue;
        };
        // `cargo xtask` are two words, a function's name is one.
        let words = if command[0] == "cargo" { 2 } else { 1 };
        let arguments = &command[words..];
        let output = Command::new(programs.join(program))
            .args(before)
            .args(arguments)
            .arg("--help")
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{place}: `{}`: {error}",
            command.join(" ")
        );
        count += 1;
    }
    assert!(count > 5, "{count}");
}

/// The commands of a script, as words. As much of a shell as documents use: comments,
/// quotes, continued lines, `&&`, and files that output goes to, which are left out. A
/// function's definition is one command.
fn split(script: &str) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    for line in script.replace("\\\n", " ").lines() {
        if line.contains("() {") {
            commands.push(line.split_whitespace().map(str::to_owned).collect());
            continue;
        }
        let mut command = Vec::new();
        let mut words = words(line).into_iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "&&" | "|" | ";" => commands.push(std::mem::take(&mut command)),
                ">" => _ = words.next(),
                _ => command.push(word),
            }
        }
        commands.push(command);
    }
    commands.retain(|command| !command.is_empty());
    commands
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            ('#', None) if word.is_empty() => break,
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (c, None) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            (c, _) => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[test]
fn a_script_is_split_as_a_shell_would() {
    let script = "a -b 'c d'   # e\n\n# f\ng \\\n  --h > i && j\nk() { l \"$@\"; }\n";
    let expected: Vec<Vec<&str>> = vec![
        vec!["a", "-b", "c d"],
        vec!["g", "--h"],
        vec!["j"],
        vec!["k()", "{", "l", "\"$@\";", "}"],
    ];
    assert_eq!(split(script), expected);
}
