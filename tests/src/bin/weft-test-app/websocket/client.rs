//! The client: connects, has messages echoed, and closes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::accepted::accepted;
use super::frame::{Frame, Opcode};
use crate::report::{self, Tally};

/// How long one step may take.
const STEP_LIMIT: Duration = Duration::from_secs(10);
/// Any 16 bytes do as a key, which guards against caches only (RFC 6455 section 10.3).
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// What to have echoed by whom.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The server.
    #[arg(long)]
    to: SocketAddr,
    /// Host of the request; the address when left out.
    #[arg(long)]
    host: Option<String>,
    /// Path and query of the request.
    #[arg(long, default_value = "/")]
    path: String,
    /// How many messages.
    #[arg(long, default_value_t = 10)]
    messages: usize,
    /// Bytes of each.
    #[arg(long, default_value_t = 1000)]
    bytes: usize,
    /// Milliseconds of silence between messages.
    #[arg(long, default_value_t = 0)]
    pause: u64,
}

pub(crate) async fn run(arguments: Arguments) -> io::Result<()> {
    let stream = within(TcpStream::connect(arguments.to)).await?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(io::Error::other)?;
    let driver = tokio::spawn(connection.with_upgrades());
    let host = arguments
        .host
        .clone()
        .unwrap_or_else(|| arguments.to.to_string());
    let request = Request::get(&arguments.path)
        .header(header::HOST, host)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, KEY)
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let response = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let field = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let accepted = field("sec-websocket-accept") == Some(&accepted(KEY.as_bytes()));
    let (mut tally, mut closed) = (Tally::default(), false);
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let upgraded = hyper::upgrade::on(response)
            .await
            .map_err(io::Error::other)?;
        let mut stream = BufReader::new(TokioIo::new(upgraded));
        converse(&mut stream, &arguments, &mut tally).await;
        closed = close(&mut stream).await.is_ok();
    }
    driver.abort();
    report::write(&json!({
        "status": status.as_u16(),
        "accepted": accepted,
        "name": field("x-test-server"),
        "echoed": tally,
        "closed": closed,
    }))
}

type Stream<S> = BufReader<S>;

async fn converse<S>(stream: &mut Stream<S>, arguments: &Arguments, tally: &mut Tally)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    for number in 0..arguments.messages {
        if arguments.pause > 0 {
            tokio::time::sleep(Duration::from_millis(arguments.pause)).await;
        }
        let opcode = [Opcode::Text, Opcode::Binary, Opcode::Ping][number % 3];
        let bytes = match opcode {
            // Control frames are short (section 5.5).
            Opcode::Ping => arguments.bytes.min(125),
            _ => arguments.bytes,
        };
        let letter = b'a' + u8::try_from(number % 26).unwrap_or_default();
        let echoed = within(exchange(stream, opcode, vec![letter; bytes])).await;
        let broken = echoed.is_err();
        tally.add(echoed);
        if broken {
            return;
        }
    }
}

async fn exchange<S>(stream: &mut Stream<S>, opcode: Opcode, payload: Vec<u8>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer = match opcode {
        Opcode::Ping => Opcode::Pong,
        other => other,
    };
    let expected = Frame::message(answer, payload.clone());
    let sent = Frame::message(opcode, payload);
    sent.write(stream.get_mut(), Some(mask())).await?;
    if Frame::read(stream).await? == expected {
        return Ok(());
    }
    Err(io::Error::other("what came back is not what was sent"))
}

/// Says goodbye, and waits until the server has said it and closed.
async fn close<S>(stream: &mut Stream<S>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let normal = 1000_u16.to_be_bytes().to_vec();
    within(exchange(stream, Opcode::Close, normal)).await?;
    match within(stream.read(&mut [0])).await? {
        0 => Ok(()),
        _ => Err(io::Error::other("bytes behind the closing frame")),
    }
}

/// Not to be guessed by the page in a browser; here nobody guesses.
fn mask() -> [u8; 4] {
    std::process::id().to_be_bytes()
}

async fn within<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(STEP_LIMIT, step)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
