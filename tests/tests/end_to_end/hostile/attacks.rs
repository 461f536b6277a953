//! The attacks. Each goes on until it is told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use weft_testing::hbone::{Connection, client};
use weft_testing::tcp::serve_on_thread;
use weft_tests::mesh::Mesh;

use super::super::hbone::{authority, leaf};
use super::{MONITORING, NODE, bait_at as bait};

/// What somebody does until it is told to stop.
pub(super) type Attack = fn(&Mesh, &AtomicBool);

/// How long one connect of an attacker may take; it tries again.
const CONNECT: Duration = Duration::from_secs(2);
/// The port of tunnels.
const HBONE: u16 = 15008;
/// The first bytes of a ClientHello.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

/// Does this inside a pod's network namespace, not as one of its processes: nothing is
/// captured on the way out, as of one who is outside the mesh.
fn inside(mesh: &Mesh, pod: &str, work: impl AsyncFnOnce() + Send) {
    let namespace = mesh.pod(pod).unwrap().host.namespace();
    let run = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(work());
    };
    namespace.run(run).unwrap();
}

/// Keeps so many connections open, each of which has sent this and then nothing; those that
/// are closed are replaced.
async fn hold(to: &[SocketAddr], count: usize, sent: &[u8], stop: &AtomicBool) {
    let mut held: Vec<TcpStream> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        held.retain(|stream| {
            let mut byte = [0];
            // Open, and nothing to read.
            let read = stream.try_read(&mut byte);
            read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        });
        for number in held.len()..count {
            let opened = timeout(CONNECT, TcpStream::connect(to[number % to.len()])).await;
            let Ok(Ok(mut stream)) = opened else { break };
            if stream.write_all(sent).await.is_ok() {
                held.push(stream);
            }
            if stop.load(Ordering::Relaxed) {
                return;
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Handshakes of TLS that begin and never end.
pub(super) fn half_open_handshakes(mesh: &Mesh, stop: &AtomicBool) {
    let to = [bait(mesh, HBONE)];
    inside(mesh, "stranger", async || {
        hold(&to, 2000, HALF_A_HELLO, stop).await
    });
}

/// Connections on which nothing is sent, to every port that the proxy has.
pub(super) fn silent_connections(mesh: &Mesh, stop: &AtomicBool) {
    let to = [HBONE, 8080, 9000].map(|port| bait(mesh, port));
    inside(mesh, "stranger", async || hold(&to, 2000, b"", stop).await);
}

/// Heads of requests that are large and never end.
pub(super) fn large_heads(mesh: &Mesh, stop: &AtomicBool) {
    let to = [bait(mesh, 8080)];
    let head = format!(
        "GET / HTTP/1.1\r\nHost: bait\r\nX-Large: {}",
        "x".repeat(120_000)
    );
    inside(mesh, "stranger", async || {
        hold(&to, 500, head.as_bytes(), stop).await
    });
}

/// Slow clients of the monitoring port, from one pod.
pub(super) fn monitoring_flood(mesh: &Mesh, stop: &AtomicBool) {
    let to = [(mesh.topology().node(NODE).unwrap().host.ipv4(), MONITORING).into()];
    inside(mesh, "attacker", async || {
        hold(&to, 2000, b"GET /metr", stop).await
    });
}

/// Heads of requests that come byte by byte.
pub(super) fn slow_heads(mesh: &Mesh, stop: &AtomicBool) {
    let to = bait(mesh, 8080);
    inside(mesh, "stranger", async || {
        let mut held = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            while held.len() < 500 && !stop.load(Ordering::Relaxed) {
                let opened = timeout(CONNECT, TcpStream::connect(to)).await;
                let Ok(Ok(stream)) = opened else { break };
                let _ = stream.try_write(b"GET / HTTP/1.1\r\nX-Slow: ");
                held.push(stream);
            }
            held.retain(|stream| stream.try_write(b"x").is_ok());
            sleep(Duration::from_millis(100)).await;
        }
    });
}

/// Does this with one connection for tunnels after another, as the attacker's own pod would
/// have them: with a new one when it fails.
fn with_tunnels(
    mesh: &Mesh,
    stop: &AtomicBool,
    act: impl AsyncFn(&Connection) -> Result<(), String> + Sync,
) {
    let credential = authority(mesh).issue(&leaf("attacker"));
    inside(mesh, "attacker", async || {
        while !stop.load(Ordering::Relaxed) {
            let opened = Connection::open(bait(mesh, HBONE), client(Some(&credential)));
            let Ok(Ok(connection)) = timeout(CONNECT, opened).await else {
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            while !stop.load(Ordering::Relaxed) && act(&connection).await.is_ok() {}
        }
    });
}

/// Opens so many streams of a connection, as far as it has them, and holds them for a while.
async fn hold_streams(
    connection: &Connection,
    to: SocketAddr,
    count: usize,
    sent: &Bytes,
    stop: &AtomicBool,
) -> Result<(), String> {
    let mut held = Vec::new();
    for _ in 0..count {
        let Ok(tunnel) = timeout(CONNECT, connection.ask(to)).await else {
            break;
        };
        let mut tunnel = tunnel?;
        tunnel.send(sent.clone())?;
        held.push(tunnel);
    }
    for _ in 0..20 {
        sleep(Duration::from_millis(100)).await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(())
}

/// As many streams as one connection may have.
pub(super) fn many_streams(mesh: &Mesh, stop: &AtomicBool) {
    let (to, sent) = (bait(mesh, 9000), Bytes::from_static(b"x"));
    let act = async |all: &Connection| hold_streams(all, to, 1000, &sent, stop).await;
    with_tunnels(mesh, stop, act);
}

/// Much is sent that comes back, and nothing is read of it.
pub(super) fn unread_answers(mesh: &Mesh, stop: &AtomicBool) {
    let (to, sent) = (bait(mesh, 9000), Bytes::from(vec![0; 1 << 20]));
    let act = async |all: &Connection| hold_streams(all, to, 100, &sent, stop).await;
    with_tunnels(mesh, stop, act);
}

/// Streams that are opened and reset at once (CVE-2023-44487).
pub(super) fn reset_streams(mesh: &Mesh, stop: &AtomicBool) {
    let to = bait(mesh, 9000);
    with_tunnels(mesh, stop, async |connection| {
        connection.ask(to).await?.reset();
        tokio::task::yield_now().await;
        Ok(())
    });
}

/// Frames of a client of HTTP/2 that begins so many requests, from that stream on, and cancels each
/// in the same breath.
fn cancelled_at_once(first_stream: u32, count: u32) -> Vec<u8> {
    // GET, http, / by the static table (RFC 7541 appendix A), and the authority.
    let head = b"\x82\x86\x84\x01\x04bait";
    let mut frames = Vec::new();
    for stream in (first_stream..).step_by(2).take(count as usize) {
        frames.extend([0, 0, head.len() as u8, 1, 5]);
        frames.extend(stream.to_be_bytes());
        frames.extend(head);
        frames.extend([0, 0, 4, 3, 0]);
        frames.extend(stream.to_be_bytes());
        // CANCEL (RFC 9113 section 7).
        frames.extend([0, 0, 0, 8]);
    }
    frames
}

/// Reads what is there, and says whether the connection is still open.
fn is_open(stream: &TcpStream) -> bool {
    let mut bytes = [0; 16 * 1024];
    loop {
        match stream.try_read(&mut bytes) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Requests of HTTP/2 that are cancelled at once, at a port of an application.
pub(super) fn cancelled_requests(mesh: &Mesh, stop: &AtomicBool) {
    const AT_ONCE: u32 = 50;
    let to = bait(mesh, 8080);
    inside(mesh, "stranger", async || {
        while !stop.load(Ordering::Relaxed) {
            let opened = timeout(CONNECT, TcpStream::connect(to)).await;
            let Ok(Ok(mut stream)) = opened else { continue };
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
            let mut frames = preface.to_vec();
            for first in (1..1 << 24).step_by(2 * AT_ONCE as usize) {
                frames.extend(cancelled_at_once(first, AT_ONCE));
                let sent = timeout(CONNECT, stream.write_all(&frames)).await;
                if !matches!(sent, Ok(Ok(()))) || !is_open(&stream) || stop.load(Ordering::Relaxed)
                {
                    break;
                }
                frames.clear();
                tokio::task::yield_now().await;
            }
        }
    });
}

/// Clients of HTTP/1 that close their connections in the middle of a request, or while it is
/// answered, by a FIN or a reset.
pub(super) fn left_requests(mesh: &Mesh, stop: &AtomicBool) {
    const AT_ONCE: usize = 16;
    const REQUESTS: [&str; 3] = [
        "GET / HTTP/1.1\r\nHost: bait\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: ba",
        "POST / HTTP/1.1\r\nHost: bait\r\nContent-Length: 100000\r\n\r\nand no more",
    ];
    let to = bait(mesh, 8080);
    inside(mesh, "stranger", async || {
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            let mut clients = JoinSet::new();
            for _ in 0..AT_ONCE {
                number += 1;
                clients.spawn(async move {
                    let opened = timeout(CONNECT, TcpStream::connect(to)).await;
                    let Ok(Ok(mut stream)) = opened else { return };
                    let request = REQUESTS[number % REQUESTS.len()];
                    let _ = stream.write_all(request.as_bytes()).await;
                    if number % 2 == 0 {
                        let _ = stream.set_zero_linger();
                    }
                });
            }
            clients.join_all().await;
        }
    });
}

/// Connections in plaintext on which much is sent that comes back, and nothing is read.
pub(super) fn unread_plaintext(mesh: &Mesh, stop: &AtomicBool) {
    const CONNECTIONS: usize = 1000;
    let to = bait(mesh, 9000);
    inside(mesh, "stranger", async || {
        let (mut held, bytes) = (Vec::new(), vec![0; 256 * 1024]);
        while !stop.load(Ordering::Relaxed) {
            while held.len() < CONNECTIONS && !stop.load(Ordering::Relaxed) {
                let opened = timeout(CONNECT, TcpStream::connect(to)).await;
                let Ok(Ok(stream)) = opened else { break };
                held.push(stream);
            }
            held.retain(|stream| match stream.try_write(&bytes) {
                Ok(_) => true,
                Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            });
            sleep(Duration::from_millis(10)).await;
        }
    });
}

/// Connects of a pod of the mesh that nobody takes.
pub(super) fn refused_connects(mesh: &Mesh, stop: &AtomicBool) {
    connect_rate(mesh, stop, 9999);
}

/// Connections of a pod of the mesh, one after the other.
pub(super) fn new_connections(mesh: &Mesh, stop: &AtomicBool) {
    connect_rate(mesh, stop, 9000);
}

fn connect_rate(mesh: &Mesh, stop: &AtomicBool, port: u16) {
    let to = format!("--to={}", bait(mesh, port));
    while !stop.load(Ordering::Relaxed) {
        let line = ["connect-rate", &to, "--milliseconds=1000", "--parallel=32"];
        // Failures are what some of them are for.
        let _ = mesh.report("attacker", &line);
    }
}

/// Answers of which each has another status of gRPC, and another status.
pub(super) fn ever_new_labels(mesh: &Mesh, stop: &AtomicBool) {
    const PORT: u16 = 8081;
    let namespace = mesh.pod("bait").unwrap().host.namespace();
    let listener = namespace.run(|| std::net::TcpListener::bind(("0.0.0.0", PORT)));
    // From the second round on the server is there.
    if let Ok(listener) = listener.unwrap() {
        let answers = Arc::new(AtomicU64::new(0));
        serve_on_thread(listener, move |stream| {
            let answers = Arc::clone(&answers);
            async move { answer_each_differently(stream, &answers).await }
        });
    }
    while !stop.load(Ordering::Relaxed) {
        let line = [
            "load",
            "--to=10.96.0.12:80",
            "--header=content-type:application/grpc",
            "--requests=2000",
            "--parallel=8",
        ];
        let _ = mesh.report("attacker", &line);
    }
}

/// Serves a connection of HTTP/1.1: whatever is asked, the answer is another one each time.
async fn answer_each_differently(mut stream: TcpStream, answers: &AtomicU64) {
    use tokio::io::AsyncReadExt;
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        // One head each: the client waits for its answer.
        if !buffer[..read].ends_with(b"\r\n\r\n") {
            continue;
        }
        let number = answers.fetch_add(1, Ordering::Relaxed);
        let (status, grpc) = (200 + number % 700, number % 60_000);
        let answer = format!(
            "HTTP/1.1 {status} Any\r\ncontent-type: application/grpc\r\n\
             grpc-status: {grpc}\r\ncontent-length: 0\r\n\r\n"
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
