//! Kinds that a cluster need not have, by what defines them: the API server says of a kind
//! that it doesn't know it also in the moment after its own start.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ApiResource;
use kube::{Api, Client};

/// A definition of the kind is there and serves that version: that the API server doesn't know
/// it will pass. So does a failure to look, other than that we may not.
pub(super) async fn is_served(client: &Client, version: &ApiResource) -> bool {
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let name = format!("{}.{}", version.plural, version.group);
    match definitions.get_opt(&name).await {
        Ok(definition) => definition.is_some_and(|definition| serves(&definition, version)),
        Err(kube::Error::Api(status)) => status.code != 403,
        Err(_) => true,
    }
}

fn serves(definition: &CustomResourceDefinition, version: &ApiResource) -> bool {
    let mut versions = definition.spec.versions.iter();
    let is_deleted = definition.metadata.deletion_timestamp.is_some();
    !is_deleted && versions.any(|one| one.name == version.version && one.served)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::{KindObject, MeshConfigObject};

    #[test]
    fn a_kind_is_served_in_the_versions_that_its_definition_serves_until_it_is_deleted() {
        let mut definition = MeshConfigObject::definition().unwrap();
        let version = MeshConfigObject::KIND.resources().next().unwrap();
        assert!(serves(&definition, &version));
        definition.spec.versions[0].served = false;
        assert!(!serves(&definition, &version));
        definition.spec.versions[0].served = true;
        let deleted = json!("2026-01-01T00:00:00Z");
        definition.metadata.deletion_timestamp = serde_json::from_value(deleted).unwrap();
        assert!(!serves(&definition, &version));
    }
}
