use super::*;
use crate::kinds::Object;
use crate::source::manifest::parse;

fn complaint(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn mesh_config_refuses_fields_that_it_does_not_know() {
    let config = |spec: &str| {
        format!(
            "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {{ name: default }}\nspec: {spec}\n"
        )
    };
    let Object::MeshConfig(object) = parse(&config(
        "{ trustDomain: example.org, mtls: { mode: Strict } }",
    ))
    .unwrap()
    .remove(0) else {
        panic!()
    };
    assert_eq!(object.mtls_mode, Some(MtlsMode::Strict));
    assert_eq!(object.path_normalization, None);
    assert!(complaint(&config("{ mtls: { mod: Strict } }")).contains("spec.mtls"));
    let requests = config("{ requests: { pathNormalization: MergeSlashes } }");
    let Object::MeshConfig(object) = parse(&requests).unwrap().remove(0) else {
        panic!()
    };
    let merging = Some(PathNormalization::MergeSlashes);
    assert_eq!(object.path_normalization, merging);
    let unknown = config("{ requests: { pathNormalization: MERGE_SLASHES } }");
    assert!(complaint(&unknown).contains("pathNormalization"));
    assert!(complaint(&config("{ trustDomain: 'Not One' }")).contains("spec.trustDomain"));
}
