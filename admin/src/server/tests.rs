use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::*;
use crate::readiness::Readiness;

/// How soon kubelet must have an answer, of the seconds that it waits.
const SOON: Duration = Duration::from_secs(2);
const LINE: &str = "metric_total{label=\"value\"} 1\n";

/// An address of loopback, as another client.
fn client(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

async fn connect(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

async fn get(from: IpAddr, to: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = connect(from, to).await?;
    stream.write_all(request(path).as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Metrics of so many lines, and how many of them were written.
fn metrics(lines: usize, written: &Arc<AtomicUsize>) -> Pages {
    let written = Arc::clone(written);
    Pages::new(Arc::<Readiness>::default()).with_metrics("/metrics", move |text| {
        for _ in 0..lines {
            written.fetch_add(1, Ordering::Relaxed);
            text.write_str(LINE)?;
        }
        text.write_str("# EOF\n")
    })
}

async fn start(pages: Pages, limits: Limits, patience: Patience) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = Endpoint::new(listener, pages, limits);
    tokio::spawn(run(endpoint, Turns::default(), patience));
    address
}

#[tokio::test]
async fn pages_are_served_one_for_each_connection() {
    let pages = Pages::new(Arc::default()).with("/config", || Answer::json(&[1]));
    let to = start(pages, Limits::OPERATOR, Patience::default()).await;
    let answer = get(client(1), to, "/config").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    for header in ["content-type: application/json", "connection: close"] {
        assert!(answer.contains(header), "{answer}");
    }
}

#[tokio::test]
async fn metrics_come_whole_and_say_where_they_end() {
    let pages = metrics(10_000, &Arc::default());
    let to = start(pages, Limits::MONITORING, Patience::default()).await;
    let answer = get(client(1), to, "/metrics").await.unwrap();
    assert!(answer.contains(OPEN_METRICS), "{answer}");
    assert_eq!(answer.matches(LINE.trim_end()).count(), 10_000);
    assert!(answer.ends_with("# EOF\n\r\n0\r\n\r\n"));
}

#[tokio::test]
async fn metrics_that_fail_are_not_taken_for_whole() {
    let pages = Pages::new(Arc::default()).with_metrics("/metrics", |text| {
        text.write_str(&LINE.repeat(10_000))?;
        Err(fmt::Error)
    });
    let to = start(pages, Limits::MONITORING, Patience::default()).await;
    let answer = get(client(1), to, "/metrics").await.unwrap_or_default();
    assert!(!answer.ends_with("0\r\n\r\n"));
}

#[tokio::test]
async fn slow_clients_keep_neither_a_probe_nor_another_scrape_waiting() {
    for attackers in [64, 200, 600] {
        let pages = metrics(10_000, &Arc::default());
        let to = start(pages, Limits::MONITORING, Patience::default()).await;
        let mut slow = Vec::new();
        for number in 0..attackers {
            let from = client(2 + (number % 3) as u8);
            let mut stream = connect(from, to).await.unwrap();
            // Those that were ended for it say so.
            let _ = stream.write_all(b"GET /metr").await;
            slow.push(stream);
        }
        // Also from an address that slow clients have: behind one that many share.
        for from in [client(1), client(2)] {
            for (path, end) in [("/healthz", "ok\n"), ("/metrics", "# EOF\n\r\n0\r\n\r\n")] {
                let began = Instant::now();
                let answer = get(from, to, path).await.unwrap();
                assert!(answer.ends_with(end), "{attackers} {from} {path}");
                assert!(began.elapsed() < SOON, "{attackers} {from} {path}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_sends_nothing_is_cut() {
    let patience = Patience {
        header: Duration::from_millis(100),
        ..Patience::default()
    };
    let to = start(Pages::new(Arc::default()), Limits::PROBES, patience).await;
    let mut stream = connect(client(1), to).await.unwrap();
    let mut rest = Vec::new();
    let ended = timeout(SOON, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok());
}

#[tokio::test]
async fn a_reader_that_stops_is_cut_costs_little_memory_and_holds_nobody_up() {
    let written = Arc::<AtomicUsize>::default();
    let patience = Patience {
        read: Duration::from_millis(300),
        ..Patience::default()
    };
    // A gigabyte: what the kernel takes is a few megabytes.
    let endless = metrics((1 << 30) / LINE.len(), &written);
    let to = start(endless, Limits::MONITORING, patience).await;
    let mut slow = Vec::new();
    for number in 0..20 {
        let mut stream = connect(client(2 + number), to).await.unwrap();
        stream
            .write_all(request("/metrics").as_bytes())
            .await
            .unwrap();
        slow.push(stream);
    }
    let began = Instant::now();
    let answer = get(client(1), to, "/healthz").await.unwrap();
    assert!(answer.ends_with("ok\n") && began.elapsed() < SOON);
    let mut cut = 0;
    for stream in &slow {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            // Looked at without reading: an error once the other side is gone.
            if stream.take_error().is_ok_and(|error| error.is_some()) || has_ended(stream).await {
                cut += 1;
                break;
            }
        }
    }
    assert_eq!(cut, slow.len());
    let bytes = written.load(Ordering::Relaxed) * LINE.len();
    assert!(bytes < slow.len() * (16 << 20), "{bytes}");
}

/// Writing to it fails: the other side has closed it.
async fn has_ended(stream: &TcpStream) -> bool {
    sleep(Duration::from_millis(20)).await;
    stream
        .try_write(b"x")
        .is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
}

#[tokio::test]
async fn the_longest_connection_ends() {
    let patience = Patience {
        connection: Duration::from_millis(300),
        ..Patience::default()
    };
    let to = start(
        metrics(1 << 26, &Arc::default()),
        Limits::MONITORING,
        patience,
    )
    .await;
    let began = Instant::now();
    let answer = get(client(1), to, "/metrics").await.unwrap_or_default();
    assert!(!answer.ends_with("0\r\n\r\n"));
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn pages_on_a_thread_of_their_own_answer_while_their_caller_is_busy() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let to = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let endpoint = Endpoint::new(listener, Pages::new(Arc::default()), Limits::MONITORING);
        serve_apart(vec![endpoint]).unwrap();
        to
    });
    // Nothing drives the runtime that the listener was opened in.
    let other = tokio::runtime::Runtime::new().unwrap();
    let answer = other.block_on(get(client(1), to, "/healthz")).unwrap();
    assert!(answer.ends_with("ok\n"), "{answer}");
}

#[test]
fn an_address_is_free_once_its_pages_are_served_no_more() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let (served, to) = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let endpoint = Endpoint::new(listener, Pages::new(Arc::default()), Limits::MONITORING);
        let end = async { _ = ended.await };
        (serve_apart_until(vec![endpoint], end).unwrap(), to)
    });
    let answer = runtime.block_on(get(client(1), to, "/healthz")).unwrap();
    assert!(answer.ends_with("ok\n"), "{answer}");
    let taken = runtime.block_on(TcpListener::bind(to)).unwrap_err();
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    drop(end);
    served.join().unwrap();
    runtime.block_on(TcpListener::bind(to)).unwrap();
}

/// A client that asks for metrics, and whose kernel takes little of them.
async fn slow_reader(from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let _ = stream.write_all(request("/metrics").as_bytes()).await;
    stream
}

#[tokio::test]
async fn slow_readers_at_its_own_address_cost_a_scrape_nothing() {
    // More than the kernel takes, so that readers are waited for.
    const LINES: usize = (8 << 20) / LINE.len();
    let written = Arc::<AtomicUsize>::default();
    let pages = metrics(LINES, &written);
    let to = start(pages, Limits::MONITORING, Patience::default()).await;
    let mut slow = Vec::new();
    for _ in 0..Limits::MONITORING.per_source {
        slow.push(slow_reader(client(1), to).await);
    }
    let mut before = 0;
    loop {
        sleep(Duration::from_millis(100)).await;
        let now = written.load(Ordering::Relaxed);
        if now == before && now > 0 {
            break;
        }
        before = now;
    }
    let scraping = tokio::spawn(async move { get(client(1), to, "/metrics").await });
    // Fewer than there are slow ones to make room.
    for _ in 0..Limits::MONITORING.per_source / 2 {
        // A kilobyte of each, now and then: something always happens on them.
        for stream in &slow {
            let _ = stream.try_read(&mut [0; 1024]);
        }
        slow.push(slow_reader(client(1), to).await);
        sleep(Duration::from_millis(20)).await;
    }
    let answer = scraping.await.unwrap().unwrap();
    assert!(answer.ends_with("# EOF\n\r\n0\r\n\r\n"));
}
