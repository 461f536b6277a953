//! Clients and servers that others wrote, as Debian packages them or as their Go modules build:
//! what they say and how they end is the same with and without the mesh, or stands in `differences.rs`.
//!
//! * [`case`]: a server, and what clients do with it
//! * [`bed`]: pods in the mesh, and pods beside it for the control
//! * [`outcome`]: what both ends saw
//! * [`files`]: configurations of servers, and sources of clients
//! * [`web`], [`stores`], [`brokers`], [`transfer`]: servers that start at once, and their cases
//! * [`languages`], [`databases`], [`shells`], [`rabbitmq`], [`grpc`], [`http2`]: others, for the
//!   test in `slow.rs`

mod bed;
mod brokers;
mod case;
mod databases;
mod files;
mod grpc;
mod http2;
mod languages;
mod outcome;
mod rabbitmq;
mod shells;
#[cfg(feature = "slow-programs")]
mod slow;
mod stores;
mod transfer;
mod web;

use std::collections::BTreeSet;
use std::path::Path;

use crate::bed::WAYS;
use crate::findings::{Findings, for_each_of};
use bed::{Bed, Ends, PODS, Running, control};
pub(crate) use case::Case;
use case::Server;
use outcome::Outcome;

/// Servers that are asked at the same time.
const THREADS: usize = 4;
/// How often a case is run without the mesh until both its servers show the same.
const MOST_CONTROLS: usize = 3;
/// Runs a part of them: those of the servers whose names are in it.
const ONLY: &str = "WEFT_TEST_SERVERS";

/// Servers that start at once, with clients that do.
const QUICK: [&[Server]; 4] = [
    web::SERVERS,
    transfer::SERVERS,
    stores::SERVERS,
    brokers::SERVERS,
];
/// The others.
const SLOW: [&[Server]; 6] = [
    languages::SERVERS,
    databases::SERVERS,
    shells::SERVERS,
    rabbitmq::SERVERS,
    grpc::SERVERS,
    http2::SERVERS,
];

/// All cases.
pub(crate) fn cases() -> impl Iterator<Item = &'static Case> {
    let servers = QUICK.iter().chain(&SLOW).copied().flatten();
    servers.flat_map(|server| server.cases)
}

#[test]
fn programs_of_others_see_what_they_see_without_a_mesh() {
    compare_servers(&QUICK);
}

/// Compares all cases of some servers.
fn compare_servers(servers: &[&'static [Server]]) {
    let only = std::env::var(ONLY).unwrap_or_default();
    let is_wanted =
        |server: &&Server| only.is_empty() || only.split(',').any(|name| name == server.name);
    let servers: Vec<_> = servers
        .iter()
        .copied()
        .flatten()
        .filter(is_wanted)
        .collect();
    let missing = missing_packages(&servers);
    assert!(missing.is_empty(), "missing; apt-get install {missing:?}");
    let (bed, findings) = (Bed::start(&servers), Findings::default());
    for_each_of(&servers, THREADS, |server| {
        let running = bed.serve(server);
        for case in server.cases {
            compare(&bed, server, case, &running, &findings);
        }
    });
    findings.assert_as_known(|name| {
        let mut cases = servers.iter().flat_map(|server| server.cases);
        cases.any(|case| case.name == name)
    });
}

fn compare(
    bed: &Bed,
    server: &Server,
    case: &'static Case,
    running: &[Running],
    findings: &Findings,
) {
    let at = |pod: &str| running.iter().find(|running| running.pod == pod).unwrap();
    let call = |ends: &Ends, pod: &str| bed.call(server, case, ends, at(pod));
    let control_run = || PODS.map(|(name, _)| call(&Ends::control(name), &control(name)));
    let is_steady = |[first, second]: &[Outcome; 2]| {
        first.is_whole() && first.differences_from(second, case).is_empty()
    };
    let mut controls = control_run();
    // Once in a thousand times some of them fail by themselves.
    for _ in 1..MOST_CONTROLS {
        if is_steady(&controls) {
            break;
        }
        controls = control_run();
    }
    if !is_steady(&controls) {
        let [first, second] = &controls;
        let problem = format!("{}, without the mesh: {first:?}, {second:?}", case.name);
        return findings.add_problem(problem);
    }
    for way in WAYS {
        let index = PODS.iter().position(|(name, _)| *name == way.server);
        let control = &controls[index.unwrap()];
        let outcome = call(&Ends::of_way(way), way.server);
        for property in control.differences_from(&outcome, case) {
            let without = control.value(property, &outcome);
            let within = outcome.value(property, control);
            findings.add(case.name, way, property, [&without, &within]);
        }
    }
}

/// The packages of programs that aren't there.
fn missing_packages(servers: &[&Server]) -> BTreeSet<&'static str> {
    let path = std::env::var("PATH").unwrap_or_default();
    let is_there = |program: &str| {
        path.split(':')
            .any(|folder| Path::new(folder).join(program).exists())
    };
    let programs = servers.iter().flat_map(|server| server.programs);
    let missing = programs.filter(|(program, _)| !is_there(program));
    missing.map(|(_, package)| *package).collect()
}

#[test]
fn ci_installs_each_program() {
    let script = include_str!("../../../.ci/run");
    let servers = QUICK.iter().chain(&SLOW).copied().flatten();
    let programs = servers.flat_map(|server| server.programs);
    // Go's and Python's programs are those of other suites, too.
    let others = programs.filter(|(program, _)| !["go", "python3"].contains(program));
    let missing: BTreeSet<_> = others
        .map(|(program, package)| format!("{program}:{package}"))
        .filter(|pair| {
            !script
                .split_whitespace()
                .any(|word| word.trim_end_matches(';') == pair)
        })
        .collect();
    assert!(missing.is_empty(), "not in .ci/run: {missing:?}");
}
