//! The webhooks' place in the cluster: the API server calls them by a
//! ValidatingWebhookConfiguration and a MutatingWebhookConfiguration, and trusts whom these name.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::api::{ApiResource, DynamicObject, Patch};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::enrolment;
use crate::ca::Authority;
use crate::cluster::Cluster;
use crate::field_manager;
use crate::kinds::EnrolledNamespaces;

/// Interval of looks for changes by somebody else.
const INTERVAL: Duration = Duration::from_secs(15);
/// Interval of looks for another floor.
const FLOOR: Duration = Duration::from_secs(1);

/// Keeps the roots of the mesh, which the webhooks' certificate is from, in the
/// `caBundle` of configurations that somebody else installs, and webhooks for the namespaces that the
/// floor enrols among them.
pub(crate) struct Registration {
    validating: Api<DynamicObject>,
    mutating: Api<DynamicObject>,
    /// Of both configurations.
    name: String,
    authority: Arc<Authority>,
    cluster: Arc<Cluster>,
}

impl Registration {
    pub(crate) fn new(
        client: &Client,
        name: String,
        authority: Arc<Authority>,
        cluster: Arc<Cluster>,
    ) -> Self {
        let api = |resource| Api::all_with(client.clone(), &resource);
        Self {
            validating: api(ApiResource::erase::<ValidatingWebhookConfiguration>(&())),
            mutating: api(ApiResource::erase::<MutatingWebhookConfiguration>(&())),
            name,
            authority,
            cluster,
        }
    }

    /// Never ends; one replica does it at a time.
    pub(crate) async fn keep(&self) {
        let mut material = self.authority.material();
        let mut said = None;
        loop {
            let roots = material.borrow_and_update().roots_pem().to_owned();
            let enrolled = self.cluster.enrolled_by_floor();
            let outcome = self.write(&roots, &enrolled).await;
            // Once for each kind of trouble, not every time.
            let trouble = outcome.err().map(|error| error.to_string());
            if trouble != said {
                match &trouble {
                    Some(error) => tracing::error!(
                        configuration = self.name,
                        error,
                        "can't tell the API server which roots the webhook's certificate is from; trying again"
                    ),
                    None => tracing::info!(configuration = self.name, "webhook registered"),
                }
                said = trouble;
            }
            let other_floor = async {
                while self.cluster.enrolled_by_floor() == enrolled {
                    tokio::time::sleep(FLOOR).await;
                }
            };
            // The authority lives as long as this.
            tokio::select! {
                _ = material.changed() => {}
                () = other_floor => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    async fn write(&self, roots: &str, enrolled: &[EnrolledNamespaces]) -> Result<(), kube::Error> {
        let bundle = STANDARD.encode(roots);
        // Whoever doesn't want a webhook leaves its configuration out.
        if let Some(configuration) = self.validating.get_opt(&self.name).await? {
            self.patch(&self.validating, stale(&configuration, &bundle))
                .await?;
        }
        if let Some(configuration) = self.mutating.get_opt(&self.name).await? {
            self.patch(&self.mutating, stale(&configuration, &bundle))
                .await?;
            let floor = enrolment::patch(&configuration, enrolled, &bundle);
            self.patch(&self.mutating, floor).await?;
        }
        Ok(())
    }

    async fn patch(
        &self,
        api: &Api<DynamicObject>,
        patch: Option<Value>,
    ) -> Result<(), kube::Error> {
        if let Some(patch) = patch {
            let patch = Patch::Strategic(patch);
            api.patch(&self.name, &field_manager::merge(), &patch)
                .await?;
        }
        Ok(())
    }
}

/// The patch of the webhooks of a configuration that trust somebody else, if any do.
fn stale(configuration: &DynamicObject, bundle: &str) -> Option<Value> {
    let webhooks = configuration.data.get("webhooks").and_then(Value::as_array);
    let webhooks = webhooks.into_iter().flatten();
    let stale = webhooks.filter(|webhook| webhook["clientConfig"]["caBundle"] != bundle);
    let stale = stale
        .map(|webhook| json!({ "name": webhook["name"], "clientConfig": { "caBundle": bundle } }));
    let stale: Vec<_> = stale.collect();
    (!stale.is_empty()).then(|| json!({ "webhooks": stale }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_webhook_that_trusts_somebody_else_is_told_the_roots() {
        let webhook = |name: &str, bundle: &str| json!({ "name": name, "clientConfig": { "caBundle": bundle } });
        let configuration = |webhooks: Value| {
            let object = json!({ "metadata": { "name": "weft" }, "webhooks": webhooks });
            serde_json::from_value::<DynamicObject>(object).unwrap()
        };
        let three =
            json!([webhook("a", "old"), webhook("b", "new"), { "name": "c", "clientConfig": {} }]);
        let expected = json!({ "webhooks": [webhook("a", "new"), webhook("c", "new")] });
        assert_eq!(stale(&configuration(three), "new"), Some(expected));
        assert_eq!(
            stale(&configuration(json!([webhook("b", "new")])), "new"),
            None
        );
    }
}
