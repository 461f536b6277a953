//! The modules of a crate, and which file imports which.

use std::collections::{BTreeMap, BTreeSet};

use syn::{Item, ItemMod};

use crate::names::{self, Import};
use crate::packages::{read, root};

/// A crate: its modules by path, the root's being empty.
#[derive(Debug, Default)]
pub(crate) struct Crate {
    modules: BTreeMap<Vec<String>, Module>,
}

/// A module, in a file of its own or inline.
#[derive(Debug, Default)]
struct Module {
    file: String,
    /// What it defines, modules aside.
    defined: BTreeSet<String>,
    imports: Vec<Import>,
    /// What its code says beside.
    paths: Vec<Vec<String>>,
}

/// What a path leads to.
#[derive(Debug)]
enum Found {
    /// A module, or something that it defines.
    Module(Vec<String>),
    /// Something of another crate, or that a macro makes.
    Elsewhere,
}

/// One file's import of another.
pub(crate) type Edge = (String, String);

impl Crate {
    /// Reads a crate from its root file on; what is only there for tests is left out.
    pub(crate) fn read(root_file: &str) -> Self {
        let mut all = Self::default();
        let items = parse(root_file);
        let folder = root_file.rsplit_once('/').unwrap().0.to_owned();
        all.add(Vec::new(), root_file, &folder, &items);
        all
    }

    fn add(&mut self, path: Vec<String>, file: &str, folder: &str, items: &[Item]) {
        let mut module = Module {
            file: file.to_owned(),
            ..Module::default()
        };
        for item in items.iter().filter(|item| !names::is_for_tests(item)) {
            match item {
                Item::Mod(child) => self.add_child(&path, file, folder, child),
                Item::Use(import) => module.imports.extend(names::imports(&import.tree)),
                other => {
                    module.defined.extend(names::defined(other));
                    let said = names::said(other);
                    module.paths.extend(said.paths);
                    let inside = said.imports.into_iter();
                    module.paths.extend(inside.map(|import| import.path));
                }
            }
        }
        self.modules.insert(path, module);
    }

    fn add_child(&mut self, parent: &[String], file: &str, folder: &str, child: &ItemMod) {
        let name = child.ident.to_string();
        let path = [parent, std::slice::from_ref(&name)].concat();
        let folder_of_child = format!("{folder}/{name}");
        if let Some((_, items)) = &child.content {
            return self.add(path, file, &folder_of_child, items);
        }
        let file = [
            format!("{folder}/{name}.rs"),
            format!("{folder_of_child}/mod.rs"),
        ]
        .into_iter()
        .find(|file| root().join(file).is_file())
        .unwrap_or_else(|| panic!("{file}: no file for `mod {name}`"));
        self.add(path, &file, &folder_of_child, &parse(&file));
    }

    /// Every import of one file by another.
    pub(crate) fn edges(&self) -> BTreeSet<Edge> {
        let mut edges = BTreeSet::new();
        for (path, module) in &self.modules {
            let imports = module.imports.iter().map(|import| &import.path);
            for said in imports.chain(&module.paths) {
                if let Found::Module(target) = self.resolve(path, said, 0) {
                    let file = &self.modules[&target].file;
                    if *file != module.file {
                        edges.insert((module.file.clone(), file.clone()));
                    }
                }
            }
        }
        edges
    }

    /// Every file of it with the names of other crates that its paths begin with.
    pub(crate) fn foreign(&self) -> BTreeSet<(String, String)> {
        let mut found = BTreeSet::new();
        for (path, module) in &self.modules {
            let imports = module.imports.iter().map(|import| &import.path);
            for said in imports.chain(&module.paths) {
                if matches!(self.resolve(path, said, 0), Found::Elsewhere) {
                    found.insert((module.file.clone(), said[0].clone()));
                }
            }
        }
        found
    }

    /// The deepest module that a path names, or the one that defines what it names: by way
    /// of re-exports. `depth` ends circles of imports.
    fn resolve(&self, from: &[String], said: &[String], depth: u8) -> Found {
        let Some((first, mut rest)) = said.split_first().filter(|_| depth < 16) else {
            return Found::Elsewhere;
        };
        let mut at = match first.as_str() {
            "crate" => Vec::new(),
            "self" => from.to_vec(),
            "super" => {
                let parent = from.len().saturating_sub(1);
                let mut at = from[..parent].to_vec();
                while let Some((next, others)) =
                    rest.split_first().filter(|(next, _)| *next == "super")
                {
                    debug_assert_eq!(next, "super");
                    at.pop();
                    rest = others;
                }
                at
            }
            _ => {
                rest = said;
                from.to_vec()
            }
        };
        // A name that stands alone at the beginning may also be another crate's.
        let is_relative = rest.len() == said.len();
        for (index, name) in rest.iter().enumerate() {
            let child = [at.as_slice(), std::slice::from_ref(name)].concat();
            if self.modules.contains_key(&child) {
                at = child;
                continue;
            }
            let module = &self.modules[&at];
            if module.defined.contains(name) {
                return Found::Module(at);
            }
            let by_name = module
                .imports
                .iter()
                .find(|import| import.name.as_ref() == Some(name));
            if let Some(import) = by_name.filter(|import| import.path != said) {
                let path = [import.path.as_slice(), &rest[index + 1..]].concat();
                return self.resolve(&at, &path, depth + 1);
            }
            let globs = module.imports.iter().filter(|import| import.is_glob);
            for glob in globs {
                if let Found::Module(target) = self.resolve(&at, &glob.path, depth + 1) {
                    let is_there = self.modules[&target].defined.contains(name)
                        || self.modules.contains_key(
                            &[target.as_slice(), std::slice::from_ref(name)].concat(),
                        );
                    if is_there {
                        return self.resolve(&target, &rest[index..], depth + 1);
                    }
                }
            }
            return match is_relative && index == 0 {
                true => Found::Elsewhere,
                // What a macro makes there, or an associated item.
                false => Found::Module(at),
            };
        }
        Found::Module(at)
    }
}

fn parse(file: &str) -> Vec<Item> {
    let parsed = syn::parse_file(&read(file));
    parsed
        .unwrap_or_else(|error| panic!("{file}: {error}"))
        .items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(modules: &[(&str, &str)]) -> Crate {
        let mut all = Crate::default();
        for (path, source) in modules {
            let path: Vec<_> = path
                .split("::")
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect();
            let items = syn::parse_file(source).unwrap().items;
            let items: Vec<_> = items
                .into_iter()
                .filter(|item| !matches!(item, Item::Mod(_)))
                .collect();
            all.add(path.clone(), &path.join("/"), "", &items);
        }
        all
    }

    fn edges(modules: &[(&str, &str)]) -> Vec<String> {
        let edges = made(modules).edges();
        edges
            .into_iter()
            .map(|(from, to)| format!("{from}>{to}"))
            .collect()
    }

    #[test]
    fn a_re_exported_name_is_of_the_file_that_defines_it() {
        let modules = [
            ("", ""),
            ("a", "mod b; mod c; pub use b::Thing; use c::run;"),
            ("a::b", "pub struct Thing;"),
            ("a::c", "use super::Thing; pub fn run() {}"),
        ];
        assert_eq!(edges(&modules), ["a>a/b", "a>a/c", "a/c>a/b"]);
    }

    #[test]
    fn paths_in_code_count_and_declarations_do_not() {
        let modules = [
            ("", "mod a; mod b;"),
            ("a", "fn f() { crate::b::g() }"),
            ("b", "pub fn g() { std::mem::drop(1) }"),
        ];
        assert_eq!(edges(&modules), ["a>b"]);
    }

    #[test]
    fn what_comes_from_another_crate_through_a_parent_is_no_import_of_the_parent() {
        let modules = [
            ("", ""),
            ("a", "pub use other::Thing; use self::b::f;"),
            ("a::b", "use super::Thing; pub fn f() {}"),
        ];
        assert_eq!(edges(&modules), ["a>a/b"]);
    }
}
