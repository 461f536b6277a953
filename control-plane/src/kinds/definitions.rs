//! The schemas of Weft's own kinds, group `weft.dev`, by which an API server checks what
//! users write. `deploy/crds/weft.dev.yaml` is generated from here.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::ser::Error as _;
use serde_json::Value;

/// Definitions as YAML, a document each.
///
/// # Errors
/// When one can't be written as YAML.
pub(super) fn to_yaml(
    definitions: impl Iterator<Item = CustomResourceDefinition>,
) -> Result<String, serde_saphyr::ser::Error> {
    let documents = definitions.map(|kind| {
        let mut kind =
            serde_json::to_value(labelled(kind)).map_err(serde_saphyr::ser::Error::custom)?;
        write_whole_numbers(&mut kind);
        let text = serde_saphyr::to_string(&kind)?;
        Ok(format!("---\n{text}"))
    });
    let documents: String = documents.collect::<Result<_, serde_saphyr::ser::Error>>()?;
    Ok(format!(
        "# Generated from control-plane/src/kinds by `cargo xtask codegen`.\n{documents}"
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
