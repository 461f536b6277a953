//! Updates of a node's agent: a successor takes strict pods over while connections that are open
//! go on through its predecessor.

use std::time::{Duration, Instant};

use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{AgentOptions, Mesh, MeshBuilder};
use weft_tests::process::Process;
use weft_tests::wait_until;

use super::{LIMIT, address, curl, record, serve_web};

/// Time for new connections to succeed again, far below the drain deadline of these tests; about a
/// second where nothing else runs.
const SOON: Duration = Duration::from_secs(60);
pub(super) const ECHO: u16 = 7000;

fn strict_mesh(drain_deadline: &str) -> Mesh {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("client", 1))
        .pod(PodSpec::new("web-2", 2))
        .pod(PodSpec::new("outside", 1).outside())
        .strict()
        .agents(AgentOptions {
            pinned: true,
            arguments: vec![format!("--drain-deadline={drain_deadline}")],
        })
        .start()
        .unwrap();
    serve_web(&mut mesh, &["web-2", "client"]);
    for pod in ["web-2", "client"] {
        let listen = format!("[::]:{ECHO}");
        mesh.serve(pod, &["echo", "--listen", &listen]).unwrap();
    }
    mesh
}

/// Runs a program of Python in a pod, with the address of another pod's echo server. It is to end
/// when its input does.
fn python(mesh: &Mesh, name: &str, pod: &str, to: &str, program: &str) -> Process {
    let to = address(mesh, to, ECHO);
    let (host, port) = (to.ip().to_string(), to.port().to_string());
    let program = format!(
        "
import socket, sys, threading, time
to, over = (sys.argv[1], int(sys.argv[2])), threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
{program}"
    );
    let line = ["python3", "-c", &program, &host, &port];
    let place = mesh.pod(pod).unwrap().host.place();
    place.spawn(name, mesh.directory(), &line).unwrap()
}

/// A connection that carries bytes both ways until its input ends.
pub(super) fn long_connection(mesh: &Mesh, from: &str, to: &str) -> Process {
    let program = "
with socket.create_connection(to, 10) as s:
    count = 0
    while not over.is_set():
        s.sendall(b'0123456789')
        read = b''
        while len(read) < 10:
            part = s.recv(10 - len(read))
            if not part: sys.exit('closed after %d' % count)
            read += part
        count += 1
        print(count, flush=True)
        time.sleep(.02)";
    let mut process = python(mesh, &format!("long-{from}"), from, to, program);
    process.wait_for_text("3\n", LIMIT).unwrap();
    process
}

pub(super) fn goes_on(connection: &mut Process) {
    let exchanges = |process: &Process| process.stdout().lines().count();
    let before = exchanges(connection);
    wait_until("a long connection to carry bytes", LIMIT, || {
        assert!(connection.is_running(), "{}", connection.stderr());
        exchanges(connection) > before + 3
    })
    .unwrap();
}

/// Tries to speak to a strict pod in plaintext all the time, and says at its end whether that
/// was ever answered.
fn plaintext_client(mesh: &Mesh) -> Process {
    let program = "
tried = passed = 0
while not over.is_set():
    try:
        with socket.create_connection(to, 2) as s:
            s.settimeout(2)
            s.sendall(b'plain')
            passed += bool(s.recv(5))
    except OSError: pass
    tried += 1
    if tried == 3: print('started', flush=True)
    time.sleep(.002)
print('tried', tried, 'passed', passed)";
    let mut process = python(mesh, "plaintext", "outside", "web-2", program);
    process.wait_for_text("started", LIMIT).unwrap();
    process
}

/// Updates the second node's agent, and waits until its strict pod connects and is connected to
/// through the successor.
fn update(mesh: &mut Mesh) {
    mesh.begin_agent_update(2).unwrap();
    let began = Instant::now();
    let predecessor = mesh.agent_predecessor(2).unwrap();
    predecessor
        .wait_for_text("free for a successor", SOON)
        .unwrap();
    for (from, to, direction) in [
        ("client", "web-2", "inbound"),
        ("web-2", "client", "outbound"),
    ] {
        let to = address(mesh, to, 8080);
        let mut answer = None;
        let left = SOON.saturating_sub(began.elapsed());
        wait_until("a new connection", left, || {
            answer = curl(mesh, from, to).ok();
            answer.is_some()
        })
        .unwrap();
        // In the log of the successor.
        let record = record(mesh, 2, direction, &answer.unwrap());
        assert_eq!(record.security, "mutual_tls");
    }
}

fn predecessor_is_running(mesh: &mut Mesh) -> bool {
    mesh.agent_predecessor(2).unwrap().is_running()
}

#[test]
fn strict_pods_get_new_connections_while_those_of_agents_before_go_on() {
    let mut mesh = strict_mesh("90s");
    let mut inbound = long_connection(&mesh, "client", "web-2");
    let mut outbound = long_connection(&mesh, "web-2", "client");
    let plaintext = plaintext_client(&mesh);
    // The second one begins while the first agent still drains.
    for _ in 0..2 {
        update(&mut mesh);
        goes_on(&mut inbound);
        goes_on(&mut outbound);
        mesh.wait_ready().unwrap();
    }
    let said = plaintext.finish(LIMIT).unwrap();
    assert!(said.contains(" passed 0"), "{said}");
    inbound.finish(LIMIT).unwrap();
    outbound.finish(LIMIT).unwrap();
    wait_until("all agents before to end", LIMIT, || {
        !predecessor_is_running(&mut mesh)
    })
    .unwrap();
    curl(&mesh, "client", address(&mesh, "web-2", 8080)).unwrap();
}

#[test]
fn a_successor_that_dies_leaves_strict_pods_refused_and_what_is_open_goes_on() {
    let mut mesh = strict_mesh("90s");
    let mut open = long_connection(&mesh, "client", "web-2");
    let plaintext = plaintext_client(&mesh);
    update(&mut mesh);
    mesh.kill_agent(2).unwrap();
    let web = address(&mesh, "web-2", 8080);
    for from in ["client", "outside"] {
        assert!(curl(&mesh, from, web).is_err(), "{from}");
    }
    goes_on(&mut open);
    mesh.restart_agent(2).unwrap();
    mesh.wait_ready().unwrap();
    wait_until("the mesh to serve again", LIMIT, || {
        curl(&mesh, "client", web).is_ok()
    })
    .unwrap();
    goes_on(&mut open);
    // Nobody waits for it, and nothing of the successor's ends with it.
    mesh.agent_predecessor(2).unwrap().kill();
    curl(&mesh, "client", web).unwrap();
    let said = plaintext.finish(LIMIT).unwrap();
    assert!(said.contains(" passed 0"), "{said}");
}

#[test]
fn what_is_open_after_an_update_is_cut_at_the_drain_deadline() {
    let mut mesh = strict_mesh("4s");
    let mut open = long_connection(&mesh, "client", "web-2");
    update(&mut mesh);
    wait_until("the connection to be cut", LIMIT, || !open.is_running()).unwrap();
    wait_until("the agent before to end", LIMIT, || {
        !predecessor_is_running(&mut mesh)
    })
    .unwrap();
    let log = mesh.agent_predecessor(2).unwrap().stderr();
    assert!(
        log.contains("cutting connections at the drain deadline"),
        "{log}"
    );
    curl(&mesh, "client", address(&mesh, "web-2", 8080)).unwrap();
}
