//! No dependency is compiled twice for programs and tests: what the demo has compiled, the
//! tests find.
//!
//! By Cargo's own plan of what it would compile, which it prints as an unstable option;
//! nothing is compiled for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::Command;

use serde_json::Value;

use crate::packages::root;

/// Crates of others with the ways that they are compiled in, by name with version and kind
/// of target.
type Compiled = BTreeMap<(String, String), BTreeSet<String>>;

/// Libraries of the code generator's, and elsewhere of proc macros and build scripts, which
/// want other features of them: Cargo keeps the two apart.
const CODE_GENERATOR: [&str; 3] = ["itertools@", "regex-automata@", "syn@3."];

#[test]
fn tests_compile_no_dependency_once_more() {
    let programs = plan(&["build", "--workspace", "--bins"]);
    let features = "--features=weft-node-agent/kernel-tests,weft-control-plane/redis-tests,\
                    weft-tests/end-to-end,weft-tests/api-server,weft-tests/deploy,weft-tests/cluster";
    for tests in [
        &["test", "--workspace", "--no-run", features][..],
        &["test", "--no-run", "-p=weft-proxy", "-p=weft-test-features"],
        &["test", "--no-run", "-p=weft-model", "-p=weft-test-features"],
    ] {
        let mut again = Vec::new();
        for (name, ways) in plan(tests) {
            let known = programs.get(&name).filter(|known| !ways.is_subset(known));
            let may_be = |known: &&str| name.0.starts_with(known);
            if let Some(known) = known.filter(|_| !CODE_GENERATOR.iter().any(may_be)) {
                let new: Vec<_> = ways.difference(known).collect();
                again.push(format!("{name:?}: {new:?}, beside {known:?}"));
            }
        }
        assert!(
            again.is_empty(),
            "`cargo {}` compiles dependencies that `cargo build --workspace --bins` has compiled \
             otherwise. When a feature is the reason, add it to tests/features/Cargo.toml:\n{}",
            tests.join(" "),
            again.join("\n")
        );
    }
}

#[test]
fn what_is_published_has_nothing_that_only_tests_want() {
    for line in [
        &["build", "--release"][..],
        &[
            "build",
            "--release",
            "-p=weft-node-agent",
            "-p=weft-control-plane",
        ],
    ] {
        let plan = plan(line);
        let of = |name: &str| {
            let name = name.to_owned();
            plan.iter()
                .filter(move |((package, _), _)| package.starts_with(&name))
        };
        let tokio: Vec<_> = of("tokio@").collect();
        assert!(
            !tokio.is_empty() && !format!("{tokio:?}").contains("test-util"),
            "{tokio:?}"
        );
        assert_eq!(of("proptest@").count(), 0, "cargo {}", line.join(" "));
    }
}

fn plan(line: &[&str]) -> Compiled {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(line)
        .args(["--offline", "--unit-graph", "-Zunstable-options"])
        .env("RUSTC_BOOTSTRAP", "1")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {}: {error}", line.join(" "));
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let units = plan["units"].as_array().unwrap();
    let mut ways = HashMap::new();
    let mut compiled = Compiled::new();
    for index in 0..units.len() {
        let way = way(units, index, &mut ways);
        let unit = &units[index];
        let id = unit["pkg_id"].as_str().unwrap();
        if id.starts_with("path+") {
            continue;
        }
        let package = id.rsplit(['#', '/']).next().unwrap();
        let package = if package.contains('@') { package } else { id };
        let kind = format!("{} {}", unit["target"]["kind"][0], unit["mode"]);
        let name = (package.to_owned(), kind);
        compiled.entry(name).or_default().insert(way);
    }
    compiled
}

/// How a unit is compiled: version, features and profile, its dependencies' too.
fn way(units: &[Value], index: usize, known: &mut HashMap<usize, String>) -> String {
    if let Some(way) = known.get(&index) {
        return way.clone();
    }
    let unit = &units[index];
    let profile = &unit["profile"];
    let own = format!(
        "{} {} {} {}",
        unit["pkg_id"].as_str().unwrap().rsplit('/').next().unwrap(),
        unit["features"],
        profile["opt_level"],
        profile["debuginfo"]
    );
    let dependencies = unit["dependencies"].as_array().unwrap().iter();
    let mut below: Vec<_> = dependencies
        .map(|dependency| way(units, dependency["index"].as_u64().unwrap() as usize, known))
        .collect();
    below.sort();
    let digest = below
        .iter()
        .flat_map(|way| way.bytes())
        .fold(0_u64, |digest, byte| {
            digest.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte)
        });
    let way = format!("{own} over {digest:016x}");
    known.insert(index, way.clone());
    way
}
