//! The images and control planes of the sidecars that the mesh injects, and of those that it injected
//! before: in a ConfigMap beside the control plane, so that a mesh whose images move to another
//! registry, or whose control plane gets another address, knows the sidecars that run on. Where the
//! floor forbids to leave the mesh, others don't count.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::field_manager::FIELD_MANAGER;
use crate::index::MeshSidecars;
use crate::kinds::SidecarSource;

/// The ConfigMap, and its key.
const NAME: &str = "weft-known-sidecars";
const KEY: &str = "sidecars.json";
/// Number of images and addresses that are kept: the latest.
const MOST: usize = 64;
/// Interval of looks for what other replicas have added, and somebody has taken out.
const INTERVAL: Duration = Duration::from_secs(5);
/// Replicas that may add theirs in between.
const TRIES: usize = 8;

/// A reason for which it isn't known which sidecars are the mesh's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KnownSidecarsError {
    /// The ConfigMap can't be read or written.
    #[error(
        "can't read or write ConfigMap {namespace}/{NAME} ({source}); apply the control plane's roles \
         of this version"
    )]
    Object {
        /// Its namespace.
        namespace: String,
        /// The API server's reason.
        source: Box<kube::Error>,
    },
    /// Somebody has edited it.
    #[error(
        "key {KEY} of ConfigMap {namespace}/{NAME} can't be read ({source}); correct or delete it"
    )]
    Content {
        /// Its namespace.
        namespace: String,
        /// The place and the mistake.
        source: serde_json::Error,
    },
    /// Others change it all the time.
    #[error("ConfigMap {0}/{NAME} is changed all the time")]
    Busy(String),
}

/// The ConfigMap.
pub(crate) struct KnownSidecars {
    config_maps: Api<ConfigMap>,
    namespace: String,
    own: SidecarSource,
}

impl KnownSidecars {
    /// That of the control plane's namespace. Its own sidecars are these.
    pub(crate) fn new(client: &Client, namespace: &str, own: SidecarSource) -> Self {
        Self {
            config_maps: Api::namespaced(client.clone(), namespace),
            namespace: namespace.to_owned(),
            own,
        }
    }

    /// All that are listed, this control plane's own among them, which are added.
    ///
    /// # Errors
    /// When the ConfigMap can't be read or written.
    pub(crate) async fn synchronize(&self) -> Result<MeshSidecars, KnownSidecarsError> {
        let failed = |source| KnownSidecarsError::Object {
            namespace: self.namespace.clone(),
            source: Box::new(source),
        };
        for _ in 0..TRIES {
            let before = self.config_maps.get_opt(NAME).await.map_err(failed)?;
            let listed = self.parse(before.as_ref())?;
            let known = with(&listed, &self.own);
            if known == listed {
                return Ok(MeshSidecars(known));
            }
            match self.write(before, &known).await {
                Ok(_) => return Ok(MeshSidecars(known)),
                // Somebody else was quicker.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(KnownSidecarsError::Busy(self.namespace.clone()))
    }

    /// Has the cluster know what is listed. Never ends.
    pub(crate) async fn follow(self, cluster: Arc<Cluster>) {
        loop {
            sleep(INTERVAL).await;
            match self.synchronize().await {
                Ok(known) => cluster.set_sidecars(known),
                Err(error) => tracing::warn!(%error, "the sidecars that are known stay the same"),
            }
        }
    }

    fn parse(&self, object: Option<&ConfigMap>) -> Result<Vec<SidecarSource>, KnownSidecarsError> {
        let data = object.and_then(|object| object.data.as_ref());
        let Some(text) = data.and_then(|data| data.get(KEY)) else {
            return Ok(Vec::new());
        };
        serde_json::from_str(text).map_err(|source| KnownSidecarsError::Content {
            namespace: self.namespace.clone(),
            source,
        })
    }

    async fn write(
        &self,
        before: Option<ConfigMap>,
        known: &[SidecarSource],
    ) -> Result<ConfigMap, kube::Error> {
        let text = serde_json::to_string_pretty(known).map_err(kube::Error::SerdeError)?;
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match before {
            Some(mut object) => {
                let data = object.data.get_or_insert_default();
                data.insert(KEY.to_owned(), text);
                self.config_maps.replace(NAME, &parameters, &object).await
            }
            None => {
                let labels = [("app.kubernetes.io/part-of", "weft")];
                let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
                let object = ConfigMap {
                    metadata: ObjectMeta {
                        name: Some(NAME.to_owned()),
                        labels: Some(BTreeMap::from(labels)),
                        ..ObjectMeta::default()
                    },
                    data: Some(BTreeMap::from([(KEY.to_owned(), text)])),
                    ..ConfigMap::default()
                };
                self.config_maps.create(&parameters, &object).await
            }
        }
    }
}

/// What is listed, with one more.
fn with(listed: &[SidecarSource], own: &SidecarSource) -> Vec<SidecarSource> {
    let mut known = listed.to_vec();
    if !known.contains(own) {
        known.push(own.clone());
        let surplus = known.len().saturating_sub(MOST);
        known.drain(..surplus);
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(repository: &str) -> SidecarSource {
        SidecarSource {
            repository: repository.to_owned(),
            control_plane: "https://weft:15010".to_owned(),
            root_config_map: "roots".to_owned(),
        }
    }

    #[test]
    fn one_more_is_known_once_and_the_oldest_go() {
        let mut known = Vec::new();
        for _ in 0..2 {
            known = with(&known, &source("a"));
            known = with(&known, &source("b"));
        }
        assert_eq!(known, [source("a"), source("b")]);
        for number in 0..MOST {
            known = with(&known, &source(&number.to_string()));
        }
        assert_eq!(known.len(), MOST);
        assert!(!known.contains(&source("b")));
    }
}
