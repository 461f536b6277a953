//! The webhook's place in the cluster: the API server calls it by a
//! ValidatingWebhookConfiguration, and trusts whom that names.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::Patch;
use kube::{Api, Client};
use serde_json::json;

use crate::ca::Authority;
use crate::field_manager;

/// Interval of looks for changes by somebody else.
const INTERVAL: Duration = Duration::from_secs(15);

/// Keeps the roots of the mesh, which the webhook's certificate is from, in the
/// `caBundle` of a configuration that somebody else installs.
pub(crate) struct Registration {
    api: Api<ValidatingWebhookConfiguration>,
    name: String,
    authority: Arc<Authority>,
}

impl Registration {
    pub(crate) fn new(client: Client, name: String, authority: Arc<Authority>) -> Self {
        Self {
            api: Api::all(client),
            name,
            authority,
        }
    }

    /// Never ends; one replica does it at a time.
    pub(crate) async fn keep(&self) {
        let mut material = self.authority.material();
        let mut said = None;
        loop {
            let roots = material.borrow_and_update().roots_pem().to_owned();
            let outcome = self.write(&roots).await;
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
            // The authority lives as long as this.
            let _ = tokio::time::timeout(INTERVAL, material.changed()).await;
        }
    }

    async fn write(&self, roots: &str) -> Result<(), kube::Error> {
        // Whoever doesn't want the webhook leaves its configuration out.
        let Some(configuration) = self.api.get_opt(&self.name).await? else {
            return Ok(());
        };
        let webhooks = configuration.webhooks.unwrap_or_default();
        let stale = webhooks.iter().filter(|webhook| {
            let bundle = webhook.client_config.ca_bundle.as_ref();
            bundle.is_none_or(|bundle| bundle.0 != roots.as_bytes())
        });
        let bundle = STANDARD.encode(roots);
        let stale: Vec<_> = stale
            .map(|webhook| json!({ "name": webhook.name, "clientConfig": { "caBundle": bundle } }))
            .collect();
        if stale.is_empty() {
            return Ok(());
        }
        let patch = Patch::Strategic(json!({ "webhooks": stale }));
        let parameters = field_manager::merge();
        self.api.patch(&self.name, &parameters, &patch).await?;
        Ok(())
    }
}
