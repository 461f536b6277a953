//! The next response of a stream, given those before. Pure.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use prost::Message;
use weft_proto::v1::{DiscoveryResponse, ResourceKind, ResourceVersion};

use super::resources::{ResourceKey, Resources, Versioned};
use super::view::View;

/// Resources in one response at the most. While a thousand agents start at once, each
/// has a response or two in memory.
const MOST_RESOURCES: usize = 200;
/// Bytes of one response, about; well below what gRPC clients take (4 MiB).
const MOST_BYTES: usize = 1024 * 1024;

/// The place that one stream has come to. First it walks over everything, leaving out what the
/// agent holds already; then it follows the changes. It keeps a position, not a copy.
#[derive(Debug)]
pub(crate) struct Cursor {
    kinds: HashSet<ResourceKind>,
    view: View,
    position: Position,
}

#[derive(Debug)]
enum Position {
    Walking {
        /// Resources that the agent holds and the walk has not met yet, with their versions.
        held: HashMap<ResourceKey, String>,
        last: Option<ResourceKey>,
        /// Changes from here on may have happened behind the walk's back.
        since: Option<u64>,
    },
    /// Held by the agent, and gone.
    Removing {
        gone: VecDeque<ResourceKey>,
        since: u64,
    },
    Following {
        pending: VecDeque<ResourceKey>,
        since: u64,
    },
}

/// The stream is too far behind to know what it missed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("too far behind; subscribe again, saying what is held")]
pub(crate) struct TooFarBehind;

/// The next thing to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// Send this.
    Response(DiscoveryResponse),
    /// Nothing until something changes.
    Wait,
}

impl Cursor {
    /// As a Subscribe says, of what the stream may see.
    pub(crate) fn new(
        view: View,
        kinds: HashSet<ResourceKind>,
        held: Vec<ResourceVersion>,
    ) -> Self {
        let held = held
            .into_iter()
            .map(|held| ((held.kind(), Arc::from(held.name.as_str())), held.version));
        let held = held.filter(|((kind, _), _)| kinds.contains(kind)).collect();
        let position = Position::Walking {
            held,
            last: None,
            since: None,
        };
        Self {
            kinds,
            view,
            position,
        }
    }

    /// The next portion. Changes come in the order in which they may be applied,
    /// removals in the reverse. Those that happened together come into force together,
    /// however many they are: a selector of a NetworkPolicy that is another concerns all
    /// pods that it matches.
    ///
    /// # Errors
    /// When the agent has to subscribe again.
    pub(crate) fn next(&mut self, resources: &Resources) -> Result<Next, TooFarBehind> {
        match &mut self.position {
            Position::Walking { .. } => Ok(self.walk(resources)),
            Position::Removing { .. } => Ok(self.remove(Portion::default())),
            Position::Following { pending, since } => {
                if pending.is_empty() && *since != resources.revision() {
                    let changed = resources.changed_since(*since).ok_or(TooFarBehind)?;
                    let changed = changed.into_iter();
                    let changed = changed
                        .filter(|key| self.kinds.contains(&key.0) && self.view.includes_name(key));
                    let (present, gone): (Vec<_>, Vec<_>) =
                        changed.partition(|key| visible(&self.view, resources, key).is_some());
                    pending.extend(present);
                    pending.extend(gone.into_iter().rev());
                    *since = resources.revision();
                }
                let mut portion = Portion::default();
                while !portion.is_full() {
                    let Some(key) = pending.pop_front() else {
                        break;
                    };
                    match visible(&self.view, resources, &key) {
                        Some(versioned) => portion.change(&self.view, &versioned.message),
                        None => portion.remove(key),
                    }
                }
                portion.response.more = !pending.is_empty();
                Ok(portion.into_next())
            }
        }
    }

    /// Walks over a portion of all resources.
    fn walk(&mut self, resources: &Resources) -> Next {
        let mut portion = Portion::default();
        let Position::Walking { held, last, since } = &mut self.position else {
            return portion.into_next();
        };
        let since = *since.get_or_insert(resources.revision());
        let passed = last.clone();
        let mut wanted = resources.after(passed.as_ref());
        let mut reached = None;
        let finished = loop {
            let Some((key, versioned)) = wanted.next() else {
                break true;
            };
            if portion.is_full() {
                break false;
            }
            reached = Some(key);
            if !self.kinds.contains(&key.0) || !self.view.includes(key, versioned, resources) {
                continue;
            }
            let known = held.remove(key);
            if known.as_ref() != Some(&versioned.version) {
                portion.change(&self.view, &versioned.message);
            }
        };
        if let Some(reached) = reached {
            *last = Some(reached.clone());
        }
        if !finished {
            return Next::Response(portion.response);
        }
        // What came back after the walk had passed is in the journal.
        let gone = held.drain().map(|(key, _)| key);
        let is_gone = |key: &ResourceKey| visible(&self.view, resources, key).is_none();
        let mut gone: Vec<_> = gone.filter(is_gone).collect();
        gone.sort_by(|a, b| b.cmp(a));
        let gone = gone.into();
        self.position = Position::Removing { gone, since };
        self.remove(portion)
    }

    /// Adds removals after a walk; with the last of them the agent is synchronized.
    fn remove(&mut self, mut portion: Portion) -> Next {
        if let Position::Removing { gone, since } = &mut self.position {
            while !portion.is_full() {
                let Some(key) = gone.pop_front() else {
                    portion.response.synchronized = true;
                    self.position = Position::Following {
                        pending: VecDeque::new(),
                        since: *since,
                    };
                    break;
                };
                portion.remove(key);
            }
        }
        Next::Response(portion.response)
    }
}

/// The resource of that kind and name, if the stream is told it.
fn visible<'a>(view: &View, resources: &'a Resources, key: &ResourceKey) -> Option<&'a Versioned> {
    let found = resources.get(key)?;
    view.includes(key, found, resources).then_some(&**found)
}

/// A response that is being filled.
#[derive(Debug, Default)]
struct Portion {
    response: DiscoveryResponse,
    bytes: usize,
}

impl Portion {
    fn is_full(&self) -> bool {
        let resources = self.response.changed.len() + self.response.removed.len();
        resources >= MOST_RESOURCES || self.bytes >= MOST_BYTES
    }

    fn change(&mut self, view: &View, message: &weft_proto::v1::Resource) {
        let message = view.message(message);
        self.bytes += message.encoded_len();
        self.response.changed.push(message.into_owned());
    }

    fn remove(&mut self, (kind, name): ResourceKey) {
        self.response.removed.push(ResourceVersion {
            kind: kind.into(),
            name: name.to_string(),
            version: String::new(),
        });
    }

    fn into_next(self) -> Next {
        if self.response.changed.is_empty() && self.response.removed.is_empty() {
            Next::Wait
        } else {
            Next::Response(self.response)
        }
    }
}

#[cfg(test)]
mod tests;
