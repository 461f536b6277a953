//! AuthorizationPolicies: who may send what to a workload, decided where it arrives.
//! Decisions only: whoever asks also enforces.
//!
//! * [`policy`]: a policy; [`rule`]: the parts of a rule; [`pattern`] and [`path_pattern`]: what their texts match
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
//! decided in all of them, and the worst counts. Claims are undecidable where nobody verifies
//! tokens; that a request has no token is known.

pub mod attributes;
mod matching;
pub mod membership;
mod outcome;
pub mod path_pattern;
pub mod pattern;
pub mod policies;
pub mod policy;
mod request_path;
pub mod rule;
mod rule_index;
pub mod verdict;

pub use attributes::{RequestAttributes, Source};
pub use membership::{AuthorizationMembership, DefaultAuthorization};
pub use path_pattern::PathPattern;
pub use pattern::{PrincipalPattern, TextPattern};
pub use policies::AuthorizationPolicies;
pub use policy::{Action, AuthorizationPolicy};
pub use rule::{
    ClaimMatch, GrpcMethod, HeaderMatch, OperationMatch, Rule, ServiceAccount, SourceMatch, Values,
};
pub use verdict::{AuditedRule, Decision, DryRun, Reason, Verdict};

#[cfg(test)]
mod tests;
