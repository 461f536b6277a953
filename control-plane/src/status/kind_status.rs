//! The seam between the controller and the kinds whose status it writes.

use std::fmt::Debug;

use kube::api::DynamicObject;
use serde_json::Value;

use crate::kinds::Kind;

/// A kind whose objects have a status of ours.
pub(crate) trait KindStatus: Debug + Send + Sync {
    /// The kind.
    fn kind(&self) -> Kind;

    /// The fields of an object's status that should say something else, as they should be.
    fn due(&self, object: &DynamicObject) -> Option<Value>;
}
