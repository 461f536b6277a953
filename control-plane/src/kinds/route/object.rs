//! A route as the mesh reads it, before it is known what exists.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_model::NamespacedName;
use weft_model::route::{Parent, RouteKey, Rule};

use crate::kinds::field_error::FieldError;

/// A route that has a Service among its parents.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RouteObject {
    pub(crate) key: RouteKey,
    /// Seconds since 1970; 0 in a directory.
    pub(crate) created: i64,
    /// Counts what was asked for; none in a directory.
    pub(crate) generation: Option<i64>,
    /// The Services among its parents, in its own order.
    pub(crate) parents: Vec<Parent>,
    /// Its content, or everything that is wrong with that.
    pub(crate) content: Result<RouteContent, Vec<FieldError>>,
    /// Of one that can't be followed: the route as it could be, before.
    pub(crate) last_good: Option<Box<RouteObject>>,
}

/// The content of a route.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RouteContent {
    /// Of a TLSRoute.
    pub(crate) hostnames: Vec<Arc<str>>,
    /// In order. They may send to what doesn't exist.
    pub(crate) rules: Vec<Rule>,
    /// References that lead nowhere, whatever exists.
    pub(crate) invalid: Vec<InvalidReference>,
    /// The Services that rules send to.
    pub(crate) targets: BTreeSet<NamespacedName>,
}

/// A reference that leads nowhere.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InvalidReference {
    /// Its path in the route.
    pub(crate) field: String,
    pub(crate) why: ReferenceProblem,
    pub(crate) message: String,
}

/// The ways in which a reference leads nowhere.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum ReferenceProblem {
    /// To something that requests can't be sent to.
    Kind,
    /// Into a namespace that doesn't permit it.
    NotPermitted,
    /// To something that doesn't exist.
    NotFound,
}

impl RouteObject {
    /// Everything that is wrong with its content.
    pub(crate) fn problems(&self) -> &[FieldError] {
        self.content.as_ref().err().map_or(&[], Vec::as_slice)
    }

    /// The Services among its parents and targets.
    pub(crate) fn services(&self) -> BTreeSet<&NamespacedName> {
        let parents = self.parents.iter().map(|parent| &parent.service);
        let targets = self.content.iter().flat_map(|content| &content.targets);
        let before = self.last_good.iter().flat_map(|route| route.services());
        parents.chain(targets).chain(before).collect()
    }

    /// Clients of other namespaces follow it (GEP-1294, "producer routes").
    pub(crate) fn is_producer(&self) -> bool {
        let own = &self.key.name.namespace;
        let mut parents = self.parents.iter();
        parents.any(|parent| parent.service.namespace == *own)
    }

    /// The state of it that is in force, where its Services allow.
    pub(crate) fn in_force(&self) -> Option<&Self> {
        match &self.content {
            Ok(_) => Some(self),
            Err(_) => self.last_good.as_deref(),
        }
    }
}
