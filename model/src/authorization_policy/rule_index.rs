//! The rules of a workload's policies of one action, found by client and path: with a thousand
//! policies, few may match one request.

use std::collections::HashMap;
use std::sync::Arc;

use super::matching::Facts;
use super::outcome::Outcome;
use super::path_pattern::{PathKey, first_segment};
use super::pattern::TextPattern;
use super::policy::AuthorizationPolicy;
use super::rule::{OperationMatch, Rule, SourceMatch};
use crate::identity::SpiffeId;

/// The most entries of the index for one rule: one with more is looked at for every path.
const MOST_ENTRIES: usize = 512;

/// The rules of policies, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct RuleIndex {
    rules: Vec<IndexedRule>,
    by_account: HashMap<Arc<str>, HashMap<Arc<str>, RulesByPath>>,
    by_namespace: HashMap<Arc<str>, RulesByPath>,
    /// Rules for clients that are found by neither.
    others: RulesByPath,
}

/// One rule of a policy.
#[derive(Clone, Debug)]
pub(super) struct IndexedRule {
    pub(super) policy: Arc<AuthorizationPolicy>,
    /// Its place in the policy.
    pub(super) place: usize,
}

/// Rules by the paths that they are for: places in the index, in ascending order.
#[derive(Clone, Debug, Default)]
struct RulesByPath {
    exact: HashMap<Box<[u8]>, Vec<usize>>,
    by_first_segment: HashMap<Box<[u8]>, Vec<usize>>,
    /// Rules that may match any path.
    others: Vec<usize>,
    /// All of them.
    all: Vec<usize>,
}

/// The rules that match, by their places in the index.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Found {
    /// The first that matches.
    pub(super) matching: Option<usize>,
    /// The first of which the request decides whether it matches.
    pub(super) unknown: Option<usize>,
}

/// The part of a client's identity by which a rule is found.
enum SourceKey<'a> {
    Account(&'a str, &'a str),
    Namespace(&'a str),
    Any,
}

impl RuleIndex {
    /// Adds the rules of a policy behind those of others.
    pub(super) fn push(&mut self, policy: &Arc<AuthorizationPolicy>) {
        for (place, rule) in policy.rules.iter().enumerate() {
            let at = self.rules.len();
            self.rules.push(IndexedRule {
                policy: Arc::clone(policy),
                place,
            });
            let exact: Vec<_> = exact_identities(rule);
            let sources = source_keys(rule, &exact);
            let paths = path_keys(rule);
            let has_many = sources.len().saturating_mul(paths.len()) > MOST_ENTRIES;
            for source in sources {
                let by_path = self.of_source(&source);
                match has_many {
                    true => by_path.insert(PathKey::Any, at),
                    false => paths.iter().for_each(|path| by_path.insert(*path, at)),
                }
            }
        }
    }

    /// Whether there is no rule.
    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rule at a place.
    pub(super) fn get(&self, at: usize) -> Option<&IndexedRule> {
        self.rules.get(at)
    }

    /// The first rules that match and that may. What can't be decided is assumed.
    pub(super) fn find(&self, facts: &Facts<'_>, assumed: Outcome) -> Found {
        let mut found = Found::default();
        self.visit(facts, assumed, |at, outcome| {
            let first = match outcome {
                Outcome::Yes => &mut found.matching,
                Outcome::Unknown => &mut found.unknown,
                Outcome::No => return true,
            };
            *first = Some(first.map_or(at, |first| first.min(at)));
            // What comes behind it in the same list is no better.
            outcome == Outcome::Unknown
        });
        found
    }

    /// All rules that match, in no particular order; some of them twice.
    pub(super) fn matching(&self, facts: &Facts<'_>, assumed: Outcome) -> Vec<usize> {
        let mut matching = Vec::new();
        self.visit(facts, assumed, |at, outcome| {
            if outcome == Outcome::Yes {
                matching.push(at);
            }
            true
        });
        matching
    }

    /// Evaluates the rules that may match, list by list, each until the visitor has seen enough
    /// of it.
    fn visit(
        &self,
        facts: &Facts<'_>,
        assumed: Outcome,
        mut visitor: impl FnMut(usize, Outcome) -> bool,
    ) {
        let mut visit = |places: &[usize]| {
            for at in places {
                let rule = self.rules.get(*at);
                let rule = rule.and_then(|indexed| indexed.policy.rules.get(indexed.place));
                let outcome = rule.map_or(Outcome::No, |rule| facts.evaluate(rule, assumed));
                if !visitor(*at, outcome) {
                    break;
                }
            }
        };
        let path = facts.request.map(|request| request.path);
        self.others.lists(path, &mut visit);
        match facts.source.identity {
            Some(id) => {
                if let Some(by_path) = self.by_namespace.get(id.namespace()) {
                    by_path.lists(path, &mut visit);
                }
                let accounts = self.by_account.get(id.namespace());
                if let Some(by_path) = accounts.and_then(|of| of.get(id.service_account())) {
                    by_path.lists(path, &mut visit);
                }
            }
            // Each is for an identity, which isn't proven.
            None if assumed != Outcome::Yes => {}
            None => {
                let accounts = self.by_account.values().flat_map(HashMap::values);
                for by_path in self.by_namespace.values().chain(accounts) {
                    by_path.lists(path, &mut visit);
                }
            }
        }
    }

    fn of_source(&mut self, key: &SourceKey<'_>) -> &mut RulesByPath {
        match key {
            SourceKey::Account(namespace, name) => {
                let accounts = self.by_account.entry((*namespace).into()).or_default();
                accounts.entry((*name).into()).or_default()
            }
            SourceKey::Namespace(name) => self.by_namespace.entry((*name).into()).or_default(),
            SourceKey::Any => &mut self.others,
        }
    }
}

impl RulesByPath {
    fn insert(&mut self, key: PathKey<'_>, at: usize) {
        let places = match key {
            PathKey::Exact(path) => self.exact.entry(path.into()).or_default(),
            PathKey::FirstSegment(segment) => {
                self.by_first_segment.entry(segment.into()).or_default()
            }
            PathKey::Any => &mut self.others,
        };
        for places in [places, &mut self.all] {
            if places.last() != Some(&at) {
                places.push(at);
            }
        }
    }

    /// The lists of rules that may match a path, or all where none is known yet.
    fn lists(&self, path: Option<&[u8]>, visit: &mut impl FnMut(&[usize])) {
        let Some(path) = path else {
            return visit(&self.all);
        };
        visit(&self.others);
        if let Some(places) = self.exact.get(path) {
            visit(places);
        }
        let segment = first_segment(path);
        if let Some(places) = segment.and_then(|segment| self.by_first_segment.get(segment)) {
            visit(places);
        }
    }
}

/// The identities that principals of a rule name without wildcards.
fn exact_identities(rule: &Rule) -> Vec<Option<SpiffeId>> {
    let principals = rule.from.iter().flat_map(|from| &from.principals.any_of);
    principals.map(|pattern| pattern.exact()).collect()
}

/// What the clients of a rule are found by. `exact` are all of its principals, in their order.
fn source_keys<'a>(rule: &'a Rule, exact: &'a [Option<SpiffeId>]) -> Vec<SourceKey<'a>> {
    let mut keys = Vec::new();
    let mut rest = exact;
    for from in &rule.from {
        let (of_this, others) = rest.split_at(from.principals.any_of.len().min(rest.len()));
        rest = others;
        match keys_of(from, of_this) {
            Some(found) => keys.extend(found),
            None => return vec![SourceKey::Any],
        }
    }
    match keys.is_empty() {
        true => vec![SourceKey::Any],
        false => keys,
    }
}

/// None when it may match any client.
fn keys_of<'a>(
    from: &'a SourceMatch,
    principals: &'a [Option<SpiffeId>],
) -> Option<Vec<SourceKey<'a>>> {
    let SourceMatch {
        service_accounts,
        namespaces,
        ..
    } = from;
    if !service_accounts.any_of.is_empty() {
        let accounts = service_accounts.any_of.iter();
        let key = accounts.map(|account| SourceKey::Account(&account.namespace, &account.name));
        return Some(key.collect());
    }
    let exact = principals.iter().map(|principal| {
        let id = principal.as_ref()?;
        Some(SourceKey::Account(id.namespace(), id.service_account()))
    });
    let exact: Option<Vec<_>> = exact.collect();
    if let Some(exact) = exact.filter(|exact| !exact.is_empty()) {
        return Some(exact);
    }
    let names = namespaces.any_of.iter().map(|pattern| match pattern {
        TextPattern::Exact(name) => Some(SourceKey::Namespace(name)),
        _ => None,
    });
    let names: Option<Vec<_>> = names.collect();
    names.filter(|names| !names.is_empty())
}

/// What the paths of a rule are found by.
fn path_keys(rule: &Rule) -> Vec<PathKey<'_>> {
    let is_for_paths = |operation: &OperationMatch| !operation.paths.any_of.is_empty();
    if rule.to.is_empty() || !rule.to.iter().all(is_for_paths) {
        return vec![PathKey::Any];
    }
    let patterns = rule.to.iter().flat_map(|operation| &operation.paths.any_of);
    let keys: Vec<_> = patterns.map(|pattern| pattern.key()).collect();
    match keys.contains(&PathKey::Any) {
        true => vec![PathKey::Any],
        false => keys,
    }
}
