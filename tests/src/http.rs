//! The least of HTTP: a GET to an admin endpoint on some namespace's loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::netns::Namespace;

const PATIENCE: Duration = Duration::from_secs(5);

/// An answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body.
    pub body: String,
}

/// Asks, from inside a namespace.
///
/// # Errors
/// When nobody answers in HTTP.
pub fn get(namespace: &Namespace, address: SocketAddr, path: &str) -> Result<Answer> {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // By this version the body comes in one piece, whatever its size.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let what = format!("GET http://{address}{path} in {}", namespace.name());
    let answer = namespace.run(ask)?.map_err(Error::system(&what))?;
    parse(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| Error::Unreadable(format!("{what}: the answer is not HTTP")))
}

fn parse(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some(Answer {
        status,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_status_and_body() {
        let answer = parse("HTTP/1.0 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nno\n");
        assert_eq!(
            answer,
            Some(Answer {
                status: 503,
                body: "no\n".into()
            })
        );
        assert_eq!(parse("SSH-2.0"), None);
    }
}
