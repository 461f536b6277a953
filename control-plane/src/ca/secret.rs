//! The authority in a Secret of the cluster: made at the first start, followed from
//! then on. cert-manager writes the same shape, so an authority of somebody else's can
//! be plugged in, and replaced while the mesh runs.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::utils::StreamBackoff;
use kube::runtime::watcher::{self, DefaultBackoff, watcher};
use kube::{Api, Client};
use serde_json::json;
use time::Duration;

use super::material::{Material, Pem};
use super::{Authority, AuthorityError};
use crate::status::FIELD_MANAGER;

/// Where authority and roots are kept.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    /// Secret with `tls.crt`, `tls.key` and `ca.crt`.
    pub(crate) secret: String,
    /// ConfigMap with `ca.crt`, for whoever connects to the control plane.
    pub(crate) config_map: String,
}

impl Authority {
    /// The authority of a Secret; a new one when there is none. Follows it, and keeps
    /// the roots published, until the process ends.
    ///
    /// # Errors
    /// When the Secret can't be read or used.
    pub(crate) async fn of_cluster(
        client: &Client,
        place: Place,
        leaf_lifetime: Duration,
    ) -> Result<Arc<Self>, AuthorityError> {
        let secrets = Api::<Secret>::namespaced(client.clone(), &place.namespace);
        let secret = get_or_create(&secrets, &place).await?;
        let authority = Arc::new(Self::new(parse(&secret, &place)?, leaf_lifetime));
        tokio::spawn(follow(secrets, place.clone(), Arc::clone(&authority)));
        tokio::spawn(publish(client.clone(), place, Arc::clone(&authority)));
        Ok(authority)
    }
}

/// Several replicas may start at once: who creates it first has made it for all.
async fn get_or_create(secrets: &Api<Secret>, place: &Place) -> Result<Secret, AuthorityError> {
    let failed = |source| AuthorityError::Cluster {
        place: place.describe(),
        source: Box::new(source),
    };
    if let Some(secret) = secrets.get_opt(&place.secret).await.map_err(failed)? {
        return Ok(secret);
    }
    let pem = Material::generate()?;
    let text = |text: String| ByteString(text.into_bytes());
    let fresh = Secret {
        metadata: ObjectMeta {
            name: Some(place.secret.clone()),
            ..Default::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(BTreeMap::from([
            ("tls.crt".to_owned(), text(pem.certificate)),
            ("tls.key".to_owned(), text(pem.key)),
            ("ca.crt".to_owned(), text(pem.roots)),
        ])),
        ..Default::default()
    };
    match secrets.create(&PostParams::default(), &fresh).await {
        Ok(secret) => {
            tracing::info!(secret = %place.describe(), "made a new root certificate");
            Ok(secret)
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {
            secrets.get(&place.secret).await.map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

fn parse(secret: &Secret, place: &Place) -> Result<Material, AuthorityError> {
    let text = |name: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(name));
        let bytes = bytes.map_or(&[][..], |bytes| &bytes.0);
        String::from_utf8_lossy(bytes).into_owned()
    };
    let pem = Pem {
        certificate: text("tls.crt"),
        key: text("tls.key"),
        roots: text("ca.crt"),
    };
    Material::parse(&pem).map_err(|source| AuthorityError::Invalid {
        place: place.describe(),
        source,
    })
}

/// Whatever the Secret becomes that can't be used, the last good one stays.
async fn follow(secrets: Api<Secret>, place: Place, authority: Arc<Authority>) {
    let only = watcher::Config::default().fields(&format!("metadata.name={}", place.secret));
    let watch = StreamBackoff::new(watcher(secrets, only), DefaultBackoff::default());
    let mut watch = pin!(watch);
    let mut last = None;
    while let Some(event) = watch.next().await {
        let secret = match event {
            Ok(watcher::Event::Apply(secret) | watcher::Event::InitApply(secret)) => secret,
            Ok(watcher::Event::Delete(_)) => {
                tracing::error!(secret = %place.describe(), "the Secret was deleted; signing goes on with what it held, until a restart");
                continue;
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) => continue,
            Err(error) => {
                tracing::warn!(secret = %place.describe(), %error, "can't follow the Secret");
                continue;
            }
        };
        if last.as_ref() == Some(&secret.data) {
            continue;
        }
        match parse(&secret, &place) {
            Ok(material) => {
                // The first one is what was read at the start.
                if last.is_some() {
                    tracing::info!(secret = %place.describe(), ?material, "signing with what the Secret holds now");
                    authority.replace(material);
                }
            }
            Err(error) => tracing::error!(%error, "signing goes on with what was there before"),
        }
        last = Some(secret.data);
    }
}

/// Keeps the ConfigMap as the roots are. Every replica does; they write the same.
async fn publish(client: Client, place: Place, authority: Arc<Authority>) {
    let config_maps = Api::<ConfigMap>::namespaced(client, &place.namespace);
    let mut material = authority.material();
    loop {
        let roots = material.borrow_and_update().roots_pem().to_owned();
        let patch = Patch::Apply(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": place.config_map },
            "data": { "ca.crt": roots },
        }));
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let written = config_maps.patch(&place.config_map, &parameters, &patch);
        if let Err(error) = written.await {
            tracing::error!(%error, config_map = place.config_map, "can't publish the roots; trying again");
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            continue;
        }
        if material.changed().await.is_err() {
            return;
        }
    }
}

impl Place {
    fn describe(&self) -> String {
        format!("Secret {}/{}", self.namespace, self.secret)
    }
}
