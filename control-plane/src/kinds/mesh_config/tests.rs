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
    assert!(complaint(&config("{ mtls: { mod: Strict } }")).contains("spec.mtls"));
    assert!(complaint(&config("{ trustDomain: 'Not One' }")).contains("spec.trustDomain"));
}
