use super::*;

/// An object of a cluster, as the mesh reads it.
pub(crate) fn read_live<T: KindObject>(kind: Kind, object: Value) -> Read<T> {
    T::read(kind, typed(object).unwrap(), Form::Live)
}

#[test]
fn the_checked_in_definitions_are_those_of_the_types() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let path = root.unwrap().join("deploy/crds/weft.dev.yaml");
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        checked_in == definitions().unwrap(),
        "deploy/crds is not what control-plane/src/kinds says: run `cargo xtask codegen`"
    );
}
