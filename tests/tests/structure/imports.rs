//! Who may use what. A rule for a folder that isn't there yet is one more line.

use crate::modules::Crate;
use crate::packages::{Package, packages};

/// A crate of others that only some of ours may depend on.
struct CrateRule {
    crates: &'static [&'static str],
    only: &'static [&'static str],
    why: &'static str,
}

const CRATES: [CrateRule; 5] = [
    CrateRule {
        crates: &["aya", "aya-log"],
        // The latter for one trait, by a feature that only the former turns on.
        only: &["weft-node-agent", "weft-ebpf-common"],
        why: "only the node agent loads eBPF programs",
    },
    CrateRule {
        crates: &["kube", "k8s-openapi", "schemars"],
        only: &["weft-control-plane"],
        why: "agents know no API server",
    },
    CrateRule {
        crates: &["h2"],
        // The latter plays the other end of tunnels.
        only: &["weft-proxy", "weft-testing"],
        why: "tunnels and HTTP are the proxy's",
    },
    CrateRule {
        crates: &["weft-testing"],
        only: &[],
        why: "it is for tests: a dev-dependency",
    },
    CrateRule {
        crates: &[
            "weft-tests",
            "weft-lab",
            "weft-provision",
            "weft-test-features",
            "xtask",
        ],
        only: &[
            "weft-tests",
            "weft-lab",
            "weft-provision",
            "weft-test-features",
            "xtask",
        ],
        why: "what is published doesn't depend on what tests it",
    },
];

/// What `model` may depend on: nothing that does I/O, knows a clock or an async runtime.
const MODEL: &[&str] = &["fastrand", "http", "regex", "thiserror"];

/// Which of our own crates a crate may depend on.
const OWN: [(&str, &[&str]); 10] = [
    ("weft-model", &[]),
    ("weft-http-guard", &[]),
    ("weft-admin", &[]),
    ("weft-ebpf-common", &[]),
    ("weft-proto", &["weft-model"]),
    (
        "weft-proxy",
        &["weft-admin", "weft-model", "weft-proto", "weft-http-guard"],
    ),
    (
        "weft-node-agent",
        &[
            "weft-admin",
            "weft-ebpf-common",
            "weft-model",
            "weft-proto",
            "weft-proxy",
        ],
    ),
    ("weft-sidecar", &["weft-admin", "weft-model", "weft-proxy"]),
    (
        "weft-control-plane",
        &["weft-admin", "weft-model", "weft-proto"],
    ),
    ("weft-testing", &["weft-model", "weft-proto"]),
];

/// Which of our own crates have tests that may use `weft-testing`: those that it doesn't
/// depend on itself, which would have themselves a second time, with other types.
const TESTED: [&str; 4] = [
    "weft-proxy",
    "weft-node-agent",
    "weft-control-plane",
    "weft-tests",
];

/// Files below one path that must not import files below another, both without extension.
struct ModuleRule {
    below: &'static str,
    /// But for these, which are below it, too.
    but: &'static [&'static str],
    never: &'static [&'static str],
    why: &'static str,
}

/// The file of each kind of objects.
const SINGLE_KINDS: &[&str] = &[
    "control-plane/src/kinds/pod",
    "control-plane/src/kinds/service",
    "control-plane/src/kinds/endpoint_slice",
    "control-plane/src/kinds/namespace",
    "control-plane/src/kinds/node",
    "control-plane/src/kinds/service_account",
    "control-plane/src/kinds/mesh_config",
    "control-plane/src/kinds/traffic_policy",
    "control-plane/src/kinds/external_service",
    "control-plane/src/kinds/route",
];

const MODULES: &[ModuleRule] = &[
    ModuleRule {
        below: "control-plane/src/publish",
        but: &[],
        never: &[
            "control-plane/src/manifest",
            "control-plane/src/kinds",
            "control-plane/src/index",
            "control-plane/src/cluster",
            "control-plane/src/agents",
        ],
        why: "resources are published without knowing what they follow from, or for whom",
    },
    ModuleRule {
        below: "control-plane/src/agents",
        but: &[],
        never: &[
            "control-plane/src/manifest",
            "control-plane/src/kinds",
            "control-plane/src/index",
            "control-plane/src/cluster",
        ],
        why: "the registry of agents knows nothing of the cluster",
    },
    ModuleRule {
        below: "control-plane/src/index",
        but: &[],
        never: &[
            "control-plane/src/cluster",
            "control-plane/src/publish",
            "control-plane/src/captures",
            "control-plane/src/serve",
            "control-plane/src/status",
        ],
        why: "the index is pure: it knows neither locks nor who asks",
    },
    ModuleRule {
        below: "proxy/src/telemetry",
        but: &[],
        never: &[
            "proxy/src/node",
            "proxy/src/pod",
            "proxy/src/inbound",
            "proxy/src/outbound",
        ],
        why: "what happened is recorded without knowing to whom",
    },
    ModuleRule {
        below: "proxy/src/http",
        but: &[],
        never: &[
            "proxy/src/node",
            "proxy/src/pod",
            "proxy/src/inbound",
            "proxy/src/outbound",
        ],
        why: "http/ is mechanism: it knows no pod and no direction",
    },
    ModuleRule {
        below: "control-plane/src/source",
        but: &[],
        never: SINGLE_KINDS,
        why: "a source knows the list of kinds, and no single one",
    },
    ModuleRule {
        below: "control-plane/src/webhook/review",
        but: &[],
        never: SINGLE_KINDS,
        why: "admission knows the list of kinds, and no single one",
    },
    ModuleRule {
        below: "control-plane/src/kinds",
        but: &[],
        never: &[
            "control-plane/src/source",
            "control-plane/src/index",
            "control-plane/src/status",
            "control-plane/src/serve",
        ],
        why: "a kind is read without knowing what is made of it",
    },
    ModuleRule {
        below: "proxy/src/upstream",
        but: &[],
        never: &[
            "proxy/src/inbound",
            "proxy/src/outbound",
            "proxy/src/listen",
        ],
        why: "upstream connections are made by either walk, and know neither",
    },
    ModuleRule {
        below: "proxy/src/inbound",
        but: &[],
        never: &["proxy/src/outbound", "proxy/src/listen"],
        why: "only listen/ knows both walks",
    },
    ModuleRule {
        below: "proxy/src/outbound",
        but: &[],
        never: &["proxy/src/inbound", "proxy/src/listen"],
        why: "only listen/ knows both walks",
    },
    ModuleRule {
        below: "node-agent/src/namespaces",
        but: &[],
        never: &["node-agent/src/pods", "node-agent/src/redirect"],
        why: "a namespace is found without knowing for what",
    },
    ModuleRule {
        below: "node-agent/src/redirect",
        but: &[],
        never: &["node-agent/src/pods"],
        why: "the kernel's part is mechanism: it knows no pod's state",
    },
    ModuleRule {
        below: "node-agent/src/pods/state",
        but: &[],
        never: &["node-agent/src/pods/context", "node-agent/src/redirect"],
        why: "the states of a pod are pure",
    },
    ModuleRule {
        below: "node-agent/src/pods/reconcile",
        but: &[],
        never: &["node-agent/src/pods/context", "node-agent/src/redirect"],
        why: "what is to be done is decided without doing it",
    },
];

/// Crates of others that only some files of a package may name.
struct ForeignRule {
    package: &'static str,
    name: &'static str,
    only_below: &'static [&'static str],
    why: &'static str,
}

const FOREIGN: &[ForeignRule] = &[
    ForeignRule {
        package: "weft-node-agent",
        name: "aya",
        only_below: &["node-agent/src/redirect"],
        why: "redirect/ is the only user-space eBPF code",
    },
    ForeignRule {
        package: "weft-proxy",
        name: "h2",
        // The latter reads hyper's errors, among whose causes they are.
        only_below: &["proxy/src/tunnel", "proxy/src/http/unprocessed"],
        why: "a tunnel is an opaque stream to everybody else",
    },
];

#[test]
fn crates_depend_on_what_they_may() {
    let mut broken = Vec::new();
    for package in packages() {
        let Package {
            name, dependencies, ..
        } = &package;
        for rule in CRATES
            .iter()
            .filter(|rule| !rule.only.contains(&name.as_str()))
        {
            let used = dependencies
                .iter()
                .filter(|used| rule.crates.contains(&used.as_str()));
            broken.extend(used.map(|used| format!("{name} depends on {used}: {}", rule.why)));
        }
        if let Some((_, allowed)) = OWN.iter().find(|(own, _)| own == name) {
            let of_tests = package.dev_dependencies.iter();
            let of_tests = of_tests.filter(|used| *used != "weft-testing");
            let ours = dependencies.iter().chain(of_tests);
            let ours = ours.filter(|used| used.starts_with("weft-"));
            let used = ours.filter(|used| !allowed.contains(&used.as_str()));
            broken
                .extend(used.map(|used| format!("{name} depends on {used}: see ARCHITECTURE.md")));
        }
        let mut of_tests = package.dev_dependencies.iter();
        if of_tests.any(|used| used == "weft-testing") && !TESTED.contains(&name.as_str()) {
            broken.push(format!("{name}'s tests depend on weft-testing: see TESTED"));
        }
        if name == "weft-model" {
            let used = dependencies
                .iter()
                .filter(|used| !MODEL.contains(&used.as_str()));
            broken.extend(used.map(|used| format!("{name} depends on {used}: the model is pure")));
        }
    }
    assert!(
        broken.is_empty(),
        "dependencies against the rules:\n{broken:#?}"
    );
}

#[test]
fn what_only_tests_depend_on_is_told_apart() {
    let all = packages();
    let proxy = all.iter().find(|package| package.name == "weft-proxy");
    let testing = "weft-testing".to_owned();
    assert!(
        proxy.is_some_and(|proxy| proxy.dev_dependencies.contains(&testing)
            && !proxy.dependencies.contains(&testing))
    );
}

#[test]
fn modules_import_what_they_may() {
    let mut broken = Vec::new();
    let mut whys = Vec::new();
    for package in packages() {
        for root in package.crate_roots() {
            let all = Crate::read(&root);
            for (from, to) in all.edges() {
                for rule in MODULES.iter().filter(|rule| rule.is_about(&from)) {
                    if rule.never.iter().any(|never| is_below(&to, never)) {
                        whys.push(rule.why);
                        broken.push((from.clone(), to.clone()));
                    }
                }
            }
            for (file, name) in all.foreign() {
                let rules = FOREIGN.iter().filter(|rule| rule.package == package.name);
                for rule in rules.filter(|rule| rule.name == name) {
                    if !rule.only_below.iter().any(|folder| is_below(&file, folder)) {
                        whys.push(rule.why);
                        broken.push((file.clone(), name.clone()));
                    }
                }
            }
        }
    }
    whys.sort_unstable();
    whys.dedup();
    assert!(
        broken.is_empty(),
        "imports against the rules of imports.rs ({}): {broken:#?}",
        whys.join("; ")
    );
}

impl ModuleRule {
    fn is_about(&self, file: &str) -> bool {
        is_below(file, self.below) && !self.but.iter().any(|but| is_below(file, but))
    }
}

/// Whether a file is `PATH.rs`, or below the folder `PATH`.
fn is_below(file: &str, path: &str) -> bool {
    let rest = file.strip_prefix(path);
    rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}
