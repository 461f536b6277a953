//! A look at what a client sends first, without taking it from the socket: whoever
//! serves the connection afterwards reads it all.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;
use weft_model::detect::client_hello::{self, ClientHello, InvalidClientHello};

/// Bytes of the first look; most first flights fit.
const FIRST_LOOK: usize = 2048;

/// Why a client's first bytes say nothing.
#[derive(Debug, thiserror::Error)]
pub enum SniffError {
    /// They are no TLS.
    #[error(transparent)]
    ClientHello(#[from] InvalidClientHello),
    /// They don't come.
    #[error("the client sent no complete first message in time")]
    Timeout,
    /// They don't come any more.
    #[error("the client ended the connection within its first message")]
    Ended,
    /// Whatever the kernel answers.
    #[error("reading the client's first bytes: {0}")]
    Io(#[from] io::Error),
}

/// Waits for a client's ClientHello.
///
/// # Errors
/// When something else comes, or nothing in time.
pub(crate) async fn client_hello(
    stream: &TcpStream,
    limit: Duration,
) -> Result<ClientHello, SniffError> {
    let read = peek(stream, client_hello::MAX_CLIENT_HELLO_LENGTH, |bytes| {
        client_hello::parse(bytes).transpose()
    });
    let parsed = tokio::time::timeout(limit, read).await;
    Ok(parsed
        .map_err(|_| SniffError::Timeout)??
        .ok_or(SniffError::Ended)??)
}

/// Looks at what has come until `decide` has seen enough of it; `None` when the client
/// ends before that. It is shown `longest` bytes at most, and must decide by then.
pub(crate) async fn peek<T>(
    stream: &TcpStream,
    longest: usize,
    mut decide: impl FnMut(&[u8]) -> Option<T>,
) -> io::Result<Option<T>> {
    let (mut buffer, mut seen) = (vec![0; FIRST_LOOK.min(longest)], 0);
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        let looked = stream.try_io(Interest::READABLE, || {
            // What was seen before stays readable, so only more of it is news.
            match recv(stream.as_raw_fd(), &mut buffer, MsgFlags::MSG_PEEK)? {
                count if count > seen => Ok(count),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            }
        });
        match looked {
            Ok(count) => seen = count,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Err(_) if ready.is_read_closed() => return Ok(None),
            Err(_) => continue,
        }
        if let Some(decided) = decide(&buffer[..seen]) {
            return Ok(Some(decided));
        }
        if seen == buffer.len() {
            if seen == longest {
                return Ok(None);
            }
            buffer.resize((seen * 2).min(longest), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::crypto::aws_lc_rs;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    /// What rustls says first.
    fn hello(name: &'static str) -> Vec<u8> {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = name.try_into().unwrap();
        let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    #[tokio::test]
    async fn a_hello_in_pieces_is_understood_and_left_in_the_socket() {
        let (mut client, mut accepted) = pair().await;
        client.set_nodelay(true).unwrap();
        let bytes = hello("shop.example.org");
        let sent = bytes.clone();
        let (first, rest) = sent.split_at(3);
        let writing = async {
            client.write_all(first).await.unwrap();
            for piece in rest.chunks(400) {
                tokio::task::yield_now().await;
                client.write_all(piece).await.unwrap();
            }
        };
        let (seen, ()) = tokio::join!(client_hello(&accepted, LIMIT), writing);
        let name = seen.unwrap().server_name.unwrap();
        assert_eq!(&*name, "shop.example.org");
        let mut read = vec![0; bytes.len()];
        accepted.read_exact(&mut read).await.unwrap();
        assert_eq!(read, bytes);
    }

    #[tokio::test]
    async fn a_client_that_asks_for_an_address_names_nobody() {
        let (mut client, accepted) = pair().await;
        client.write_all(&hello("192.0.2.1")).await.unwrap();
        let seen = client_hello(&accepted, LIMIT).await.unwrap();
        assert_eq!(seen.server_name, None);
    }

    #[tokio::test]
    async fn what_is_no_hello_is_said_at_once() {
        let (mut client, accepted) = pair().await;
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let error = client_hello(&accepted, LIMIT).await.unwrap_err();
        let wanted = InvalidClientHello::NotTls;
        assert!(
            matches!(error, SniffError::ClientHello(found) if found == wanted),
            "{error}"
        );
    }

    #[tokio::test]
    async fn half_a_hello_is_awaited_for_as_long_as_that_and_no_longer_than_its_client() {
        let (mut client, accepted) = pair().await;
        client.write_all(&hello("a.example")[..100]).await.unwrap();
        let error = client_hello(&accepted, Duration::from_millis(50))
            .await
            .unwrap_err();
        assert!(matches!(error, SniffError::Timeout), "{error}");
        client.shutdown().await.unwrap();
        let error = client_hello(&accepted, LIMIT).await.unwrap_err();
        assert!(matches!(error, SniffError::Ended), "{error}");
    }
}
