//! The fuzz targets, a workspace of their own, have the dependencies locked that the
//! workspace's packages name: what the CI checks with `--locked` fails there otherwise.

use std::collections::{BTreeMap, BTreeSet};

use crate::packages::{packages, read};

/// The names of each package's dependencies, as a lock file has them.
fn locked(file: &str) -> BTreeMap<String, BTreeSet<String>> {
    let text = read(file);
    let quoted = |line: &str| {
        let value = line.split('"').nth(1).unwrap();
        // A crate that is there twice has its version behind its name.
        value.split(' ').next().unwrap().to_owned()
    };
    let package = |block: &str| {
        let name = block.lines().find(|line| line.starts_with("name = "));
        let dependencies = block.lines().filter(|line| line.starts_with(" \""));
        (quoted(name.unwrap()), dependencies.map(quoted).collect())
    };
    let blocks = text.split("[[package]]").skip(1);
    blocks.map(package).collect()
}

#[test]
fn the_fuzz_targets_lock_what_the_packages_depend_on() {
    let locked = locked("tests/fuzz/Cargo.lock");
    let mut compared = 0;
    for package in packages() {
        let Some(locked) = locked.get(&package.name) else {
            continue;
        };
        let wanted: BTreeSet<_> = package.dependencies.iter().cloned().collect();
        assert_eq!(
            *locked, wanted,
            "{}: run `cargo metadata --manifest-path tests/fuzz/Cargo.toml` and commit its lock file",
            package.name
        );
        compared += 1;
    }
    assert!(compared > 4, "packages in the lock file: {compared}");
}
