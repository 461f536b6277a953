//! The policies that select a workload, and what holds where none of them decides.

use std::fmt;
use std::str::FromStr;

use crate::name::NamespacedName;

/// A workload's part in AuthorizationPolicies.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct AuthorizationMembership {
    /// The policies that select it, in ascending order.
    pub policies: Vec<NamespacedName>,
    /// What holds where no ALLOW policy selects it.
    pub default: DefaultAuthorization,
    /// None of the policies decides: all of them are of action AUDIT, or dry runs.
    pub is_observed_only: bool,
}

impl AuthorizationMembership {
    /// Whether anything may be denied that is sent to the workload.
    pub fn may_deny(&self) -> bool {
        let is_decided = !self.policies.is_empty() && !self.is_observed_only;
        is_decided || self.default != DefaultAuthorization::AllowAll
    }
}

/// What may reach a workload that no ALLOW policy selects.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum DefaultAuthorization {
    /// Everything.
    #[default]
    AllowAll,
    /// What has proven an identity of the workload's trust domain.
    Authenticated,
    /// What has proven an identity of its namespace and trust domain.
    SameNamespace,
    /// Nothing.
    Deny,
}

impl DefaultAuthorization {
    /// All of them, the most open one first.
    pub const ALL: [Self; 4] = [
        Self::AllowAll,
        Self::Authenticated,
        Self::SameNamespace,
        Self::Deny,
    ];

    /// Its name in MeshConfig.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllowAll => "AllowAll",
            Self::Authenticated => "Authenticated",
            Self::SameNamespace => "SameNamespace",
            Self::Deny => "Deny",
        }
    }
}

impl fmt::Display for DefaultAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no default authorization.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` is not a default authorization; use `AllowAll`, `Authenticated`, `SameNamespace` or `Deny`"
)]
pub struct InvalidDefaultAuthorization(String);

impl FromStr for DefaultAuthorization {
    type Err = InvalidDefaultAuthorization;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|known| known.as_str() == text);
        found.ok_or_else(|| InvalidDefaultAuthorization(text.to_owned()))
    }
}
