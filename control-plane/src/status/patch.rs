//! A change of one object's status, as the API server takes it.

use kube::api::{ApiResource, DynamicObject, Patch};
use kube::{Api, Client};
use serde_json::Value;
use weft_model::NamespacedName;

use super::writer::Outcome;
use crate::field_manager;

/// A write that is due.
#[derive(Clone, Debug)]
pub(crate) struct StatusPatch {
    /// The object's kind, in the version to ask for.
    pub(crate) resource: ApiResource,
    /// The object; without namespace where the kind has none.
    pub(crate) name: NamespacedName,
    /// A merge that names the version it was made from, so that nothing of others is
    /// overwritten; or an apply of what is ours alone.
    pub(crate) patch: Patch<Value>,
}

impl StatusPatch {
    /// Has the API server take it. Failures are logged.
    pub(crate) async fn write(&self, client: &Client) -> Outcome {
        let NamespacedName { namespace, name } = &self.name;
        let client = client.clone();
        let api = match namespace.is_empty() {
            true => Api::<DynamicObject>::all_with(client, &self.resource),
            false => Api::namespaced_with(client, namespace, &self.resource),
        };
        let (parameters, superseded): (_, &[u16]) = match &self.patch {
            // With a UID, one for another object of this name is invalid.
            Patch::Apply(_) => (field_manager::apply(), &[404, 409, 422]),
            _ => (field_manager::merge(), &[404, 409]),
        };
        match api.patch_status(name, &parameters, &self.patch).await {
            Ok(_) => Outcome::Written,
            Err(kube::Error::Api(status)) if superseded.contains(&status.code) => {
                Outcome::Superseded
            }
            Err(error) => {
                tracing::warn!(kind = self.resource.kind, name = %self.name, %error, "can't write a status; trying again");
                Outcome::Failed
            }
        }
    }
}
