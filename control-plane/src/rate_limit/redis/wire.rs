//! The words that are exchanged with Redis (RESP 2,
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>): only what is needed
//! to log in and to count.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

use super::error::RedisError;
use super::options::RedisOptions;
use crate::rate_limit::hit::Hit;

/// Longest line of an answer.
const LONGEST_LINE: u64 = 4096;

/// One value of an answer; of a list, how many values follow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Reply {
    Simple,
    Error(String),
    Integer(i64),
    List(usize),
}

/// Hits as one transaction: all of them are counted, and have an end, or none.
pub(super) fn transaction(hits: &[Hit], now: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    command(&mut bytes, &["MULTI"]);
    for hit in hits {
        let key = format!("weft:ratelimit:{}{}", hit.key, hit.unit.window_start(now));
        command(&mut bytes, &["INCRBY", &key, &hit.hits.to_string()]);
        // A whole unit is more than is left of it: other replicas' clocks may be late.
        let seconds = hit.unit.seconds() + 1;
        command(&mut bytes, &["EXPIRE", &key, &seconds.to_string()]);
    }
    command(&mut bytes, &["EXEC"]);
    bytes
}

fn command(bytes: &mut Vec<u8>, words: &[&str]) {
    bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
}

/// The next value.
///
/// # Errors
/// When the connection ends, or this isn't one that is expected here.
pub(super) async fn reply<R: AsyncBufRead + Unpin>(from: &mut R) -> io::Result<Reply> {
    let mut line = Vec::new();
    from.take(LONGEST_LINE).read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let unexpected = || io::Error::new(io::ErrorKind::InvalidData, "an answer as none of Redis'");
    let line = line.strip_suffix(b"\r\n").ok_or_else(unexpected)?;
    let (kind, text) = line.split_first().ok_or_else(unexpected)?;
    let text = str::from_utf8(text).map_err(|_| unexpected())?;
    match kind {
        b'+' => Ok(Reply::Simple),
        b'-' => Ok(Reply::Error(text.to_owned())),
        b':' => text.parse().map(Reply::Integer).map_err(|_| unexpected()),
        b'*' => text.parse().map(Reply::List).map_err(|_| unexpected()),
        _ => Err(unexpected()),
    }
}

/// A connection that is logged in.
#[derive(Debug)]
pub(super) struct Connection {
    stream: BufStream<TcpStream>,
    address: Arc<str>,
}

impl Connection {
    /// Connects and logs in.
    pub(super) async fn open(options: &RedisOptions) -> Result<Self, RedisError> {
        let address = Arc::clone(&options.address);
        let unreachable = |error| unreachable(&address, &error);
        let stream = TcpStream::connect(&*options.address)
            .await
            .map_err(unreachable)?;
        // Best effort: it only saves latency.
        let _ = stream.set_nodelay(true);
        let stream = BufStream::new(stream);
        let mut connection = Self { stream, address };
        let mut greeting = Vec::new();
        let database = options.database.to_string();
        let mut answers = 0;
        let mut say = |words: &[&str]| {
            command(&mut greeting, words);
            answers += 1;
        };
        match (&*options.user, &*options.password) {
            ("", "") => {}
            ("", password) => say(&["AUTH", password]),
            (user, password) => say(&["AUTH", user, password]),
        }
        if options.database != 0 {
            say(&["SELECT", &database]);
        }
        connection.send(&greeting).await?;
        for _ in 0..answers {
            connection.value().await?;
        }
        Ok(connection)
    }

    /// Sends commands.
    pub(super) async fn send(&mut self, commands: &[u8]) -> Result<(), RedisError> {
        let sent = async {
            self.stream.write_all(commands).await?;
            self.stream.flush().await
        };
        sent.await
            .map_err(|error| unreachable(&self.address, &error))
    }

    /// The answer to a transaction with that many hits.
    pub(super) async fn counts(&mut self, hits: usize) -> Result<Vec<u64>, RedisError> {
        // MULTI, and each command, is told to be queued. An error says more there than at
        // the end.
        for _ in 0..=2 * hits {
            self.value().await?;
        }
        if self.value().await? != Reply::List(2 * hits) {
            return Err(self.odd());
        }
        let mut counts = Vec::with_capacity(hits);
        for _ in 0..hits {
            match (self.value().await?, self.value().await?) {
                (Reply::Integer(count), Reply::Integer(_)) => {
                    counts.push(u64::try_from(count).map_err(|_| self.odd())?);
                }
                _ => return Err(self.odd()),
            }
        }
        Ok(counts)
    }

    async fn value(&mut self) -> Result<Reply, RedisError> {
        match reply(&mut self.stream).await {
            Ok(Reply::Error(error)) => Err(RedisError::Refused {
                address: Arc::clone(&self.address),
                error,
            }),
            Ok(reply) => Ok(reply),
            Err(error) => Err(unreachable(&self.address, &error)),
        }
    }

    fn odd(&self) -> RedisError {
        let odd = io::Error::new(
            io::ErrorKind::InvalidData,
            "not the answer to a transaction",
        );
        unreachable(&self.address, &odd)
    }
}

fn unreachable(address: &Arc<str>, error: &io::Error) -> RedisError {
    RedisError::Unreachable {
        address: Arc::clone(address),
        reason: error.to_string(),
    }
}
