//! What AuthorizationPolicies said of a connection or request, for its record.

use std::fmt;

use weft_model::NamespacedName;
use weft_model::authorization_policy::{Decision, DryRun, Reason, Verdict};

/// What AuthorizationPolicies said of a connection or request; nothing where none selects the
/// pod.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct AuthorizationNote(Option<Box<Said>>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Said {
    decision: Decision,
    decided: Option<PolicyRule>,
    audited: Vec<PolicyRule>,
    dry_run: Option<SaidByDryRun>,
}

/// What would have been decided.
#[derive(Clone, Debug, Eq, PartialEq)]
struct SaidByDryRun {
    decision: Decision,
    policy: Option<NamespacedName>,
    text: String,
}

/// A verdict to be counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct CountedVerdict<'a> {
    /// None where no rule gave it.
    pub(super) policy: Option<&'a NamespacedName>,
    pub(super) verdict: &'static str,
    pub(super) is_dry_run: bool,
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
            decision: verdict.decision,
            decided,
            audited: audited.collect(),
            dry_run: verdict.dry_run.as_ref().map(SaidByDryRun::from),
        };
        let is_something = said.decided.is_some()
            || said.decision == Decision::Denied
            || !said.audited.is_empty()
            || said.dry_run.is_some();
        Self(is_something.then(|| Box::new(said)))
    }
}

impl AuthorizationNote {
    /// Whether they said nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
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
        let dry_run = self.0.as_ref()?.dry_run.as_ref()?;
        Some(&dry_run.text)
    }

    /// What is counted of it. That a connection depends on its requests is no verdict yet.
    pub(super) fn counted(&self) -> impl Iterator<Item = CountedVerdict<'_>> {
        self.0.iter().flat_map(|said| {
            let of = |decision, policy, is_dry_run| {
                let verdict = match decision {
                    Decision::Allowed => "allowed",
                    Decision::Denied => "denied",
                    Decision::DependsOnRequest => return None,
                };
                Some(CountedVerdict {
                    policy,
                    verdict,
                    is_dry_run,
                })
            };
            let decided = said.decided.as_ref().map(|decided| &decided.policy);
            let dry_run = said.dry_run.as_ref();
            let dry_run = dry_run.and_then(|said| of(said.decision, said.policy.as_ref(), true));
            let audited = said.audited.iter().map(|audited| CountedVerdict {
                policy: Some(&audited.policy),
                verdict: "audited",
                is_dry_run: false,
            });
            let decided = of(said.decision, decided, false);
            decided.into_iter().chain(dry_run).chain(audited)
        })
    }
}

impl From<&DryRun<'_>> for SaidByDryRun {
    fn from(dry_run: &DryRun<'_>) -> Self {
        let decision = match dry_run.decision {
            Decision::Allowed => "allowed",
            Decision::Denied => "denied",
            Decision::DependsOnRequest => "depends on the request",
        };
        let policy = match dry_run.reason {
            Reason::Rule { policy, .. } | Reason::NotArrived(policy) => Some(policy.clone()),
            Reason::NoAllowRule | Reason::Default(_) => None,
        };
        Self {
            decision: dry_run.decision,
            policy,
            text: format!("{decision}: {}", dry_run.reason),
        }
    }
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
