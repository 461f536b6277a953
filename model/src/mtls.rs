//! The mutual TLS mode of a workload.

use std::fmt;
use std::str::FromStr;

/// Mutual TLS mode of a workload's inbound side, the stricter the greater.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum MtlsMode {
    /// Mutual TLS from clients that are in the mesh, plaintext from the rest.
    #[default]
    Permissive,
    /// Mutual TLS only, but for what the pod takes from its own node
    /// ([`NodeAccess`](crate::node_access::NodeAccess)).
    Strict,
}

/// A text that is no mTLS mode.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not an mTLS mode; use `permissive` or `strict`")]
pub struct InvalidMtlsMode(String);

impl FromStr for MtlsMode {
    type Err = InvalidMtlsMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "permissive" => Ok(Self::Permissive),
            "strict" => Ok(Self::Strict),
            _ => Err(InvalidMtlsMode(text.to_owned())),
        }
    }
}

impl fmt::Display for MtlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permissive => "permissive",
            Self::Strict => "strict",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_parse_or_say_what_is_allowed() {
        assert_eq!("STRICT".parse(), Ok(MtlsMode::Strict));
        let error = "mutual".parse::<MtlsMode>().unwrap_err().to_string();
        assert!(error.contains("`permissive` or `strict`"), "{error}");
    }
}
