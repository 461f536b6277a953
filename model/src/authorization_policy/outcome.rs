//! Whether something matches, in three values (Kleene's).

/// Whether something matches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    Yes,
    No,
    /// Nobody can tell, or not yet.
    Unknown,
}

impl Outcome {
    /// The outcome of all of several.
    pub(super) fn all(outcomes: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::Yes;
        for outcome in outcomes {
            match outcome {
                Self::Yes => {}
                Self::No => return Self::No,
                Self::Unknown => all = Self::Unknown,
            }
        }
        all
    }

    /// The outcome of any of several.
    pub(super) fn any(outcomes: impl IntoIterator<Item = Self>) -> Self {
        let mut any = Self::No;
        for outcome in outcomes {
            match outcome {
                Self::Yes => return Self::Yes,
                Self::No => {}
                Self::Unknown => any = Self::Unknown,
            }
        }
        any
    }

    /// Both of them. The other is asked for where it counts.
    pub(super) fn and(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::No => Self::No,
            Self::Yes => other(),
            Self::Unknown => match other() {
                Self::No => Self::No,
                Self::Yes | Self::Unknown => Self::Unknown,
            },
        }
    }

    /// The opposite.
    pub(super) fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
        }
    }

    /// Another outcome where nobody can tell.
    pub(super) fn or_else(self, assumed: Self) -> Self {
        match self {
            Self::Unknown => assumed,
            known => known,
        }
    }
}

impl From<bool> for Outcome {
    fn from(matches: bool) -> Self {
        match matches {
            true => Self::Yes,
            false => Self::No,
        }
    }
}
