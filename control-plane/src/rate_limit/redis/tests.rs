//! Against the redis-server of the distribution, on a port of loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_model::traffic::rate_limit::RateLimitUnit;

use super::wire::{Reply, reply};
use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// A server that ends with the test.
pub(crate) struct RedisServer {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl RedisServer {
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        // Free a moment ago; a test that loses it says so below.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        Self::start_at(port, arguments).await
    }

    pub(crate) async fn start_at(port: u16, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(arguments)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("these tests need the package redis-server (`cargo xtask test` installs it)");
        let mut server = Self {
            child,
            port,
            _folder: folder,
        };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(
                server.child.try_wait().unwrap().is_none(),
                "redis-server ended"
            );
            assert!(began.elapsed() < DEADLINE, "redis-server doesn't listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server
    }

    /// Its address, with a login and a database.
    pub(crate) fn address(&self, login: &str, database: &str) -> String {
        format!("redis://{login}127.0.0.1:{}{database}", self.port)
    }

    /// Ends it, and says where it was.
    pub(crate) fn stop(self) -> u16 {
        self.port
    }

    /// What it answers to a command, as it comes.
    async fn ask(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let command = format!("{command}\r\nQUIT\r\n");
        stream.write_all(command.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hit(key: &str, unit: RateLimitUnit, hits: u32) -> Hit {
    Hit {
        tenant: String::new(),
        key: key.to_owned(),
        unit,
        hits,
    }
}

fn redis(address: &str) -> Redis {
    Redis::start(address.parse().unwrap())
}

#[tokio::test]
async fn hits_add_up_in_their_window_and_every_key_has_an_end() {
    let server = RedisServer::start(&[]).await;
    let redis = redis(&server.address("", ""));
    let hits = [
        hit("a,", RateLimitUnit::Day, 2),
        hit("b,", RateLimitUnit::Minute, 0),
        hit("a,", RateLimitUnit::Day, 3),
    ];
    assert_eq!(redis.count(&hits, 86_400).await, Ok(vec![2, 0, 5]));
    assert_eq!(redis.count(&hits[..1], 86_400 + 86_399).await, Ok(vec![7]));
    assert_eq!(redis.count(&hits[..1], 2 * 86_400).await, Ok(vec![2]));
    assert_eq!(redis.count(&[], 0).await, Ok(vec![]));
    assert_eq!(server.ask("DBSIZE").await, ":3\r\n+OK\r\n");
    for (key, most) in [("a,86400", 86_401), ("a,172800", 86_401), ("b,86400", 61)] {
        let answer = server.ask(&format!("TTL weft:ratelimit:{key}")).await;
        let seconds = answer.trim_start_matches(':').split('\r').next().unwrap();
        let seconds: i64 = seconds.parse().unwrap();
        assert!((1..=most).contains(&seconds), "{key}: {answer}");
    }
}

#[tokio::test]
async fn many_at_once_are_each_counted_once() {
    let server = RedisServer::start(&[]).await;
    let redis = Arc::new(redis(&server.address("", "")));
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            let redis = Arc::clone(&redis);
            tokio::spawn(async move { redis.count(&[hit("k", RateLimitUnit::Year, 1)], 0).await })
        })
        .collect();
    let mut counts = Vec::new();
    for task in tasks {
        counts.extend(task.await.unwrap().unwrap());
    }
    counts.sort_unstable();
    assert_eq!(counts, (1..=1000).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_made_again() {
    let server = RedisServer::start(&[]).await;
    let redis = redis(&server.address("", ""));
    for count in 1..4 {
        let counted = redis.count(&[hit("k", RateLimitUnit::Year, 1)], 0).await;
        assert_eq!(counted, Ok(vec![count]));
        let killed = server.ask("CLIENT KILL TYPE normal").await;
        assert!(killed.starts_with(':'), "{killed}");
    }
}

#[tokio::test]
async fn a_wrong_password_a_missing_database_and_a_full_memory_are_named() {
    let server = RedisServer::start(&["--requirepass", "right"]).await;
    let hits = [hit("k", RateLimitUnit::Year, 1)];
    for (login, database, expected) in [
        (":wrong@", "", "WRONGPASS"),
        ("nobody:right@", "", "WRONGPASS"),
        ("", "", "NOAUTH"),
        (":right@", "/99", "DB index is out of range"),
    ] {
        let redis = redis(&server.address(login, database));
        let error = redis.count(&hits, 0).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let full = RedisServer::start(&["--maxmemory", "1kb"]).await;
    let error = redis(&full.address("", "")).count(&hits, 0).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("OOM"), "{error}");
}

#[tokio::test]
async fn nobody_there_and_nobody_who_answers_are_told_from_each_other() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("redis://{}", listener.local_addr().unwrap());
    let hits = [hit("k", RateLimitUnit::Year, 1)];
    let silent = redis(&address);
    let began = Instant::now();
    let error = silent.count(&hits, 0).await.unwrap_err();
    assert!(matches!(error, RedisError::Late(_)), "{error}");
    assert!(began.elapsed() < DEADLINE);
    drop(listener);
    let error = redis(&address).count(&hits, 0).await.unwrap_err();
    assert!(matches!(error, RedisError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1:"), "{error}");
}

#[tokio::test]
async fn answers_are_read_and_odd_ones_refused() {
    let read = async |text: &[u8]| {
        let mut text = text;
        reply(&mut text).await.map_err(|error| error.kind())
    };
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    assert_eq!(read(b"+OK\r\n").await, Ok(Reply::Simple));
    assert_eq!(read(b":-7\r\n").await, Ok(Reply::Integer(-7)));
    assert_eq!(read(b"*4\r\n").await, Ok(Reply::List(4)));
    assert_eq!(
        read(b"-ERR no\r\n").await,
        Ok(Reply::Error("ERR no".into()))
    );
    assert_eq!(read(b"").await, Err(UnexpectedEof));
    for odd in [
        &b"\r\n"[..],
        b"+OK",
        b"+OK\n",
        b":x\r\n",
        b"*-1\r\n",
        b"$2\r\nhi\r\n",
        b"-\xff\r\n",
        &[b'+'; 5000],
    ] {
        assert_eq!(read(odd).await, Err(InvalidData), "{odd:?}");
    }
}
