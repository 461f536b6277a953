//! Join tokens: how an agent proves which node it speaks for, or a sidecar which pod, when there
//! is no Kubernetes to vouch for it. A token is bound to one of both and an end; the control
//! plane keeps no list, just the key.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use weft_model::NamespacedName;

use super::{AuthorityError, private_file};

/// The beginning of every token, so that one found in a log is recognised.
const PREFIX: &str = "weft-join";
/// Bytes of the key.
const KEY_BYTES: usize = 32;

/// A reason to refuse a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum InvalidToken {
    /// It isn't one.
    #[error("not a join token; make one with `weft-control-plane token`")]
    Form,
    /// Its signature is someone else's.
    #[error("the join token was not made by this control plane")]
    Signature,
    /// Its time is over.
    #[error("the join token has expired; make a new one with `weft-control-plane token`")]
    Expired,
}

/// The claims of a token.
#[derive(Debug, Deserialize, Serialize)]
struct Claims {
    #[serde(flatten)]
    bearer: Bearer,
    /// Seconds since 1970.
    expires: u64,
}

/// The one that a token is for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Bearer {
    /// The agent of a node.
    Node(String),
    /// The sidecar of a pod.
    Pod(PodName),
}

/// A pod, as `namespace/name`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct PodName(pub(crate) NamespacedName);

impl std::str::FromStr for PodName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name))
                if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
            {
                Ok(Self(NamespacedName::new(namespace, name)))
            }
            _ => Err(format!("`{text}` is not a pod; write NAMESPACE/NAME")),
        }
    }
}

impl TryFrom<String> for PodName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PodName> for String {
    fn from(pod: PodName) -> Self {
        pod.0.to_string()
    }
}

/// The key that tokens are made and checked with.
pub(crate) struct JoinKey(hmac::Key);

impl std::fmt::Debug for JoinKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinKey")
    }
}

impl JoinKey {
    /// The key of a state directory; a new one at its first use.
    pub(crate) fn open(state_directory: &Path) -> Result<Self, AuthorityError> {
        let path = path_in(state_directory);
        let failed = |source| AuthorityError::Io {
            path: path.clone(),
            source,
        };
        if !path.exists() {
            let mut fresh = [0; KEY_BYTES];
            let filled = SystemRandom::new().fill(&mut fresh);
            filled.map_err(|_| failed(io::Error::other("no randomness")))?;
            fs::create_dir_all(state_directory).map_err(failed)?;
            match private_file::create(&path, &fresh) {
                // Another process was first.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => result.map_err(failed)?,
            }
        }
        Self::read(path)
    }

    /// The key that the control plane of a state directory has made.
    ///
    /// # Errors
    /// When none has.
    pub(crate) fn existing(state_directory: &Path) -> Result<Self, AuthorityError> {
        let path = path_in(state_directory);
        match path.exists() {
            true => Self::read(path),
            false => Err(AuthorityError::NoJoinKey(path)),
        }
    }

    fn read(path: PathBuf) -> Result<Self, AuthorityError> {
        match fs::read(&path) {
            Ok(key) if key.len() == KEY_BYTES => Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key))),
            Ok(_) => Err(AuthorityError::JoinKey(path)),
            Err(source) => Err(AuthorityError::Io { path, source }),
        }
    }

    /// A token for an agent or a sidecar.
    pub(crate) fn issue(&self, bearer: Bearer, lifetime: Duration, now: SystemTime) -> String {
        let expires = seconds(now).saturating_add(lifetime.as_secs());
        let claims = Claims { bearer, expires };
        // Names and numbers: there is nothing that can't be written.
        let claims = serde_json::to_vec(&claims).unwrap_or_default();
        let claims = URL_SAFE_NO_PAD.encode(claims);
        let tag = hmac::sign(&self.0, claims.as_bytes());
        format!("{PREFIX}.{claims}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// The one that a token speaks for.
    pub(crate) fn verify(&self, token: &str, now: SystemTime) -> Result<Bearer, InvalidToken> {
        let mut parts = token.trim().split('.');
        let (Some(PREFIX), Some(claims), Some(tag), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidToken::Form);
        };
        let decode = |text| URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidToken::Form);
        // Compares in constant time.
        hmac::verify(&self.0, claims.as_bytes(), &decode(tag)?)
            .map_err(|_| InvalidToken::Signature)?;
        let claims: Claims =
            serde_json::from_slice(&decode(claims)?).map_err(|_| InvalidToken::Form)?;
        if claims.expires <= seconds(now) {
            return Err(InvalidToken::Expired);
        }
        Ok(claims.bearer)
    }
}

fn path_in(state_directory: &Path) -> PathBuf {
    state_directory.join("join-key")
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn node(name: &str) -> Bearer {
        Bearer::Node(name.to_owned())
    }

    fn key() -> JoinKey {
        JoinKey::open(tempfile::tempdir().unwrap().path()).unwrap()
    }

    #[test]
    fn a_token_speaks_for_its_node_until_it_expires() {
        let (key, now) = (key(), SystemTime::now());
        let token = key.issue(node("node-1"), HOUR, now);
        assert_eq!(key.verify(&token, now), Ok(node("node-1")));
        assert_eq!(key.verify(&token, now + HOUR), Err(InvalidToken::Expired));
        // As earlier versions have made them.
        let claims = URL_SAFE_NO_PAD
            .decode(token.split('.').nth(1).unwrap())
            .unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["node"], "node-1");
    }

    #[test]
    fn a_pods_token_speaks_for_that_pod_and_no_node() {
        let (key, now) = (key(), SystemTime::now());
        let pod = Bearer::Pod("shop/web".parse().unwrap());
        let token = key.issue(pod.clone(), HOUR, now);
        assert_eq!(key.verify(&token, now), Ok(pod));
        for odd in ["", "web", "/web", "shop/", "shop/web/more"] {
            assert!(odd.parse::<PodName>().is_err(), "{odd}");
        }
    }

    #[test]
    fn a_forged_or_foreign_token_is_refused() {
        let (key, now) = (key(), SystemTime::now());
        let foreign = self::key().issue(node("node-1"), HOUR, now);
        assert_eq!(key.verify(&foreign, now), Err(InvalidToken::Signature));
        let token = key.issue(node("node-1"), HOUR, now);
        let claims = URL_SAFE_NO_PAD.encode(r#"{"node":"node-2","expires":99999999999}"#);
        let tag = token.rsplit('.').next().unwrap();
        let forged = format!("{PREFIX}.{claims}.{tag}");
        assert_eq!(key.verify(&forged, now), Err(InvalidToken::Signature));
        for garbage in [
            "",
            "weft-join",
            "weft-join..",
            "weft-join.a.b.c",
            "Bearer x",
        ] {
            assert!(key.verify(garbage, now).is_err(), "{garbage}");
        }
    }

    #[test]
    fn who_asks_for_a_token_makes_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let mistyped = folder.path().join("stat");
        let refused = JoinKey::existing(&mistyped).unwrap_err();
        assert!(matches!(refused, AuthorityError::NoJoinKey(_)), "{refused}");
        assert!(!mistyped.exists());
        let (made, now) = (JoinKey::open(folder.path()).unwrap(), SystemTime::now());
        let found = JoinKey::existing(folder.path()).unwrap();
        let token = found.issue(node("n"), HOUR, now);
        assert_eq!(made.verify(&token, now), Ok(node("n")));
    }

    #[test]
    fn the_key_is_made_once_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let token = JoinKey::open(folder.path())
            .unwrap()
            .issue(node("n"), HOUR, SystemTime::now());
        let again = JoinKey::open(folder.path()).unwrap();
        assert_eq!(again.verify(&token, SystemTime::now()), Ok(node("n")));
        let mode = fs::metadata(folder.path().join("join-key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
