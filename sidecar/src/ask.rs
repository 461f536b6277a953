//! The running sidecar, asked by another process of its container: a hook of kubelet's.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Time between two questions.
const INTERVAL: Duration = Duration::from_millis(100);
/// Time limit of an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A reason that the sidecar didn't do in time what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It isn't ready.
    #[error("the proxy is not ready after {} s: {answer}", waited.as_secs())]
    NotReady {
        /// The time.
        waited: Duration,
        /// What it said last.
        answer: String,
    },
    /// It has connections left.
    #[error("the proxy has not drained after {} s: {answer}", waited.as_secs())]
    NotDrained {
        /// The time.
        waited: Duration,
        /// What it said last.
        answer: String,
    },
}

/// Waits until the sidecar is ready.
///
/// # Errors
/// When that takes too long, with the reason that it gives.
pub(crate) fn wait_until_ready(probes: SocketAddr, limit: Duration) -> Result<(), AskError> {
    let address = on_loopback(probes);
    let answer = ask_until(address, "GET", "/readyz", limit, |answer| {
        answer.as_ref().is_ok_and(Answer::is_ok)
    });
    answer.map_err(|answer| AskError::NotReady {
        waited: limit,
        answer,
    })
}

/// Tells the sidecar to drain, and waits until it has. One that is gone has.
///
/// # Errors
/// When that takes too long.
pub(crate) fn drain(admin: SocketAddr, limit: Duration) -> Result<(), AskError> {
    let answer = ask_until(
        on_loopback(admin),
        "POST",
        "/drain",
        limit,
        |answer| match answer {
            Ok(answer) => answer.body.contains("drained"),
            Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        },
    );
    answer.map_err(|answer| AskError::NotDrained {
        waited: limit,
        answer,
    })
}

/// An address to listen on is not always one to connect to.
fn on_loopback(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(ip, address.port())
}

struct Answer {
    is_ok: bool,
    body: String,
}

impl Answer {
    fn is_ok(&self) -> bool {
        self.is_ok
    }
}

/// Asks again and again.
///
/// # Errors
/// When no answer in time is the one; the last one.
fn ask_until(
    address: SocketAddr,
    method: &str,
    path: &str,
    limit: Duration,
    is_done: impl Fn(&io::Result<Answer>) -> bool,
) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    loop {
        let answer = ask(address, method, path);
        if is_done(&answer) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(match answer {
                Ok(answer) => answer.body.trim().to_owned(),
                Err(error) => error.to_string(),
            });
        }
        sleep(INTERVAL);
    }
}

fn ask(address: SocketAddr, method: &str, path: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    // The sidecar's own answers are short.
    stream.take(64 * 1024).read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    Ok(Answer {
        is_ok: head.starts_with("HTTP/1.1 200 "),
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers each of these in turn.
    fn serve(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let read = stream.read(&mut [0; 1024]).unwrap();
                assert_ne!(read, 0, "a question");
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        address
    }

    #[test]
    fn it_waits_until_the_proxy_is_ready_and_says_what_is_missing() {
        let ready = serve(&[
            "HTTP/1.1 503 Service Unavailable\r\n\r\npod: no certificate",
            "HTTP/1.1 200 OK\r\n\r\npod: ok",
        ]);
        wait_until_ready(ready, Duration::from_secs(30)).unwrap();
        let never = serve(&["HTTP/1.1 503 Service Unavailable\r\n\r\npod: no certificate"]);
        let error = wait_until_ready(never, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("no certificate"), "{error}");
    }

    #[test]
    fn it_waits_until_the_proxy_has_drained_or_is_gone() {
        let draining = serve(&[
            "HTTP/1.1 200 OK\r\n\r\n{ \"state\": \"draining\" }",
            "HTTP/1.1 200 OK\r\n\r\n{ \"state\": \"drained\" }",
        ]);
        drain(draining, Duration::from_secs(30)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gone = listener.local_addr().unwrap();
        drop(listener);
        drain(gone, Duration::ZERO).unwrap();
    }
}
