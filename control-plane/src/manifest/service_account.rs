//! ServiceAccounts: that they exist.

use k8s_openapi::api::core::v1::ServiceAccount;
use weft_model::NamespacedName;

use super::FieldError;

/// A ServiceAccount, as far as the mesh cares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServiceAccountObject {
    /// Namespace and name.
    pub(crate) key: NamespacedName,
}

impl ServiceAccountObject {
    /// Reads one.
    ///
    /// # Errors
    /// When it has no name.
    pub(crate) fn parse(account: ServiceAccount) -> Result<Self, FieldError> {
        let metadata = account.metadata;
        let name = metadata.name.filter(|name| !name.is_empty());
        let name =
            name.ok_or_else(|| FieldError::missing("metadata.name", "every object has one"))?;
        let namespace = metadata.namespace.unwrap_or_else(|| "default".to_owned());
        Ok(Self {
            key: NamespacedName::new(&namespace, &name),
        })
    }
}
