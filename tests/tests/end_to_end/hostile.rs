//! One pod, or a stranger from outside of the mesh, that floods, fills and lies, beside a pod
//! under load on the same node. Each attack is compared with as much traffic that is meant
//! well: the machine's cores are few, and whoever sends much takes some of them in any case.

mod attacks;

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{AgentOptions, Mesh, MeshBuilder, parse_report};
use weft_tests::wait_for;

use self::attacks::Attack;
use super::{LIMIT, address};

/// The node whose agent is attacked.
const NODE: u8 = 2;
/// For how long the victim is watched, with each kind of neighbour.
const WATCHED: Duration = Duration::from_secs(4);
/// The victim's slowest requests may take so many times longer than beside a good neighbour.
const SLOWER: f64 = 2.0;
/// Times that both are watched while the victim is slower beside the attacker.
const ROUNDS: usize = 3;
/// What is no difference on a machine that does other things as well, in milliseconds.
const NOISE: f64 = 50.0;
/// Memory that an attack may take of the agent, in bytes: its limit in the manifests is 1 GiB.
const MEMORY: u64 = 256 << 20;
/// How long kubelet waits for an answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

const MONITORING: u16 = 15020;
const PROBES: u16 = 15021;

/// A victim that serves `client`, and beside it a pod of the attacker's, on one node; the
/// attacker's other pod, and one that isn't in the mesh, on the other node.
fn start() -> Mesh {
    let agents = AgentOptions {
        pinned: false,
        arguments: vec![
            format!("--monitoring=0.0.0.0:{MONITORING}"),
            format!("--probes=127.0.0.1:{PROBES}"),
            "--workers=2".to_owned(),
        ],
    };
    let builder = MeshBuilder::new(2).agents(agents);
    let mut mesh = builder
        .pod(PodSpec::new("client", 1))
        .pod(PodSpec::new("attacker", 1))
        .pod(PodSpec::new("stranger", 1).outside())
        .pod(PodSpec::new("victim", NODE).label("app", "victim"))
        .pod(PodSpec::new("bait", NODE).label("app", "bait"))
        .http_service("victim", &["10.96.0.10"], "victim", &[(80, 8080)])
        .http_service("bait", &["10.96.0.11"], "bait", &[(80, 8080)])
        .http_service("labels", &["10.96.0.12"], "bait", &[(80, 8081)])
        .start()
        .unwrap();
    for pod in ["victim", "bait"] {
        let line = ["http", "--listen", "[::]:8080", "--name", pod];
        mesh.serve(pod, &line).unwrap();
    }
    mesh.serve("bait", &["echo", "--listen", "[::]:9000"])
        .unwrap();
    mesh
}

/// How the victim and its node's agent fared.
#[derive(Debug)]
struct Fate {
    failed: u64,
    errors: Value,
    requests: u64,
    /// Milliseconds.
    p99: f64,
    /// Most memory that the agent had, in bytes.
    memory: u64,
    /// The slowest answer to a probe; how many failed.
    slowest_probe: Duration,
    failed_probes: Vec<String>,
}

/// Watches the victim while something else happens.
fn watch(mesh: &Mesh, neighbour: impl Fn(&Mesh, &AtomicBool) + Sync) -> Fate {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| neighbour(mesh, &stop));
        let fate = watch_steps(mesh, |_, _| thread::sleep(Duration::from_millis(100)));
        stop.store(true, Ordering::Relaxed);
        fate
    })
}

/// Watches the victim while something is done step by step, which gets the step's number.
fn watch_steps<M: Deref<Target = Mesh>>(mut mesh: M, mut step: impl FnMut(&mut M, u32)) -> Fate {
    let line = [
        "requests",
        "--to=10.96.0.10:80",
        "--rate=100",
        "--warm-up=10",
    ];
    let mut client = mesh.spawn("client", &line).unwrap();
    client.wait_for_text("started", LIMIT).unwrap();
    let (mut memory, mut slowest, mut failed_probes) = (0, Duration::ZERO, Vec::new());
    let end = Instant::now() + WATCHED;
    for number in 0.. {
        if Instant::now() >= end {
            break;
        }
        let began = Instant::now();
        if let Err(error) = probe(&mesh) {
            failed_probes.push(error);
        }
        slowest = slowest.max(began.elapsed());
        memory = memory.max(resident(mesh.agent_pid(NODE).unwrap()));
        step(&mut mesh, number);
    }
    client.close_input();
    let report = parse_report(&client.finish(LIMIT).unwrap()).unwrap();
    Fate {
        failed: report["tally"]["failed"].as_u64().unwrap(),
        errors: report["tally"]["errors"].clone(),
        requests: report["tally"]["ok"].as_u64().unwrap(),
        p99: report["p99_us"].as_f64().unwrap_or_default() / 1000.0,
        memory,
        slowest_probe: slowest,
        failed_probes,
    }
}

/// Asks as kubelet does, from the node itself.
fn probe(mesh: &Mesh) -> Result<(), String> {
    let place = mesh.topology().node(NODE).unwrap().host.place();
    let url = format!("http://127.0.0.1:{PROBES}/healthz");
    let seconds = PROBE_TIMEOUT.as_secs().to_string();
    let line = ["curl", "-sS", "--fail", "--max-time", &seconds, &url];
    let answer = place
        .output(&line, LIMIT)
        .map_err(|error| error.to_string());
    answer.map(drop)
}

/// Bytes of memory that a process has.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kibibytes.unwrap().trim().parse::<u64>().unwrap() << 10
}

/// The attacker's pod as one that means well: as many requests as it gets answers.
fn good_neighbour(mesh: &Mesh, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let line = [
            "load",
            "--to=10.96.0.11:80",
            "--requests=500",
            "--parallel=8",
        ];
        mesh.report("attacker", &line).unwrap();
    }
}

/// The victim beside that attacker fares as beside a good neighbour; each attack in a mesh
/// of its own, so that none has to do with what another left. What else the machine does
/// makes some requests slow: an attack that does so slows each round, so one round without
/// is enough. Everything else holds in every round.
fn withstands(attack: Attack) {
    withstands_in(&mut start(), |mesh| watch(mesh, attack));
}

fn withstands_in(mesh: &mut Mesh, mut attacked: impl FnMut(&mut Mesh) -> Fate) {
    let mut rounds = Vec::new();
    let is_slower = |before: &Fate, beside: &Fate| beside.p99 > (SLOWER * before.p99).max(NOISE);
    while rounds.len() < ROUNDS {
        let (before, beside) = (watch(mesh, good_neighbour), attacked(mesh));
        let shown = format!("before: {before:#?}\nbeside: {beside:#?}");
        let failures = (beside.failed, &beside.errors);
        assert_eq!(failures, (0, &Value::Array(Vec::new())), "{shown}");
        assert!(before.requests.min(beside.requests) > 20, "{shown}");
        assert!(beside.memory < before.memory + MEMORY, "{shown}");
        assert!(beside.failed_probes.is_empty(), "{shown}");
        assert!(beside.slowest_probe < PROBE_TIMEOUT, "{shown}");
        if !is_slower(&before, &beside) {
            return;
        }
        rounds.push(shown);
    }
    panic!("slower in each round:\n{}", rounds.join("\n"));
}

/// Where the attacker's own pod beside the victim listens.
fn bait_at(mesh: &Mesh, port: u16) -> SocketAddr {
    address(mesh, "bait", port)
}

macro_rules! withstood {
    ($($name:ident: $attack:path;)*) => {
        $(
            #[test]
            fn $name() {
                withstands($attack);
            }
        )*
    };
}

withstood! {
    handshakes_that_never_end_leave_the_victim_alone: attacks::half_open_handshakes;
    connections_that_say_nothing_leave_the_victim_alone: attacks::silent_connections;
    many_streams_in_one_tunnel_leave_the_victim_alone: attacks::many_streams;
    answers_that_nobody_reads_leave_the_victim_alone: attacks::unread_answers;
    streams_that_are_reset_at_once_leave_the_victim_alone: attacks::reset_streams;
    large_heads_leave_the_victim_alone: attacks::large_heads;
    heads_that_come_byte_by_byte_leave_the_victim_alone: attacks::slow_heads;
    refused_connects_leave_the_victim_alone: attacks::refused_connects;
    new_connections_without_end_leave_the_victim_alone: attacks::new_connections;
    ever_new_labels_leave_the_victim_alone: attacks::ever_new_labels;
    a_flood_of_the_monitoring_port_leaves_the_victim_alone: attacks::monitoring_flood;
    requests_that_are_cancelled_at_once_leave_the_victim_alone: attacks::cancelled_requests;
    clients_that_leave_their_requests_leave_the_victim_alone: attacks::left_requests;
    plaintext_that_nobody_reads_leaves_the_victim_alone: attacks::unread_plaintext;
}

/// A pod whose capture ends and begins again and again, while others connect to it.
#[test]
fn a_pod_that_joins_and_leaves_without_end_leaves_the_victim_alone() {
    let mut mesh = start();
    let bait = || PodSpec::new("bait", NODE).label("app", "bait");
    withstands_in(&mut mesh, |mesh| {
        let to = format!("--to={}", bait_at(mesh, 9000));
        let line = ["hold", &to, "--connections=50", "--wait"];
        let _held = mesh.spawn("attacker", &line).unwrap();
        watch_steps(mesh, |mesh, number| {
            let pod = if number % 2 == 0 {
                bait().outside()
            } else {
                bait()
            };
            mesh.apply_pod(pod).unwrap();
            thread::sleep(Duration::from_millis(100));
        })
    });
    // As it was told last, and whole.
    mesh.apply_pod(bait()).unwrap();
    mesh.wait_ready().unwrap();
    let to = format!("--to={}", bait_at(&mesh, 9000));
    let report = mesh.report("attacker", &["hold", &to, "--connections=5"]);
    assert_eq!(report.unwrap()["held"], 5);
}

/// Descriptors that a process has.
fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count()
}

/// Waits until an agent has nothing of pods of that name any more, and about as many descriptors as
/// before.
fn nothing_is_left_of(mesh: &Mesh, name: &str, before: usize) {
    wait_for("nothing to be left of it", LIMIT, || {
        let connections = mesh.agent_get(NODE, "/connections").unwrap();
        let metrics = mesh.agent_get(NODE, "/metrics").unwrap();
        let in_use = descriptors(mesh.agent_pid(NODE).unwrap());
        let series = metrics.lines().filter(|line| line.contains(name));
        // Those that the bait keeps tell of who was connected to it.
        let series: Vec<_> = series
            .filter(|line| !line.contains("reporter=\"destination\""))
            .collect();
        match !connections.contains(name) && series.is_empty() && in_use < before + 30 {
            true => Ok(()),
            false => Err(format!(
                "{in_use} descriptors, at first {before}; {series:#?}; {connections}"
            )),
        }
    })
    .unwrap();
}

/// A pod that floods and is gone in the middle of it, and another one at its address.
#[test]
fn what_a_pod_held_is_free_once_it_has_left_in_the_middle_of_its_flood() {
    const CONNECTIONS: usize = 300;
    const LEAVER: &str = "leaver";
    let mut mesh = start();
    let before = descriptors(mesh.agent_pid(NODE).unwrap());
    let leaver = |number: u32| format!("{LEAVER}-{number}");
    let pod = |name: &str| PodSpec::new(name, NODE).label("app", LEAVER);
    let mut left = 0;
    mesh.apply_pod(pod(&leaver(0))).unwrap();
    mesh.wait_ready().unwrap();
    withstands_in(&mut mesh, |mesh| {
        let number = format!("--connections={CONNECTIONS}");
        let (unread, held) = (format!("--to={}", bait_at(mesh, 9000)), "--wait");
        let mut flooding = Vec::new();
        watch_steps(mesh, |mesh, step| match step % 8 {
            0 => {
                let lines = [
                    vec!["hold", &unread, &number, held],
                    vec![
                        "connect-rate",
                        &unread,
                        "--milliseconds=60000",
                        "--parallel=8",
                    ],
                ];
                let name = leaver(left);
                flooding.extend(lines.iter().map(|line| mesh.spawn(&name, line).unwrap()));
            }
            4 => {
                let former = leaver(left);
                left += 1;
                // The next one gets its addresses.
                mesh.delete_pod(&former).unwrap();
                mesh.withdraw_pod(&former).unwrap();
                mesh.apply_pod(pod(&leaver(left))).unwrap();
                flooding.clear();
                mesh.wait_ready().unwrap();
            }
            _ => thread::sleep(Duration::from_millis(150)),
        })
    });
    assert!(left > 0);
    // The one that has the address now is served, and is nobody else.
    let name = leaver(left);
    let to = format!("--to={}", bait_at(&mesh, 9000));
    let report = mesh.report(&name, &["hold", &to, "--connections=5"]);
    assert_eq!(report.unwrap()["held"], 5);
    mesh.withdraw_pod(&name).unwrap();
    mesh.wait_ready().unwrap();
    mesh.delete_pod(&name).unwrap();
    nothing_is_left_of(&mesh, LEAVER, before);
}

/// Prometheus gets its scrape; at times, where it has the flood's own address.
#[test]
fn a_scrape_gets_through_a_flood_of_slow_clients() {
    const SCRAPES: usize = 10;
    let mesh = start();
    let stop = AtomicBool::new(false);
    let node = mesh.topology().node(NODE).unwrap().host.ipv4();
    let url = format!("http://{node}:{MONITORING}/metrics");
    let line = ["curl", "-sS", "--fail", "--max-time", "5", &url];
    let is_whole = |from| {
        let metrics = mesh.run(from, &line);
        metrics.is_ok_and(|text| text.ends_with("# EOF\n"))
    };
    let whole = thread::scope(|scope| {
        scope.spawn(|| attacks::monitoring_flood(&mesh, &stop));
        let whole =
            ["stranger", "attacker"].map(|from| (0..SCRAPES).filter(|_| is_whole(from)).count());
        stop.store(true, Ordering::Relaxed);
        whole
    });
    assert_eq!(whole[0], SCRAPES, "{whole:?}");
    assert!(whole[1] >= SCRAPES / 5, "{whole:?}");
}
