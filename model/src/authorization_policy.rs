//! AuthorizationPolicies: who may send what to a workload, decided where it arrives.
//! Decisions only: whoever asks also enforces.
//!
//! * [`rule`]: the parts of a rule; [`pattern`] and [`path_pattern`]: what their texts match
//! * [`attributes`]: what is known of a connection and of a request
//! * [`membership`]: the policies that select a workload, and its default
//! * [`policies`]: the policies of one workload, compiled, and what they decide
//! * [`verdict`]: the decision, and the policy and rule that it is from
//! * `matching`, `outcome`: whether a rule matches, in three values
//! * `rule_index`: the rules that may match, by client and path
//! * `request_path`: the paths that a server may read in one
//!
//! # What is taken against the client
//! A part of a rule that can't be decided is taken against the client: a rule of an ALLOW policy
//! doesn't match for it, one of a DENY policy does. That is an identity where the client has
//! proven none, an HTTP part on a connection whose requests nobody sees, a header that came
//! several times with values that disagree, a method in another case, and what a newer control
//! plane asks for and this version doesn't know. A path that servers read in several ways is
//! decided in all of them, and the worst counts.

pub mod attributes;
mod matching;
pub mod membership;
mod outcome;
pub mod path_pattern;
pub mod pattern;
pub mod policies;
mod request_path;
pub mod rule;
mod rule_index;
pub mod verdict;

pub use attributes::{RequestAttributes, Source};
pub use membership::{AuthorizationMembership, DefaultAuthorization};
pub use path_pattern::PathPattern;
pub use pattern::{PrincipalPattern, TextPattern};
pub use policies::AuthorizationPolicies;
pub use rule::{
    GrpcMethod, HeaderMatch, OperationMatch, Rule, ServiceAccount, SourceMatch, Values,
};
pub use verdict::{AuditedRule, Decision, DryRun, Reason, Verdict};

use crate::name::NamespacedName;

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
}

#[cfg(test)]
mod tests;
