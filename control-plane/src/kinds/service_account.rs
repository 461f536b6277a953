//! ServiceAccounts: that they exist.

use k8s_openapi::api::core::v1::ServiceAccount;
use weft_model::NamespacedName;

use super::document;
use super::kind::{Kind, KindInfo, LAST_GOOD, Provider};
use super::kind_object::{Form, KindObject, Read};

/// A ServiceAccount, as far as the mesh cares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServiceAccountObject {
    /// Namespace and name.
    pub(crate) key: NamespacedName,
}

impl KindObject for ServiceAccountObject {
    const KINDS: &'static [Kind] = &[Kind::new(&KindInfo {
        name: "ServiceAccount",
        group: "",
        versions: &["v1"],
        plural: "serviceaccounts",
        provider: Provider::Kubernetes,
        fallback: LAST_GOOD,
    })];

    type Document = ServiceAccount;

    fn name(&self) -> NamespacedName {
        self.key.clone()
    }

    fn read(_: Kind, account: ServiceAccount, form: Form) -> Read<Self> {
        match form {
            // A directory's pods name theirs, and nobody deletes one there to take its
            // identity away.
            Form::Manifest => Read::nothing(),
            // It asks nothing of the mesh.
            Form::Admission => Read::nothing(),
            Form::Live => {
                let key = document::namespaced_name(&account.metadata);
                key.map(|key| Self { key }).into()
            }
        }
    }
}
