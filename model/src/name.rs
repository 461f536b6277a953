//! Names of Kubernetes objects: a namespace and a name.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Namespace and name of an object: a Service, a pod, a route, a policy. Its text is
/// `namespace/name`.
///
/// ```
/// use weft_model::NamespacedName;
///
/// let service = NamespacedName::new("shop", "web");
/// assert_eq!(service.to_string(), "shop/web");
/// assert_eq!("shop/web".parse(), Ok(service));
/// assert!("web".parse::<NamespacedName>().is_err());
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NamespacedName {
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Name of the object in its namespace.
    pub name: Arc<str>,
}

impl NamespacedName {
    /// The name made of its two parts, which are not checked.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A text that is not `namespace/name`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not of the form namespace/name")]
pub struct InvalidNamespacedName(pub(crate) String);

impl FromStr for NamespacedName {
    type Err = InvalidNamespacedName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name))
                if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
            {
                Ok(Self::new(namespace, name))
            }
            _ => Err(InvalidNamespacedName(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_two_parts() {
        for text in ["web", "/web", "shop/", "a/b/c", ""] {
            assert!(text.parse::<NamespacedName>().is_err(), "{text}");
        }
    }
}
