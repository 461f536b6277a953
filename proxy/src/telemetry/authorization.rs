//! What AuthorizationPolicies said of a connection or request, for its record.

use std::fmt;

use weft_model::NamespacedName;
use weft_model::authorization_policy::{Decision, DryRun, Verdict};
use weft_model::request_authentication::TokenRefusal;

/// What AuthorizationPolicies said of a connection or request; nothing where none selects the
/// pod.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct AuthorizationNote(Option<Box<Said>>);

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Said {
    decided: Option<PolicyRule>,
    audited: Vec<PolicyRule>,
    dry_run: Option<String>,
    /// `issuer/subject` of a request's token.
    principal: Option<String>,
    refused_token: Option<TokenRefusal>,
}

/// A rule of a policy, or all of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct PolicyRule {
    pub(super) policy: NamespacedName,
    /// Its place in the policy, from 0.
    pub(super) rule: Option<usize>,
}

impl From<&Verdict<'_>> for AuthorizationNote {
    fn from(verdict: &Verdict<'_>) -> Self {
        let decided = verdict.policy().map(|policy| PolicyRule {
            policy: policy.clone(),
            rule: verdict.rule(),
        });
        let audited = verdict.audited.iter().map(|audited| PolicyRule {
            policy: audited.policy.clone(),
            rule: Some(audited.rule),
        });
        let said = Said {
            decided,
            audited: audited.collect(),
            dry_run: verdict.dry_run.as_ref().map(describe),
            ..Said::default()
        };
        let is_something =
            said.decided.is_some() || !said.audited.is_empty() || said.dry_run.is_some();
        Self(is_something.then(|| Box::new(said)))
    }
}

impl AuthorizationNote {
    /// Of a request whose token is refused.
    pub(crate) fn of_refused_token(refusal: TokenRefusal) -> Self {
        Self(Some(Box::new(Said {
            refused_token: Some(refusal),
            ..Said::default()
        })))
    }

    /// The same, of a request whose token proves a principal.
    pub(crate) fn with_principal(mut self, principal: Option<&str>) -> Self {
        if let Some(principal) = principal {
            let said = self.0.get_or_insert_default();
            said.principal = Some(principal.to_owned());
        }
        self
    }

    /// `issuer/subject` of a request's token.
    pub(super) fn principal(&self) -> Option<&str> {
        self.0.as_ref()?.principal.as_deref()
    }

    /// Why a request's token is refused.
    pub(super) fn refused_token(&self) -> Option<TokenRefusal> {
        self.0.as_ref()?.refused_token
    }

    /// The policy that decided, and its rule.
    pub(super) fn decided(&self) -> Option<&PolicyRule> {
        self.0.as_ref()?.decided.as_ref()
    }

    /// Rules of AUDIT policies that match, separated by commas.
    pub(super) fn audited(&self) -> Option<String> {
        let audited = &self.0.as_ref()?.audited;
        let names: Vec<_> = audited.iter().map(ToString::to_string).collect();
        (!names.is_empty()).then(|| names.join(","))
    }

    /// The decision if policies of dry runs were in force.
    pub(super) fn dry_run(&self) -> Option<&str> {
        self.0.as_ref()?.dry_run.as_deref()
    }
}

fn describe(dry_run: &DryRun<'_>) -> String {
    let decision = match dry_run.decision {
        Decision::Allowed => "allowed",
        Decision::Denied => "denied",
        Decision::DependsOnRequest => "depends on the request",
    };
    format!("{decision}: {}", dry_run.reason)
}

/// `namespace/name`, with `#` and the place of the rule.
impl fmt::Display for PolicyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.policy)?;
        match self.rule {
            Some(rule) => write!(f, "#{rule}"),
            None => Ok(()),
        }
    }
}
