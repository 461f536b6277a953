//! The next response of a stream, given those before. Pure.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use prost::Message;
use weft_proto::v1::{DiscoveryResponse, ResourceKind, ResourceVersion};

use super::resources::{ResourceKey, Resources};

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
    /// As a Subscribe says.
    pub(crate) fn new(kinds: HashSet<ResourceKind>, held: Vec<ResourceVersion>) -> Self {
        let held = held
            .into_iter()
            .map(|held| ((held.kind(), Arc::from(held.name.as_str())), held.version));
        let held = held.filter(|((kind, _), _)| kinds.contains(kind)).collect();
        let position = Position::Walking {
            held,
            last: None,
            since: None,
        };
        Self { kinds, position }
    }

    /// The next portion. Changes come in the order in which they may be applied,
    /// removals in the reverse.
    ///
    /// # Errors
    /// When the agent has to subscribe again.
    pub(crate) fn next(&mut self, resources: &Resources) -> Result<Next, TooFarBehind> {
        match &mut self.position {
            Position::Walking { held, last, since } => {
                let since = *since.get_or_insert(resources.revision());
                let mut portion = Portion::default();
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
                    let known = held.remove(key);
                    if self.kinds.contains(&key.0) && known.as_ref() != Some(&versioned.version) {
                        portion.change(&versioned.message);
                    }
                };
                if let Some(reached) = reached {
                    *last = Some(reached.clone());
                }
                if finished {
                    // What came back after the walk had passed is in the journal.
                    let gone = held.drain().map(|(key, _)| key);
                    let mut gone: Vec<_> =
                        gone.filter(|key| resources.get(key).is_none()).collect();
                    gone.sort_by(|a, b| b.cmp(a));
                    let gone = gone.into();
                    self.position = Position::Removing { gone, since };
                    return Ok(self.remove(portion));
                }
                Ok(Next::Response(portion.response))
            }
            Position::Removing { .. } => Ok(self.remove(Portion::default())),
            Position::Following { pending, since } => {
                if pending.is_empty() && *since != resources.revision() {
                    let changed = resources.changed_since(*since).ok_or(TooFarBehind)?;
                    let changed = changed.into_iter();
                    let changed = changed.filter(|(kind, _)| self.kinds.contains(kind));
                    let (present, gone): (Vec<_>, Vec<_>) =
                        changed.partition(|key| resources.get(key).is_some());
                    pending.extend(present);
                    pending.extend(gone.into_iter().rev());
                    *since = resources.revision();
                }
                let mut portion = Portion::default();
                while !portion.is_full() {
                    let Some(key) = pending.pop_front() else {
                        break;
                    };
                    match resources.get(&key) {
                        Some(versioned) => portion.change(&versioned.message),
                        None => portion.remove(key),
                    }
                }
                Ok(portion.into_next())
            }
        }
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

    fn change(&mut self, message: &weft_proto::v1::Resource) {
        self.bytes += message.encoded_len();
        self.response.changed.push(message.clone());
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
