//! The decision, and where it is from.

use std::fmt;

use super::membership::DefaultAuthorization;
use crate::name::NamespacedName;

/// What becomes of a connection or request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// It may pass.
    Allowed,
    /// It may not.
    Denied,
    /// The connection may pass, and each of its requests is decided; where nobody sees its
    /// requests, it is denied ([`Verdict::without_requests`]). Never the decision on a request.
    DependsOnRequest,
}

/// Where a decision is from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason<'a> {
    /// The first rule that matches, or may match by the request.
    Rule {
        /// Namespace and name of its policy.
        policy: &'a NamespacedName,
        /// Its place in the policy, from 0.
        rule: usize,
    },
    /// ALLOW policies select the workload, and none of their rules matches.
    NoAllowRule,
    /// No ALLOW policy selects it.
    Default(DefaultAuthorization),
    /// A policy selects it whose rules have not arrived, or are not understood.
    NotArrived(&'a NamespacedName),
    /// A RequestAuthentication has to look at the requests of a connection first.
    Authentication(&'a NamespacedName),
}

/// A rule of an AUDIT policy that matches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AuditedRule<'a> {
    /// Namespace and name of its policy.
    pub policy: &'a NamespacedName,
    /// Its place in the policy, from 0.
    pub rule: usize,
}

/// The decision if policies of dry runs were in force.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DryRun<'a> {
    /// The decision.
    pub decision: Decision,
    /// Where it is from.
    pub reason: Reason<'a>,
}

/// A decision, with what to write down of it.
#[must_use]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict<'a> {
    /// The decision.
    pub decision: Decision,
    /// Where it is from.
    pub reason: Reason<'a>,
    /// The decision if policies of dry runs were in force; `None` where none selects the
    /// workload.
    pub dry_run: Option<DryRun<'a>>,
    /// The rules of AUDIT policies that match, at most [`Verdict::MOST_AUDITED`].
    pub audited: Vec<AuditedRule<'a>>,
}

impl<'a> Verdict<'a> {
    /// The most rules of AUDIT policies that a verdict names.
    pub const MOST_AUDITED: usize = 16;

    /// Whether it may pass.
    pub fn is_allowed(&self) -> bool {
        self.decision == Decision::Allowed
    }

    /// The policy that gave the decision; `None` where it is from the default or from no rule.
    pub fn policy(&self) -> Option<&'a NamespacedName> {
        match self.reason {
            Reason::Rule { policy, .. }
            | Reason::NotArrived(policy)
            | Reason::Authentication(policy) => Some(policy),
            Reason::NoAllowRule | Reason::Default(_) => None,
        }
    }

    /// The place of the rule that gave the decision in its policy, from 0.
    pub fn rule(&self) -> Option<usize> {
        match self.reason {
            Reason::Rule { rule, .. } => Some(rule),
            _ => None,
        }
    }

    /// The verdict on a connection whose requests nobody sees: what depends on them is denied.
    pub fn without_requests(mut self) -> Self {
        let decided = |decision: &mut Decision| {
            if *decision == Decision::DependsOnRequest {
                *decision = Decision::Denied;
            }
        };
        decided(&mut self.decision);
        if let Some(dry_run) = &mut self.dry_run {
            decided(&mut dry_run.decision);
        }
        self
    }

    /// The worse of two, with the audited rules of both.
    pub(super) fn worse(mut self, other: Self) -> Self {
        if self.decision == Decision::Allowed {
            (self.decision, self.reason) = (other.decision, other.reason);
        }
        if let (Some(own), Some(other)) = (&mut self.dry_run, other.dry_run)
            && own.decision == Decision::Allowed
        {
            *own = other;
        }
        for audited in other.audited {
            if self.audited.len() < Self::MOST_AUDITED && !self.audited.contains(&audited) {
                self.audited.push(audited);
            }
        }
        self
    }

    /// Whether a connection that was admitted before has to end: not while policies are on
    /// their way.
    pub fn ends_connections(&self) -> bool {
        self.decision == Decision::Denied && !matches!(self.reason, Reason::NotArrived(_))
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { policy, rule } => write!(f, "rule {rule} of AuthorizationPolicy {policy}"),
            Self::NoAllowRule => {
                f.write_str("no rule of the ALLOW AuthorizationPolicies of the workload matches")
            }
            Self::Default(default) => write!(
                f,
                "no ALLOW AuthorizationPolicy selects the workload, and the default is {default}"
            ),
            Self::NotArrived(policy) => write!(
                f,
                "AuthorizationPolicy {policy} selects the workload, and its rules have not \
                 arrived: until then it admits nothing"
            ),
            Self::Authentication(policy) => {
                write!(f, "{policy} verifies the tokens of requests")
            }
        }
    }
}
