//! RuntimeClasses: the handlers of container runtimes that they stand for.

use k8s_openapi::api::node::v1::RuntimeClass;
use weft_model::NamespacedName;

use super::document;
use super::kind::{Kind, KindInfo, LAST_GOOD, Provider};
use super::kind_object::{Form, KindObject, Read};

/// A RuntimeClass, as far as the mesh cares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RuntimeClassObject {
    pub(crate) name: String,
    /// The name that the nodes' container runtimes have for it.
    pub(crate) handler: String,
}

impl KindObject for RuntimeClassObject {
    const KINDS: &'static [Kind] = &[Kind::new(&KindInfo {
        name: "RuntimeClass",
        group: "node.k8s.io",
        versions: &["v1"],
        plural: "runtimeclasses",
        provider: Provider::Kubernetes,
        fallback: LAST_GOOD,
    })];

    type Document = RuntimeClass;

    fn name(&self) -> NamespacedName {
        NamespacedName::new("", &self.name)
    }

    fn read(_: Kind, class: RuntimeClass, form: Form) -> Read<Self> {
        match form {
            // It asks nothing of the mesh.
            Form::Admission => Read::nothing(),
            Form::Manifest | Form::Live => {
                let name = document::name(&class.metadata);
                let name = name.map(str::to_owned);
                let handler = class.handler;
                name.map(|name| Self { name, handler }).into()
            }
        }
    }
}
