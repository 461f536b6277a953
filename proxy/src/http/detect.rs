//! What a captured connection speaks, found out without stalling anybody.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use weft_model::detect::protocol::{DetectedProtocol, detect_protocol};

/// Bytes that decide at the most; the model has decided long before.
const LONGEST: usize = 2048;
/// Silence of a client after which its server may be the one that speaks first.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

/// Waits for a client's first bytes and says what they are of. They stay unread.
///
/// # Errors
/// When the connection breaks. An end before any byte is no error: nothing is spoken.
pub(super) async fn first_bytes(stream: &TcpStream) -> io::Result<DetectedProtocol> {
    let mut buffer = [0; LONGEST];
    let mut known = 0;
    let result = loop {
        stream.readable().await?;
        let seen = match stream.peek(&mut buffer).await {
            Ok(seen) => seen,
            Err(error) => break Err(error),
        };
        if let Some(detected) = detect_protocol(&buffer[..seen]) {
            break Ok(detected);
        }
        // No more will come, or no more will help.
        if seen == known || seen == LONGEST {
            break Ok(DetectedProtocol::Opaque);
        }
        known = seen;
        wait_for_more_than(stream, known)?;
    };
    set_low_water_mark(stream, 1)?;
    result
}

/// Bytes that stay unread would wake us again and again: the socket is to be readable
/// only once there are more (SO_RCVLOWAT, socket(7)), or none to come.
fn wait_for_more_than(stream: &TcpStream, known: usize) -> io::Result<()> {
    // Forgets that it was readable; setting the mark looks anew.
    let _ = stream.try_io(Interest::READABLE, || {
        Err::<(), _>(io::ErrorKind::WouldBlock.into())
    });
    let mark = i32::try_from(known + 1).unwrap_or(i32::MAX);
    set_low_water_mark(stream, mark)
}

/// SO_RCVLOWAT, which no library of ours sets.
fn set_low_water_mark(stream: &TcpStream, mark: libc::c_int) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of_val(&mark)).unwrap_or_default();
    let (descriptor, value) = (stream.as_raw_fd(), (&raw const mark).cast());
    // SAFETY: the descriptor is open as long as `stream` is borrowed, and the kernel reads
    // `size` bytes of `mark`, which lives until the call returns.
    let result =
        unsafe { libc::setsockopt(descriptor, libc::SOL_SOCKET, libc::SO_RCVLOWAT, value, size) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn first_bytes_decide_in_whatever_pieces_they_come_and_stay_unread() {
        for (pieces, expected) in [
            (vec!["GET / HTTP/1.1\r\n"], DetectedProtocol::Http1),
            (
                vec!["G", "ET ", "/ HT", "TP/1.1\r", "\n"],
                DetectedProtocol::Http1,
            ),
            (
                vec!["PRI * HTTP/2.0\r\n", "\r\nSM\r\n\r\n"],
                DetectedProtocol::Http2,
            ),
            (vec!["\u{16}", "\u{3}\u{1}"], DetectedProtocol::Tls),
            (vec!["hello"], DetectedProtocol::Opaque),
        ] {
            let (mut client, mut server) = pair().await;
            let all = pieces.concat();
            let sending = async {
                for piece in &pieces {
                    client.write_all(piece.as_bytes()).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            let (detected, ()) = tokio::join!(first_bytes(&server), sending);
            assert_eq!(detected.unwrap(), expected, "{pieces:?}");
            let mut read = vec![0; all.len()];
            server.read_exact(&mut read).await.unwrap();
            assert_eq!(read, all.as_bytes());
        }
    }

    #[tokio::test]
    async fn a_client_that_ends_early_speaks_nothing_known() {
        for begin in ["", "GE"] {
            let (mut client, server) = pair().await;
            client.write_all(begin.as_bytes()).await.unwrap();
            drop(client);
            let detected = tokio::time::timeout(Duration::from_secs(10), first_bytes(&server));
            assert_eq!(detected.await.unwrap().unwrap(), DetectedProtocol::Opaque);
        }
    }
}
