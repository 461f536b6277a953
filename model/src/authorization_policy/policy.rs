//! One AuthorizationPolicy.

use super::rule::Rule;
use crate::name::NamespacedName;
use crate::request_authentication::RequestAuthentication;

/// One AuthorizationPolicy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuthorizationPolicy {
    /// Its namespace and name.
    pub key: NamespacedName,
    /// The consequence of a rule that matches.
    pub action: Action,
    /// It decides nothing: verdicts say what it would have decided.
    pub is_dry_run: bool,
    /// The rules, of which one has to match. Without any it matches nothing.
    pub rules: Vec<Rule>,
    /// Tokens that requests may bring: of [`Action::Authenticate`] alone, which has no rules.
    pub authentication: Option<RequestAuthentication>,
}

impl AuthorizationPolicy {
    /// The most rules of one policy.
    pub const MOST_RULES: usize = 64;
    /// The most values of all rules of one policy: its patterns, blocks, ports and headers.
    pub const MOST_VALUES: usize = 2048;
    /// The longest text of one value, in bytes.
    pub const LONGEST_VALUE: usize = 1024;
}

/// The consequence of a rule that matches.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Action {
    /// Admitted, unless a DENY policy matches. What no ALLOW policy of a workload matches is
    /// denied.
    Allow,
    /// Denied, whatever else matches.
    Deny,
    /// Named in the verdict, which it doesn't change.
    Audit,
    /// It decides nothing: it says which tokens of requests are verified, and how.
    Authenticate,
}
