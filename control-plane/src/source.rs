//! Sources of objects, and the events by which they tell what becomes of them. They know
//! the list of kinds, and no single one.
//!
//! * [`directory`]: files, read by [`manifest`]
//! * `last_good`: what its files said when they were good
//! * [`kubernetes`]: an API server

pub(crate) mod directory;
pub(crate) mod kubernetes;
mod last_good;
pub(crate) mod manifest;

use crate::kinds::{Kind, Object, ObjectKey};

/// The part of a source that an object came from: a manifest's file name, or empty where
/// the source has no parts. Of two origins with the same object the first counts.
pub(crate) type Origin = String;

/// A change of a source's objects.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all events are of the large variant"
)]
pub(crate) enum Event {
    /// An object is new or different.
    Applied(Origin, Object),
    /// An object is gone.
    Deleted(Origin, ObjectKey),
    /// An object is there and can't be read.
    Unreadable(Origin, Unreadable),
    /// These are all objects of that kind, whatever their origin was.
    Replaced(Kind, Vec<Object>, Vec<Unreadable>),
}

/// An object that can't be read: what it said before stays in force.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unreadable {
    /// Its key.
    pub(crate) key: ObjectKey,
    /// Its UID, where it has one.
    pub(crate) uid: Option<String>,
    /// What holds until something good of it was read, if anything does.
    pub(crate) substitute: Option<Object>,
}
