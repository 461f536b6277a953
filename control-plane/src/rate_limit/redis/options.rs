//! The address of Redis.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::Uri;

/// A text that doesn't say where Redis is.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum InvalidRedis {
    /// It isn't such an address. The text isn't repeated: it may hold a password.
    #[error("not an address of Redis; use redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]")]
    Form,
    /// With TLS.
    #[error(
        "rediss:// is not known here; use redis:// and keep the way there private (in the mesh, or a network policy)"
    )]
    Tls,
}

/// The address of Redis, with what is needed to log in.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct RedisOptions {
    /// Host and port.
    pub(super) address: Arc<str>,
    /// Empty for the default user.
    pub(super) user: String,
    /// Empty when there is none.
    pub(super) password: String,
    /// The database's number.
    pub(super) database: u32,
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis://{}/{}", self.address, self.database)
    }
}

impl FromStr for RedisOptions {
    type Err = InvalidRedis;

    fn from_str(text: &str) -> Result<Self, InvalidRedis> {
        let uri: Uri = text.parse().map_err(|_| InvalidRedis::Form)?;
        match uri.scheme_str() {
            Some("redis") if uri.query().is_none() => {}
            Some("rediss") => return Err(InvalidRedis::Tls),
            _ => return Err(InvalidRedis::Form),
        }
        let authority = uri.authority().ok_or(InvalidRedis::Form)?;
        if authority.host().is_empty() {
            return Err(InvalidRedis::Form);
        }
        let port = match authority.port() {
            Some(port) if port.as_u16() > 0 => port.as_u16(),
            Some(_) => return Err(InvalidRedis::Form),
            None => 6379,
        };
        let database = match uri.path().trim_start_matches('/') {
            "" => 0,
            number => number.parse().map_err(|_| InvalidRedis::Form)?,
        };
        let login = authority.as_str().rsplit_once('@').map(|(login, _)| login);
        let (user, password) = match login {
            None => ("", ""),
            Some(login) => login.split_once(':').ok_or(InvalidRedis::Form)?,
        };
        Ok(Self {
            address: format!("{}:{port}", authority.host()).into(),
            user: decoded(user)?,
            password: decoded(password)?,
            database,
        })
    }
}

/// Without percent-encoding (RFC 3986 2.1).
fn decoded(text: &str) -> Result<String, InvalidRedis> {
    let (mut bytes, mut left) = (Vec::with_capacity(text.len()), text.bytes());
    while let Some(byte) = left.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || left.next().and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = digit().zip(digit()).ok_or(InvalidRedis::Form)?;
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| InvalidRedis::Form)?);
    }
    String::from_utf8(bytes).map_err(|_| InvalidRedis::Form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_passwords_not_shown() {
        let options: RedisOptions = "redis://weft:p%40ss@redis.shop:7000/3".parse().unwrap();
        let expected = RedisOptions {
            address: "redis.shop:7000".into(),
            user: "weft".into(),
            password: "p@ss".into(),
            database: 3,
        };
        assert_eq!(options, expected);
        assert_eq!(format!("{options:?}"), "redis://redis.shop:7000/3");
        let short: RedisOptions = "redis://:secret@[fd00::1]".parse().unwrap();
        assert_eq!(
            (&*short.address, &*short.password),
            ("[fd00::1]:6379", "secret")
        );
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for text in [
            "",
            "redis.shop:6379",
            "http://redis.shop",
            "redis://",
            "redis://host:0",
            "redis://host/first",
            "redis://user@host",
            "redis://:sec%ret@host",
            "redis://host?db=1",
            "redis+unix:///run/redis",
        ] {
            let error = text.parse::<RedisOptions>().unwrap_err();
            assert_eq!(error, InvalidRedis::Form, "{text}");
        }
        let error = "rediss://:secret@host".parse::<RedisOptions>().unwrap_err();
        assert_eq!(error, InvalidRedis::Tls);
        assert!(!error.to_string().contains("secret"));
    }
}
