//! Idle limits: how long a connection may be silent before its proxy ends it.
//!
//! What is nearest to the connection counts: a port of its Service, its Service, the pod, the
//! pod's namespace, the whole mesh; else the default.

use std::time::Duration;

/// How long a connection may be silent; for ever where `None`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IdleTimeouts {
    /// While both directions are open.
    pub open: Option<Duration>,
    /// Once one direction has ended.
    pub half_closed: Option<Duration>,
}

impl Default for IdleTimeouts {
    /// An open connection may be silent for ever, as without a mesh: pools of databases, message
    /// consumers and watches are. A peer that is gone is found by keepalives. Once one direction
    /// has ended, what is left is a slow answer, or a connection that was forgotten.
    fn default() -> Self {
        Self {
            open: None,
            half_closed: Some(Duration::from_secs(3600)),
        }
    }
}

/// Idle limits that somebody has set. `None` leaves it to others, zero is no limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct IdleLimits {
    /// While both directions are open.
    pub open: Option<Duration>,
    /// Once one direction has ended.
    pub half_closed: Option<Duration>,
}

impl IdleLimits {
    /// These, and where they say nothing, those.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            open: self.open.or(others.open),
            half_closed: self.half_closed.or(others.half_closed),
        }
    }

    /// The limits that hold, where those that say nothing are the default's.
    pub fn timeouts(self, default: IdleTimeouts) -> IdleTimeouts {
        let limit = |set: Option<Duration>, default| match set {
            Some(set) => Some(set).filter(|set| !set.is_zero()),
            None => default,
        };
        IdleTimeouts {
            open: limit(self.open, default.open),
            half_closed: limit(self.half_closed, default.half_closed),
        }
    }
}

/// Idle limits of the connections to one Service.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServiceIdleLimits {
    /// Of all its ports.
    pub all: IdleLimits,
    /// Of single ports, by the Service's number.
    pub ports: Vec<(u16, IdleLimits)>,
}

impl ServiceIdleLimits {
    /// The limits at a port of the Service.
    pub fn at(&self, port: u16) -> IdleLimits {
        let of_port = self.ports.iter().find(|(known, _)| *known == port);
        of_port.map_or(self.all, |(_, limits)| limits.or(self.all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn open(open: Duration) -> IdleLimits {
        IdleLimits {
            open: Some(open),
            half_closed: None,
        }
    }

    #[test]
    fn an_open_connection_may_be_silent_for_ever_unless_somebody_says_otherwise() {
        let default = IdleTimeouts::default();
        assert_eq!(IdleLimits::default().timeouts(default).open, None);
        assert_eq!(open(HOUR).timeouts(default).open, Some(HOUR));
    }

    #[test]
    fn what_is_nearer_counts_and_zero_is_no_limit() {
        let mesh = IdleLimits {
            open: Some(HOUR),
            half_closed: Some(HOUR),
        };
        let limits = open(Duration::ZERO).or(mesh);
        let timeouts = limits.timeouts(IdleTimeouts::default());
        assert_eq!((timeouts.open, timeouts.half_closed), (None, Some(HOUR)));
    }

    #[test]
    fn a_port_may_differ_from_its_service() {
        let limits = ServiceIdleLimits {
            all: open(HOUR),
            ports: vec![(5432, open(Duration::ZERO))],
        };
        assert_eq!(limits.at(5432), open(Duration::ZERO));
        assert_eq!(limits.at(80), open(HOUR));
    }
}
