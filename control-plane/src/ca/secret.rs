//! The authority in a Secret of the cluster: made at the first start, followed from
//! then on. cert-manager writes the same shape, so an authority of somebody else's can
//! be plugged in, and replaced while the mesh runs.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ObjectMeta, Patch, PostParams};
use kube::runtime::utils::StreamBackoff;
use kube::runtime::watcher::{self, DefaultBackoff, watcher};
use kube::{Api, Client};
use serde_json::json;
use time::Duration;

use super::material::{Material, Pem};
use super::rotation::{self, Stored};
use super::{Authority, AuthorityError};
use crate::field_manager;

/// Key of the certificate revocation lists, beside those of the authority.
const REVOKED: &str = "ca.crl";
/// Annotation with the lifetime of leaves, beside the roots that they lead to: seconds.
const LEAF_LIFETIME: &str = "weft.dev/leaf-lifetime-seconds";
/// Annotation by which cert-manager marks a Secret that it writes.
const CERT_MANAGER: &str = "cert-manager.io/certificate-name";

/// The objects in which authority and roots are kept.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    /// Secret with `tls.crt`, `tls.key` and `ca.crt`, and `ca.crl` where certificates are revoked.
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
        revoke(&secret, &place, &authority).or_else(AuthorityError::at_start)?;
        tokio::spawn(follow(secrets, place.clone(), Arc::clone(&authority)));
        tokio::spawn(publish(client.clone(), place, Arc::clone(&authority)));
        Ok(authority)
    }
}

/// Several replicas may start at once: who creates it first has made it for all.
async fn get_or_create(secrets: &Api<Secret>, place: &Place) -> Result<Secret, AuthorityError> {
    let failed = |source| place.failed(source);
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

/// The Secret, read to be replaced.
pub(crate) struct AuthoritySecret {
    secrets: Api<Secret>,
    config_maps: Api<ConfigMap>,
    place: Place,
    secret: Secret,
}

impl AuthoritySecret {
    /// Reads it.
    ///
    /// # Errors
    /// When there is none, or the API server doesn't give it out.
    pub(crate) async fn read(client: &Client, place: Place) -> Result<Self, AuthorityError> {
        let secrets = Api::<Secret>::namespaced(client.clone(), &place.namespace);
        let secret = secrets.get(&place.secret).await;
        Ok(Self {
            secret: secret.map_err(|source| place.failed(source))?,
            secrets,
            config_maps: Api::namespaced(client.clone(), &place.namespace),
            place,
        })
    }

    /// Its content.
    ///
    /// # Errors
    /// When the rotation can't be read.
    pub(crate) fn stored(&self) -> Result<Stored, AuthorityError> {
        let rotation = text(&self.secret, rotation::NAME);
        let rotation = match rotation.is_empty() {
            true => None,
            false => Some(serde_json::from_str(&rotation).map_err(|source| {
                AuthorityError::Rotation {
                    place: format!("{} of {}", rotation::NAME, self.place.describe()),
                    source,
                }
            })?),
        };
        Ok(Stored {
            pem: pem(&self.secret),
            rotation,
        })
    }

    /// Keeps it, unless it was changed since it was read.
    ///
    /// # Errors
    /// When it was, or cert-manager would change it back, or the API server refuses it.
    pub(crate) async fn save(mut self, stored: &Stored) -> Result<(), AuthorityError> {
        let annotations = self.secret.metadata.annotations.as_ref();
        if annotations.is_some_and(|annotations| annotations.contains_key(CERT_MANAGER)) {
            return Err(AuthorityError::CertManager(self.place.describe()));
        }
        let data = self.secret.data.get_or_insert_default();
        let mut put = |name: &str, text: String| {
            data.insert(name.to_owned(), ByteString(text.into_bytes()));
        };
        put("tls.crt", stored.pem.certificate.clone());
        put("tls.key", stored.pem.key.clone());
        put("ca.crt", stored.pem.roots.clone());
        match &stored.rotation {
            Some(rotation) => {
                let text = serde_json::to_string_pretty(rotation);
                put(
                    rotation::NAME,
                    text.map_err(|source| AuthorityError::Rotation {
                        place: self.place.describe(),
                        source,
                    })?,
                );
            }
            None => {
                data.remove(rotation::NAME);
            }
        }
        let parameters = PostParams::default();
        let replaced = self
            .secrets
            .replace(&self.place.secret, &parameters, &self.secret);
        match replaced.await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Err(AuthorityError::Conflict(self.place.describe()))
            }
            Err(error) => Err(self.place.failed(error)),
        }
    }

    /// Lifetime of leaves, as the replicas say; `None` when none has said yet.
    ///
    /// # Errors
    /// When the API server doesn't give it out.
    pub(crate) async fn leaf_lifetime(&self) -> Result<Option<Duration>, AuthorityError> {
        let roots = self.config_maps.get_opt(&self.place.config_map).await;
        let roots = roots.map_err(|source| self.place.failed(source))?;
        let annotations = roots.and_then(|roots| roots.metadata.annotations);
        let seconds = annotations.and_then(|all| all.get(LEAF_LIFETIME)?.parse().ok());
        Ok(seconds.map(Duration::seconds))
    }
}

fn text(secret: &Secret, name: &str) -> String {
    let bytes = secret.data.as_ref().and_then(|data| data.get(name));
    let bytes = bytes.map_or(&[][..], |bytes| &bytes.0);
    String::from_utf8_lossy(bytes).into_owned()
}

fn pem(secret: &Secret) -> Pem {
    Pem {
        certificate: text(secret, "tls.crt"),
        key: text(secret, "tls.key"),
        roots: text(secret, "ca.crt"),
    }
}

fn parse(secret: &Secret, place: &Place) -> Result<Material, AuthorityError> {
    Material::parse(&pem(secret)).map_err(|source| AuthorityError::Invalid {
        place: place.describe(),
        source,
    })
}

/// Has the authority follow the lists of its Secret.
///
/// # Errors
/// When it can't: the last good ones stay.
fn revoke(secret: &Secret, place: &Place, authority: &Authority) -> Result<(), AuthorityError> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(REVOKED));
    let revoked = authority.revoke(bytes.map_or(&[][..], |bytes| &bytes.0));
    revoked.map_err(|source| AuthorityError::Revocations {
        place: format!("{REVOKED} of {}", place.describe()),
        source,
    })
}

/// Whatever the Secret becomes that can't be used, the last good one stays.
async fn follow(secrets: Api<Secret>, place: Place, authority: Arc<Authority>) {
    let only = watcher::Config::default().fields(&format!("metadata.name={}", place.secret));
    let watch = StreamBackoff::new(watcher(secrets, only), DefaultBackoff::default());
    let mut watch = pin!(watch);
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
        // An event may be about something else in it, such as a rotation's beginning.
        if !authority.is_of(&pem(&secret)) {
            match parse(&secret, &place) {
                Ok(material) => {
                    tracing::info!(secret = %place.describe(), ?material, "signing with what the Secret holds now");
                    authority.replace(material);
                }
                Err(error) => tracing::error!(%error, "signing goes on with what was there before"),
            }
        }
        if let Err(error) = revoke(&secret, &place, &authority) {
            tracing::error!(%error, "certificate revocation lists aren't followed");
        }
    }
}

/// Keeps the ConfigMap as the roots are. Every replica does; they write the same.
async fn publish(client: Client, place: Place, authority: Arc<Authority>) {
    let config_maps = Api::<ConfigMap>::namespaced(client, &place.namespace);
    let mut material = authority.material();
    let lifetime = authority.leaf_lifetime().whole_seconds().to_string();
    loop {
        let roots = material.borrow_and_update().roots_pem().to_owned();
        let patch = Patch::Apply(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": place.config_map,
                "annotations": { LEAF_LIFETIME: lifetime },
            },
            "data": { "ca.crt": roots },
        }));
        let parameters = field_manager::apply();
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
    fn failed(&self, source: kube::Error) -> AuthorityError {
        AuthorityError::Cluster {
            place: self.describe(),
            source: Box::new(source),
        }
    }

    fn describe(&self) -> String {
        format!("Secret {}/{}", self.namespace, self.secret)
    }
}
