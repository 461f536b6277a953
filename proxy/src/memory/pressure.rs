//! How short memory is for a pod; pure.

/// How far a pod has used up what it may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pressure {
    /// There is enough.
    Low,
    /// Half of what it may hold, it holds.
    Raised,
    /// It holds three quarters.
    High,
    /// It holds more than it may.
    Exceeded,
}

/// The pressure on a pod that holds `own` where all hold `held` of `limit`: it may hold as much
/// as is left.
pub(super) fn pressure(limit: usize, held: usize, own: usize) -> Pressure {
    let allowed = limit.saturating_sub(held);
    match own {
        own if own > allowed => Pressure::Exceeded,
        own if own > allowed / 4 * 3 => Pressure::High,
        own if own > allowed / 2 => Pressure::Raised,
        _ => Pressure::Low,
    }
}
