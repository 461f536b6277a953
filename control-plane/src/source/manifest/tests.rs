use proptest::prelude::*;

use super::*;

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n";

fn complaint(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn broken_yaml_names_its_document_and_line() {
    let error = complaint(&format!(
        "{NAMESPACE}---\nkind: [unclosed\n---\nkind: Pod\n"
    ));
    assert!(error.starts_with("document 2: "), "{error}");
    assert!(error.contains("line"), "{error}");
}

#[test]
fn a_version_that_is_not_read_is_refused_and_not_passed_over() {
    let error = complaint(&NAMESPACE.replace("v1", "v2"));
    assert!(
        error.contains("document 1 (Namespace shop): field apiVersion: `v2` is not one of `v1`"),
        "{error}"
    );
}

#[test]
fn a_kind_of_the_mesh_that_is_misspelt_is_refused_and_not_passed_over() {
    let policy =
        "apiVersion: weft.dev/v1alpha1\nkind: AuthorizationPolicie\nmetadata: { name: web }\n";
    let error = complaint(policy);
    let expected = "(AuthorizationPolicie web): field kind: `AuthorizationPolicie` is not one of";
    assert!(error.contains(expected), "{error}");
    assert!(error.contains("`AuthorizationPolicy`"), "{error}");
}

#[test]
fn lists_are_opened_and_foreign_kinds_passed_over() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- { apiVersion: v1, kind: Namespace, metadata: { name: shop, labels: { weft.dev/mesh: enabled } } }\n- { apiVersion: v1, kind: ConfigMap, metadata: { name: x } }\n";
    let objects = parse(list).unwrap();
    assert!(matches!(&objects[..], [Object::Namespace(namespace)] if namespace.mesh == Some(true)));
    assert_eq!(parse("---\n---\n"), Ok(vec![]));
}

proptest! {
    #[test]
    fn no_text_panics(text in "[a-z:{}\\[\\]\\- \n'\"&*!|>#%@]{0,120}") {
        let _ = parse(&text);
    }
}
