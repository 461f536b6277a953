//! The packages of the workspace and their sources.

use std::fs;
use std::path::{Path, PathBuf};

/// A package of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    /// Its name in Cargo.
    pub(crate) name: String,
    /// Its folder from the top one, such as `control-plane`.
    pub(crate) folder: String,
    /// The names of its dependencies in `[dependencies]`.
    pub(crate) dependencies: Vec<String>,
    /// The names of those in `[dev-dependencies]`, which only its tests have.
    pub(crate) dev_dependencies: Vec<String>,
}

/// The top folder of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// All packages.
pub(crate) fn packages() -> Vec<Package> {
    let manifest = read("Cargo.toml");
    let members = manifest.split("\nmembers = [").nth(1).unwrap();
    let members = members.split(']').next().unwrap();
    let members: Vec<_> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.len() > 8, "members of the workspace: {members:?}");
    members.into_iter().map(Package::read).collect()
}

impl Package {
    fn read(folder: &str) -> Self {
        let manifest = read(&format!("{folder}/Cargo.toml"));
        let mut section = "";
        let mut name = String::new();
        let (mut dependencies, mut dev_dependencies) = (Vec::new(), Vec::new());
        for line in manifest.lines().map(str::trim) {
            let key = line.split([' ', '.', '=']).next().unwrap_or_default();
            match (section, key) {
                _ if line.starts_with('[') => section = line,
                ("[package]", "name") if name.is_empty() => {
                    name = line.split('"').nth(1).unwrap().to_owned();
                }
                ("[dependencies]", key) if !key.is_empty() && key != "#" => {
                    dependencies.push(key.to_owned());
                }
                ("[dev-dependencies]", key) if !key.is_empty() && key != "#" => {
                    dev_dependencies.push(key.to_owned());
                }
                _ => {}
            }
        }
        Self {
            name,
            folder: folder.to_owned(),
            dependencies,
            dev_dependencies,
        }
    }

    /// The files that a compiler begins with: the library, the programs.
    pub(crate) fn crate_roots(&self) -> Vec<String> {
        let file = |path: String| root().join(&path).is_file().then_some(path);
        let mut roots: Vec<_> = ["lib", "main"]
            .into_iter()
            .filter_map(|name| file(format!("{}/src/{name}.rs", self.folder)))
            .collect();
        let programs = fs::read_dir(root().join(&self.folder).join("src/bin"));
        for entry in programs.into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let path = format!("{}/src/bin/{name}", self.folder);
            let is_file = name.ends_with(".rs");
            roots.extend(if is_file {
                file(path)
            } else {
                file(format!("{path}/main.rs"))
            });
        }
        roots
    }

    /// All its sources below `src`, tests among them, from the top folder.
    pub(crate) fn sources(&self) -> Vec<String> {
        let mut files = Vec::new();
        collect(&root().join(&self.folder).join("src"), &mut files);
        let mut names: Vec<_> = files
            .iter()
            .map(|path| {
                path.strip_prefix(root())
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        names.sort();
        names
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

/// A file of the workspace.
pub(crate) fn read(path: &str) -> String {
    let read = fs::read_to_string(root().join(path));
    read.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whether a source is only there for tests, or generated.
pub(crate) fn is_test_or_generated(path: &str) -> bool {
    path.ends_with("/tests.rs")
        || ["/tests/", "/generated/"].iter().any(|part| {
            // The package of the test bed is in a folder of that name.
            path.split_once("/src/")
                .is_some_and(|(_, inside)| format!("/{inside}").contains(part))
        })
}
