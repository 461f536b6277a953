//! The mutual TLS modes of a workload and of its ports.

use std::fmt;
use std::str::FromStr;

use crate::ports::is_mesh_port;

/// Mutual TLS mode of a workload's inbound side, the stricter the greater.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum MtlsMode {
    /// Plaintext, from clients of the mesh, too. A tunnel is still taken.
    Disabled,
    /// Mutual TLS from clients that are in the mesh, plaintext from the rest.
    #[default]
    Permissive,
    /// Mutual TLS only, but for what the pod takes from its own node
    /// ([`NodeAccess`](crate::node_access::NodeAccess)).
    Strict,
}

/// A text that is no mTLS mode.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not an mTLS mode; use `disabled`, `permissive` or `strict`")]
pub struct InvalidMtlsMode(String);

impl FromStr for MtlsMode {
    type Err = InvalidMtlsMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "disabled" => Ok(Self::Disabled),
            "permissive" => Ok(Self::Permissive),
            "strict" => Ok(Self::Strict),
            _ => Err(InvalidMtlsMode(text.to_owned())),
        }
    }
}

impl fmt::Display for MtlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "disabled",
            Self::Permissive => "permissive",
            Self::Strict => "strict",
        })
    }
}

/// The modes of single ports of a workload, where they aren't the workload's own.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct PortModes(Vec<(u16, MtlsMode)>);

/// A reason for texts or pairs to be no modes of ports.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidPortModes {
    /// One isn't a port and a mode.
    #[error("`{0}` is not a port and its mode, such as `8080=permissive`")]
    Entry(String),
    /// A port that none of the pod's applications can have.
    #[error("{0} is not a port of an application: use 1 to 65535, but for the proxy's own ports")]
    Port(u32),
    /// A mode that isn't known.
    #[error("port {0}: {1}")]
    Mode(u16, InvalidMtlsMode),
    /// A port that is there twice.
    #[error("port {0} has two modes")]
    Duplicate(u16),
    /// More than [`PortModes::MOST`].
    #[error("modes of {0} ports; at most {most} are allowed in a pod", most = PortModes::MOST)]
    TooMany(usize),
}

impl PortModes {
    /// The most ports that have a mode of their own.
    pub const MOST: usize = 64;

    /// Those of these ports.
    ///
    /// # Errors
    /// When there are too many, or a port is there twice or no application's.
    pub fn new(modes: impl IntoIterator<Item = (u16, MtlsMode)>) -> Result<Self, InvalidPortModes> {
        let mut modes: Vec<_> = modes.into_iter().collect();
        if modes.len() > Self::MOST {
            return Err(InvalidPortModes::TooMany(modes.len()));
        }
        modes.sort_unstable();
        let is_none = |port: u16| port == 0 || is_mesh_port(port);
        if let Some((port, _)) = modes.iter().find(|(port, _)| is_none(*port)) {
            return Err(InvalidPortModes::Port(u32::from(*port)));
        }
        let pairs = modes.iter().zip(modes.iter().skip(1));
        if let Some(((port, _), _)) = pairs.clone().find(|(one, other)| one.0 == other.0) {
            return Err(InvalidPortModes::Duplicate(*port));
        }
        Ok(Self(modes))
    }

    /// The mode of a port, where it has one of its own.
    pub fn at(&self, port: u16) -> Option<MtlsMode> {
        let found = self.0.binary_search_by_key(&port, |(port, _)| *port);
        let found = found.ok().and_then(|index| self.0.get(index));
        found.map(|(_, mode)| *mode)
    }

    /// Ports with their modes, by port.
    pub fn iter(&self) -> impl Iterator<Item = (u16, MtlsMode)> {
        self.0.iter().copied()
    }

    /// Whether no port has one of its own.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same, none weaker than that.
    #[must_use]
    pub fn at_least(&self, floor: MtlsMode) -> Self {
        let modes = self.iter().map(|(port, mode)| (port, mode.max(floor)));
        Self(modes.collect())
    }

    /// Those that are weaker than that.
    #[must_use]
    pub fn below(&self, floor: MtlsMode) -> Self {
        Self(self.iter().filter(|(_, mode)| *mode < floor).collect())
    }
}

impl FromStr for PortModes {
    type Err = InvalidPortModes;

    /// Reads `8080=permissive, 9090=strict`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let entries = text.split(',').map(str::trim);
        let entries = entries.filter(|entry| !entry.is_empty());
        let modes = entries.map(|entry| {
            let invalid = || InvalidPortModes::Entry(entry.to_owned());
            let (port, mode) = entry.split_once('=').ok_or_else(invalid)?;
            let port: u32 = port.trim().parse().map_err(|_| invalid())?;
            let port = u16::try_from(port).map_err(|_| InvalidPortModes::Port(port))?;
            let mode = mode.trim().parse();
            Ok((
                port,
                mode.map_err(|error| InvalidPortModes::Mode(port, error))?,
            ))
        });
        Self::new(modes.collect::<Result<Vec<_>, _>>()?)
    }
}

impl fmt::Display for PortModes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (port, mode)) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{port}={mode}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn modes_parse_or_say_what_is_allowed() {
        assert_eq!("STRICT".parse(), Ok(MtlsMode::Strict));
        let error = "mutual".parse::<MtlsMode>().unwrap_err().to_string();
        assert!(error.contains("`permissive` or `strict`"), "{error}");
    }

    #[test]
    fn modes_of_ports_parse_or_say_which_entry_is_wrong() {
        let modes: PortModes = "9090=strict, 8080=Permissive,".parse().unwrap();
        assert_eq!(modes.to_string(), "8080=permissive,9090=strict");
        assert_eq!(modes.at(9090), Some(MtlsMode::Strict));
        assert_eq!(modes.at(80), None);
        for (text, complaint) in [
            ("8080", "`8080` is not a port and its mode"),
            ("web=strict", "`web=strict` is not a port and its mode"),
            ("70000=strict", "70000 is not a port"),
            ("0=strict", "0 is not a port"),
            ("15008=strict", "15008 is not a port"),
            ("80=mutual", "port 80: `mutual` is not an mTLS mode"),
            ("80=strict,80=permissive", "port 80 has two modes"),
        ] {
            let error = text.parse::<PortModes>().unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
        let many: Vec<_> = (1..=65).map(|port| format!("{port}=strict")).collect();
        let error = many.join(",").parse::<PortModes>().unwrap_err();
        assert_eq!(error, InvalidPortModes::TooMany(65));
    }

    proptest! {
        #[test]
        fn modes_of_ports_say_what_they_were_read_from(text in "[0-9]{1,5}=(strict|permissive|disabled)(,[0-9]{1,5}=(strict|disabled)){0,3}") {
            if let Ok(modes) = text.parse::<PortModes>() {
                prop_assert_eq!(modes.to_string().parse(), Ok(modes.clone()));
                let raised = modes.at_least(MtlsMode::Permissive);
                prop_assert!(raised.below(MtlsMode::Permissive).is_empty());
                for (port, mode) in modes.iter() {
                    prop_assert_eq!(raised.at(port), Some(mode.max(MtlsMode::Permissive)));
                }
            }
        }

        #[test]
        fn no_text_breaks_the_parser(text in ".*") {
            let _ = text.parse::<PortModes>();
        }
    }
}
