//! Where objects come from, and how what becomes of them is told.

pub(crate) mod directory;

use crate::manifest::{Kind, Object, ObjectKey};

/// Which part of a source an object came from: a manifest's file name, or empty where
/// the source has no parts. Of two origins with the same object the first counts.
pub(crate) type Origin = String;

/// What became of a source's objects.
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
    /// These are all objects of that kind, whatever their origin was.
    Replaced(Kind, Vec<Object>),
}
