//! Weft's own kinds, group `weft.dev`: what users write, and the schemas by which an API
//! server checks it. `deploy/crds/weft.dev.yaml` is generated from here.

mod external_service;
mod mesh_config;
mod span;
pub(crate) mod traffic_policy;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde::ser::Error as _;
use serde_json::Value;

pub(crate) use external_service::{
    ExternalPortSpec, ExternalService, ExternalServiceSpec, ExternalTlsSpec, TlsModeSpec,
};
pub(crate) use mesh_config::{MeshConfig, MeshConfigSpec, MtlsSpec};
pub(crate) use span::Span;
pub(crate) use traffic_policy::{TrafficPolicy, TrafficPolicySpec, TrafficPolicyStatus};

/// The type of the condition that says whether the mesh follows an object.
pub(crate) const ACCEPTED: &str = "Accepted";

/// The definitions of all kinds, as a YAML document each.
///
/// # Errors
/// When one can't be written as YAML.
pub(crate) fn definitions() -> Result<String, serde_saphyr::ser::Error> {
    let kinds = [
        MeshConfig::crd(),
        TrafficPolicy::crd(),
        ExternalService::crd(),
    ];
    let documents = kinds.into_iter().map(|kind| {
        let mut kind =
            serde_json::to_value(labelled(kind)).map_err(serde_saphyr::ser::Error::custom)?;
        write_whole_numbers(&mut kind);
        let text = serde_saphyr::to_string(&kind)?;
        Ok(format!("---\n{text}"))
    });
    let documents: String = documents.collect::<Result<_, serde_saphyr::ser::Error>>()?;
    Ok(format!(
        "# Generated from control-plane/src/api by `cargo xtask codegen`.\n{documents}"
    ))
}

fn labelled(mut kind: CustomResourceDefinition) -> CustomResourceDefinition {
    let labels = kind.metadata.labels.get_or_insert_default();
    labels.insert("app.kubernetes.io/part-of".to_owned(), "weft".to_owned());
    kind
}

/// A schema's bounds are floating point numbers; `1` is what everybody else writes for
/// `1.0`.
fn write_whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let whole = number.as_f64().filter(|float| float.fract() == 0.0);
            // Longer ones would lose digits on the way.
            if let Some(float) = whole.filter(|float| float.abs() < 1e15) {
                *number = serde_json::Number::from(float as i64);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(write_whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(write_whole_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checked_in_definitions_are_those_of_the_types() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        let path = root.unwrap().join("deploy/crds/weft.dev.yaml");
        let checked_in = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            checked_in == definitions().unwrap(),
            "deploy/crds is not what control-plane/src/api says: run `cargo xtask codegen`"
        );
    }
}
