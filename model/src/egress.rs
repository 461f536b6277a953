//! The egress mode of a workload: whether it may leave what is registered with the mesh.

use std::fmt;
use std::str::FromStr;

/// Policy for a workload's connections to unregistered destinations: those that are no
/// Service, pod, endpoint of a Service or external service. The stricter the greater.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum EgressMode {
    /// They go where the application asked.
    #[default]
    AllowAny,
    /// They are refused.
    RegisteredOnly,
}

/// A text that is no egress mode.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not an egress mode; use `AllowAny` or `RegisteredOnly`")]
pub struct InvalidEgressMode(String);

impl FromStr for EgressMode {
    type Err = InvalidEgressMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "AllowAny" => Ok(Self::AllowAny),
            "RegisteredOnly" => Ok(Self::RegisteredOnly),
            _ => Err(InvalidEgressMode(text.to_owned())),
        }
    }
}

impl fmt::Display for EgressMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AllowAny => "AllowAny",
            Self::RegisteredOnly => "RegisteredOnly",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_parse_as_they_print() {
        for mode in [EgressMode::AllowAny, EgressMode::RegisteredOnly] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert!("registeredonly".parse::<EgressMode>().is_err());
    }
}
