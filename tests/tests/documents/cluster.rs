//! Lines of kubectl and Helm. Both parse all of them; kubectl runs against a real API
//! server what needs no node.

use std::path::Path;
use std::process::{Command, Output};

use weft_provision::go::Kit;
use weft_tests::cluster::{ApiServer, ApiServerOptions, Binaries};

use crate::blocks::{Block, root};
use crate::script::{Checker, scripts, split};

/// What of kubectl needs a kubelet or a scheduler: two words where the first alone doesn't
/// say it.
const NEEDS_A_NODE: [&str; 4] = ["exec", "logs", "port-forward", "rollout status"];
/// Flags of kubectl's that are written before its command, and take a word.
const GLOBAL_FLAGS: [&str; 2] = ["--namespace", "--kubeconfig"];
/// What the pages take for granted: a namespace with a pod.
const SHOP: &str = include_str!("shop.yaml");
/// What the pod's agent has reported.
const CAPTURED: &str =
    r#"{"status": {"conditions": [{"type": "weft.dev/Captured", "status": "True"}]}}"#;

fn binaries(kits: &[Kit]) -> Binaries {
    let mut binaries = Binaries::api_server(root()).unwrap();
    for kit in kits {
        binaries.add_kit(root(), *kit).unwrap();
    }
    binaries
}

/// Pages in the order in which somebody needs them: what is installed first is used by
/// all others, and taken away last.
fn pages() -> Vec<Block> {
    let mut blocks = scripts(Checker::Cluster);
    let order = |file: &str| match file {
        "README.md" => 0,
        "docs/install.md" => 1,
        "docs/uninstall.md" => 3,
        _ => 2,
    };
    blocks.sort_by_key(|block| order(&block.file));
    blocks
}

/// The command of kubectl's without flags before it: `rollout status` of
/// `--namespace shop rollout status ...`.
fn verb(words: &[String]) -> String {
    let mut words = words.iter();
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        if GLOBAL_FLAGS.contains(&word.as_str()) {
            words.next();
        } else if !word.starts_with('-') {
            found.push(word.as_str());
        }
    }
    found.truncate(2);
    found.join(" ")
}

fn needs_a_node(words: &[String]) -> bool {
    let verb = verb(words);
    NEEDS_A_NODE
        .iter()
        .any(|known| verb == *known || verb.split(' ').next() == Some(known))
}

/// The line with `--help` at the end of its own flags: the program parses it and does no
/// more.
fn with_help(words: &[String]) -> Vec<&str> {
    let own = words.iter().position(|word| word == "--");
    let (own, inside) = words.split_at(own.unwrap_or(words.len()));
    let words = own.iter().chain(inside).map(String::as_str);
    let mut line: Vec<_> = words.collect();
    line.insert(own.len(), "--help");
    line
}

fn run(program: &Path, arguments: &[&str], kubeconfig: &Path) -> Output {
    let mut command = Command::new(program);
    command
        .current_dir(root())
        .env("KUBECONFIG", kubeconfig)
        .args(arguments);
    command.output().unwrap()
}

#[test]
#[cfg_attr(not(feature = "deploy"), ignore = "needs programs of Go")]
fn kubectl_and_helm_take_the_command_lines_that_documents_name() {
    let binaries = binaries(&[Kit::Helm]);
    let mut count = 0;
    for block in pages() {
        for words in split(&block.text) {
            let program = match words[0].as_str() {
                "helm" => "helm/helm",
                _ => "kubernetes/kubectl",
            };
            let program = binaries.path(program).unwrap();
            let output = run(program, &with_help(&words[1..]), Path::new("/dev/null"));
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success(),
                "{block}: `{}`: {error}",
                words.join(" ")
            );
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
#[cfg_attr(not(feature = "deploy"), ignore = "needs programs of Go")]
fn what_needs_no_node_works_on_a_real_api_server() {
    let options = ApiServerOptions {
        controllers: true,
        ..ApiServerOptions::default()
    };
    let binaries = binaries(&[Kit::ControllerManager]);
    let server = ApiServer::start_with(&binaries, &options).unwrap();
    server.kubectl().apply(SHOP).unwrap();
    let patch = format!("--patch={CAPTURED}");
    let report = [
        "patch",
        "pod",
        "web",
        "-n=shop",
        "--subresource=status",
        &patch,
    ];
    server.kubectl().run(&report).unwrap();
    let program = binaries.path("kubernetes/kubectl").unwrap();
    let mut count = 0;
    for block in pages() {
        for words in split(&block.text) {
            if words[0] == "helm" || needs_a_node(&words[1..]) {
                continue;
            }
            let arguments: Vec<_> = words[1..].iter().map(String::as_str).collect();
            let output = run(program, &arguments, server.kubeconfig());
            let error = String::from_utf8_lossy(&output.stderr);
            // Pages have several ways to install the same.
            assert!(
                output.status.success() || error.contains("(AlreadyExists)"),
                "{block}: `{}`: {error}",
                words.join(" ")
            );
            count += 1;
        }
    }
    assert!(count > 10, "{count}");
}

#[test]
fn what_a_line_of_kubectl_does_is_seen_behind_its_flags() {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let needs = |line: &str| needs_a_node(&words(line));
    assert!(needs("--namespace weft-system rollout status daemonset/x"));
    assert!(needs("exec deploy/x -- rollout restart"));
    assert!(!needs("--namespace=x rollout restart daemonset/x"));
    assert!(!needs("delete -k deploy"));
    let line = words("exec x -- weft run");
    assert_eq!(
        with_help(&line),
        ["exec", "x", "--help", "--", "weft", "run"]
    );
}
