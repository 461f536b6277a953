//! The policies of one workload, compiled, and what they decide.

use std::sync::Arc;

use super::attributes::{RequestAttributes, Source};
use super::matching::{Facts, OwnNamespace, RequestFacts};
use super::membership::{AuthorizationMembership, DefaultAuthorization};
use super::outcome::Outcome;
use super::policy::{Action, AuthorizationPolicy};
use super::request_path::PathReadings;
use super::rule_index::{Found, RuleIndex};
use super::verdict::{AuditedRule, Decision, DryRun, Reason, Verdict};
use crate::identity::SpiffeId;
use crate::name::NamespacedName;
use crate::request_authentication::{JwtProvider, RequestAuthentication};

/// The AuthorizationPolicies of one workload. Compiled once for each change of them: as long as
/// the `Arc` of one is the same, so are its verdicts.
///
/// ```
/// use std::sync::Arc;
///
/// use weft_model::NamespacedName;
/// use weft_model::authorization_policy::{
///     Action, AuthorizationMembership, AuthorizationPolicies, AuthorizationPolicy, Decision,
///     Rule, Source, SourceMatch, Values,
/// };
///
/// let key = NamespacedName::new("shop", "cart-only");
/// let policy = Arc::new(AuthorizationPolicy {
///     key: key.clone(),
///     action: Action::Allow,
///     is_dry_run: false,
///     rules: vec![Rule {
///         from: vec![SourceMatch {
///             principals: Values::any_of(["*/ns/shop/sa/cart".parse()?]),
///             ..SourceMatch::default()
///         }],
///         ..Rule::default()
///     }],
///     authentication: None,
/// });
/// let web = "spiffe://cluster.local/ns/shop/sa/web".parse()?;
/// let selected = AuthorizationMembership {
///     policies: vec![key],
///     ..AuthorizationMembership::default()
/// };
/// let policies = AuthorizationPolicies::new(&web, &selected, |_| Some(Arc::clone(&policy)));
/// let cart = "spiffe://cluster.local/ns/shop/sa/cart".parse()?;
/// for (client, decision) in [(&cart, Decision::Allowed), (&web, Decision::Denied)] {
///     let source = Source { identity: Some(client), address: "10.0.0.7".parse()? };
///     assert_eq!(policies.connection(&source, 80).decision, decision);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AuthorizationPolicies {
    own: OwnNamespace,
    default: DefaultAuthorization,
    /// The first policy that isn't known.
    missing: Option<NamespacedName>,
    in_force: RulesByAction,
    audit: RuleIndex,
    /// Policies that only say what they would decide; none where there are none.
    dry_run: Option<RulesByAction>,
    /// The tokens that requests may bring.
    authentications: Vec<Arc<AuthorizationPolicy>>,
    has_http_parts: bool,
}

/// The rules that decide.
#[derive(Clone, Debug, Default)]
struct RulesByAction {
    deny: RuleIndex,
    allow: RuleIndex,
    /// There is an ALLOW policy, with or without rules.
    has_allow: bool,
}

impl AuthorizationPolicies {
    /// Compiles the policies that select the workload of an identity.
    pub fn new(
        identity: &SpiffeId,
        membership: &AuthorizationMembership,
        policy: impl Fn(&NamespacedName) -> Option<Arc<AuthorizationPolicy>>,
    ) -> Self {
        let mut policies = Self {
            own: OwnNamespace::of(identity),
            default: membership.default,
            missing: None,
            in_force: RulesByAction::default(),
            audit: RuleIndex::default(),
            dry_run: None,
            authentications: Vec::new(),
            has_http_parts: false,
        };
        for name in &membership.policies {
            match policy(name) {
                Some(policy) => policies.push(&policy),
                None => policies.missing = policies.missing.or_else(|| Some(name.clone())),
            }
        }
        policies
    }

    fn push(&mut self, policy: &Arc<AuthorizationPolicy>) {
        self.has_http_parts |= policy.rules.iter().any(|rule| rule.has_http_parts());
        let rules = match (policy.action, policy.is_dry_run) {
            // What decides nothing has nothing to try.
            (Action::Audit, _) => return self.audit.push(policy),
            (Action::Authenticate, _) => return self.authentications.push(Arc::clone(policy)),
            (_, false) => &mut self.in_force,
            (_, true) => self.dry_run.get_or_insert_default(),
        };
        match policy.action {
            Action::Deny => rules.deny.push(policy),
            Action::Allow | Action::Audit | Action::Authenticate => {
                rules.allow.push(policy);
                rules.has_allow = true;
            }
        }
    }

    /// Whether everything is allowed, and nothing to be written down.
    pub fn is_empty(&self) -> bool {
        let is_open = self.default == DefaultAuthorization::AllowAll && self.missing.is_none();
        let RulesByAction {
            deny,
            allow: _,
            has_allow,
        } = &self.in_force;
        let is_audited = !self.audit.is_empty() || self.dry_run.is_some();
        let has_tokens = !self.authentications.is_empty();
        is_open && deny.is_empty() && !has_allow && !is_audited && !has_tokens
    }

    /// The issuers whose tokens requests to a port may bring.
    pub fn token_providers(&self, port: u16) -> impl Iterator<Item = &Arc<JwtProvider>> {
        let authentications = self.authentications(port);
        authentications.flat_map(|(_, authentication)| &authentication.providers)
    }

    /// Whether requests to a port have their tokens verified.
    pub fn verifies_tokens(&self, port: u16) -> bool {
        self.authentications(port).next().is_some()
    }

    fn authentications(
        &self,
        port: u16,
    ) -> impl Iterator<Item = (&NamespacedName, &RequestAuthentication)> {
        let all = self.authentications.iter();
        let all = all.filter_map(|policy| Some((&policy.key, policy.authentication.as_ref()?)));
        all.filter(move |(_, authentication)| authentication.is_for(port))
    }

    /// Whether some rule looks at requests.
    pub fn has_http_parts(&self) -> bool {
        self.has_http_parts
    }

    /// The verdict on a connection to a port of the workload, of whose requests nothing is known
    /// yet.
    pub fn connection(&self, source: &Source<'_>, port: u16) -> Verdict<'_> {
        self.verdict(&self.facts(source, port))
    }

    /// The verdict on a request. It stands for itself: what holds for its connection is part of
    /// it. A path that servers read in several ways is decided by all of them, and the worst
    /// counts. What follows a CONNECT nobody looks at: it is let in where its connection would be
    /// without a look at requests, too.
    pub fn request(
        &self,
        source: &Source<'_>,
        port: u16,
        request: &RequestAttributes<'_>,
    ) -> Verdict<'_> {
        let readings = PathReadings::new(request.path);
        let facts = self.facts(source, port);
        let of_path = |path: &[u8]| {
            self.verdict(&Facts {
                request: Some(RequestFacts {
                    attributes: request,
                    path,
                }),
                ..facts
            })
        };
        let others = readings.others.iter().map(|path| of_path(path));
        let verdict = others.fold(of_path(&readings.first), Verdict::worse);
        match request.method == "CONNECT" && request.path.is_empty() {
            true => verdict.worse(self.connection(source, port).without_requests()),
            false => verdict,
        }
    }

    fn facts<'a>(&'a self, source: &'a Source<'a>, port: u16) -> Facts<'a> {
        Facts {
            own: &self.own,
            source,
            port,
            verifies_tokens: self.verifies_tokens(port),
            request: None,
        }
    }

    fn verdict(&self, facts: &Facts<'_>) -> Verdict<'_> {
        let found = self.in_force.find(facts);
        let (decision, reason) = self.decide(facts, [Some((&self.in_force, found)), None]);
        let dry_run = self.dry_run.as_ref().map(|rules| {
            let tried = rules.find(facts);
            let both = [Some((&self.in_force, found)), Some((rules, tried))];
            let (decision, reason) = self.decide(facts, both);
            DryRun { decision, reason }
        });
        Verdict {
            decision,
            reason,
            dry_run,
            audited: self.audited(facts),
        }
    }

    /// The order of evaluation: DENY, then what isn't known, then ALLOW, then the default; and
    /// last, whether a request may still be denied.
    fn decide<'a>(
        &'a self,
        facts: &Facts<'_>,
        rules: [Option<(&'a RulesByAction, FoundByAction)>; 2],
    ) -> (Decision, Reason<'a>) {
        let rules = || rules.iter().flatten();
        let denied = rules().find_map(|(rules, found)| reason(&rules.deny, found.deny.matching));
        if let Some(reason) = denied {
            return (Decision::Denied, reason);
        }
        if let Some(missing) = &self.missing {
            return (Decision::Denied, Reason::NotArrived(missing));
        }
        let allow = |of: fn(&Found) -> Option<usize>| {
            rules().find_map(|(rules, found)| reason(&rules.allow, of(&found.allow)))
        };
        let has_allow = rules().any(|(rules, _)| rules.has_allow);
        let allowed = match has_allow {
            false => self.decide_by_default(facts),
            true => match (allow(|found| found.matching), allow(|found| found.unknown)) {
                (Some(reason), _) => (Decision::Allowed, reason),
                (None, Some(reason)) => (Decision::DependsOnRequest, reason),
                (None, None) => (Decision::Denied, Reason::NoAllowRule),
            },
        };
        let may_deny = rules().find_map(|(rules, found)| reason(&rules.deny, found.deny.unknown));
        // A token may be invalid.
        let token = self.authentications(facts.port).next();
        let token = token.filter(|_| facts.request.is_none());
        let may_refuse = may_deny.or(token.map(|(policy, _)| Reason::Authentication(policy)));
        match (allowed.0, may_refuse) {
            (Decision::Allowed, Some(reason)) => (Decision::DependsOnRequest, reason),
            _ => allowed,
        }
    }

    fn decide_by_default(&self, facts: &Facts<'_>) -> (Decision, Reason<'_>) {
        let identity = facts.source.identity;
        let own = identity.filter(|id| *id.trust_domain() == self.own.trust_domain);
        let is_allowed = match self.default {
            DefaultAuthorization::AllowAll => true,
            DefaultAuthorization::Authenticated => own.is_some(),
            DefaultAuthorization::SameNamespace => {
                own.is_some_and(|id| id.namespace() == &*self.own.name)
            }
            DefaultAuthorization::Deny => false,
        };
        let decision = match is_allowed {
            true => Decision::Allowed,
            false => Decision::Denied,
        };
        (decision, Reason::Default(self.default))
    }

    fn audited(&self, facts: &Facts<'_>) -> Vec<AuditedRule<'_>> {
        if self.audit.is_empty() {
            return Vec::new();
        }
        let mut matching = self.audit.matching(facts, Outcome::No);
        matching.sort_unstable();
        matching.dedup();
        let rules = matching.into_iter().filter_map(|at| self.audit.get(at));
        let rules = rules.map(|rule| AuditedRule {
            policy: &rule.policy.key,
            rule: rule.place,
        });
        rules.take(Verdict::MOST_AUDITED).collect()
    }
}

/// The rules of both actions that match.
#[derive(Clone, Copy, Debug)]
struct FoundByAction {
    deny: Found,
    allow: Found,
}

impl RulesByAction {
    /// What can't be decided is taken against the client.
    fn find(&self, facts: &Facts<'_>) -> FoundByAction {
        FoundByAction {
            deny: self.deny.find(facts, Outcome::Yes),
            allow: self.allow.find(facts, Outcome::No),
        }
    }
}

fn reason(rules: &RuleIndex, at: Option<usize>) -> Option<Reason<'_>> {
    let rule = rules.get(at?)?;
    Some(Reason::Rule {
        policy: &rule.policy.key,
        rule: rule.place,
    })
}
