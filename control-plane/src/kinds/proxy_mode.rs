//! The proxy that serves a pod: its node's agent, or a sidecar.

use std::fmt;
use std::str::FromStr;

/// The choice of the proxy that serves a pod.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum ProxyMode {
    /// The agent of its node, or a sidecar where nodes can't capture (docs/sidecar.md).
    #[default]
    Auto,
    /// The agent of its node.
    Node,
    /// A sidecar.
    Sidecar,
}

/// A text that is no mode.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a mode; use `auto`, `node` or `sidecar`")]
pub(crate) struct InvalidProxyMode(String);

impl FromStr for ProxyMode {
    type Err = InvalidProxyMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "node" => Ok(Self::Node),
            "sidecar" => Ok(Self::Sidecar),
            _ => Err(InvalidProxyMode(text.to_owned())),
        }
    }
}

impl fmt::Display for ProxyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Node => "node",
            Self::Sidecar => "sidecar",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_read_as_it_is_written() {
        for mode in [ProxyMode::Auto, ProxyMode::Node, ProxyMode::Sidecar] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert!("Sidecar".parse::<ProxyMode>().is_err());
    }
}
