//! What the sources say about tests, without compiling them: which package and target a
//! file belongs to, and how the tests in it are called.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::suite::Suite;

/// What Cargo builds of a package for its tests.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Target {
    /// The unit tests of its library and its programs.
    Unit,
    /// An integration test.
    Test(String),
}

/// A test function.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Test {
    pub(crate) package: String,
    pub(crate) target: Target,
    pub(crate) suite: Suite,
    /// Its path as libtest has it, such as `http::guard::tests::a_name_is_refused`; an
    /// inline module between file and function may be missing.
    pub(crate) path: String,
    /// Its file, from the top folder.
    pub(crate) file: String,
}

/// Every test of the workspace.
///
/// # Errors
/// When a source can't be read.
pub(crate) fn tests(root: &Path) -> io::Result<Vec<Test>> {
    let mut tests = Vec::new();
    for member in members(&fs::read_to_string(root.join("Cargo.toml"))?) {
        let folder = root.join(&member);
        let package = package_name(&fs::read_to_string(folder.join("Cargo.toml"))?);
        for part in ["src", "tests"] {
            for file in sources(&folder.join(part)) {
                let inside = file.strip_prefix(&folder).unwrap_or(&file);
                let name = file
                    .strip_prefix(root)
                    .unwrap_or(&file)
                    .display()
                    .to_string();
                let Some((target, module)) = locate(inside) else {
                    continue;
                };
                let suite = Suite::of_source(&name).unwrap_or_else(|| match &target {
                    Target::Unit => Suite::Unit,
                    Target::Test(target) => Suite::of_target(&package, target),
                });
                let functions = functions(&fs::read_to_string(&file)?);
                tests.extend(functions.into_iter().map(|function| {
                    Test {
                        package: package.clone(),
                        target: target.clone(),
                        suite,
                        path: [module.as_str(), &function]
                            .join("::")
                            .trim_start_matches(':')
                            .to_owned(),
                        file: name.clone(),
                    }
                }));
            }
        }
    }
    tests.sort();
    Ok(tests)
}

/// The folders of the workspace's members.
fn members(manifest: &str) -> Vec<String> {
    let list = manifest.split("members = [").nth(1).unwrap_or_default();
    let list = list.split(']').next().unwrap_or_default();
    list.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn package_name(manifest: &str) -> String {
    let name = manifest
        .lines()
        .find_map(|line| line.strip_prefix("name = "));
    name.unwrap_or_default().trim_matches('"').to_owned()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
    {
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}

/// The target that a file of a package belongs to, and its module there.
fn locate(file: &Path) -> Option<(Target, String)> {
    let path = file.with_extension("");
    let mut parts: Vec<_> = path.iter().filter_map(|part| part.to_str()).collect();
    let target = match parts.remove(0) {
        "src" if parts.first() == Some(&"bin") => {
            parts.drain(..parts.len().min(2));
            Target::Unit
        }
        "src" => Target::Unit,
        _ if parts.is_empty() => return None,
        _ => Target::Test(parts.remove(0).to_owned()),
    };
    if parts
        .last()
        .is_some_and(|last| ["lib", "main", "mod"].contains(last))
    {
        parts.pop();
    }
    Some((target, parts.join("::")))
}

/// The functions of a source that are tests: behind an attribute that ends with `test`,
/// as `#[test]` and `#[tokio::test(flavor = ...)]` do, property tests among them.
fn functions(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_test = false;
    let mut module = "";
    for line in source.lines() {
        let code = line.trim_start();
        if let Some(name) = code
            .strip_prefix("mod ")
            .and_then(|rest| rest.strip_suffix(" {"))
        {
            module = name;
        }
        if let Some(attribute) = code.strip_prefix("#[") {
            let name = attribute.split(['(', ']']).next().unwrap_or_default();
            is_test |= name.rsplit("::").next() == Some("test");
            continue;
        }
        let function = code.strip_prefix("async ").unwrap_or(code);
        if let Some(rest) = function.strip_prefix("fn ") {
            let name = rest.split(['(', '<']).next().unwrap_or_default();
            if is_test {
                let is_inline = line.starts_with(' ') && !module.is_empty();
                let parts = if is_inline {
                    vec![module, name]
                } else {
                    vec![name]
                };
                found.push(parts.join("::"));
            }
        }
        if !code.is_empty() && !code.starts_with("//") {
            is_test = false;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn functions_behind_a_test_attribute_are_tests() {
        let source = "
fn helper() {}
#[cfg(test)]
mod tests {
    fn another() {}
    #[test]
    #[ignore = \"slow\"]
    // Why.
    fn one_thing() {}
    #[tokio::test(flavor = \"current_thread\")]
    async fn another_thing() {}
    fn last() {}
}
";
        assert_eq!(
            functions(source),
            ["tests::one_thing", "tests::another_thing"]
        );
    }

    #[test]
    fn a_file_is_of_its_target() {
        let unit = |module: &str| Some((Target::Unit, module.to_owned()));
        assert_eq!(
            locate(Path::new("src/http/guard/tests.rs")),
            unit("http::guard::tests")
        );
        assert_eq!(locate(Path::new("src/lib.rs")), unit(""));
        assert_eq!(
            locate(Path::new("src/bin/app/web/answer.rs")),
            unit("web::answer")
        );
        let test =
            |target: &str, module: &str| Some((Target::Test(target.to_owned()), module.to_owned()));
        assert_eq!(locate(Path::new("tests/deploy.rs")), test("deploy", ""));
        assert_eq!(
            locate(Path::new("tests/data_path/http/body.rs")),
            test("data_path", "http::body")
        );
        assert_eq!(
            locate(Path::new("tests/data_path/main.rs")),
            test("data_path", "")
        );
    }

    #[test]
    fn the_tests_of_this_file_are_found() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let tests = tests(root).unwrap();
        let me = "test::source::tests::the_tests_of_this_file_are_found";
        let me = tests.iter().find(|test| test.path == me).unwrap();
        assert_eq!((me.package.as_str(), me.suite), ("xtask", Suite::Unit));
        for suite in Suite::value_variants() {
            assert!(tests.iter().any(|test| test.suite == *suite), "{suite:?}");
        }
    }
}
