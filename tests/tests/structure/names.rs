//! The names in a piece of code: what it imports, and the paths that it says.

use syn::visit::{self, Visit};
use syn::{Attribute, Item, Macro, Meta, UseTree, Visibility};

/// A name that a `use` brings, or everything of a module.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Import {
    /// As it is written, such as `[super, http, Body]`.
    pub(crate) path: Vec<String>,
    /// What it is called here; `None` for `*` and `_`.
    pub(crate) name: Option<String>,
    pub(crate) is_glob: bool,
}

/// Whether an item is only there for tests.
pub(crate) fn is_for_tests(item: &Item) -> bool {
    attributes(item).iter().any(|attribute| {
        if attribute.path().is_ident("test") {
            return true;
        }
        let Meta::List(list) = &attribute.meta else {
            return false;
        };
        let condition = list.tokens.to_string();
        let mut words = condition.split(|c: char| !c.is_alphanumeric() && c != '_');
        list.path.is_ident("cfg") && words.any(|word| word == "test") && !condition.contains("not")
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// What an item defines for others to name.
pub(crate) fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// The imports of a `use`.
pub(crate) fn imports(tree: &UseTree) -> Vec<Import> {
    let mut found = Vec::new();
    collect(tree, &mut Vec::new(), &mut found);
    found
}

fn collect(tree: &UseTree, before: &mut Vec<String>, found: &mut Vec<Import>) {
    let import = |path: Vec<String>, name: Option<String>| Import {
        path,
        name,
        is_glob: false,
    };
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            collect(&path.tree, before, found);
            before.pop();
        }
        UseTree::Name(name) if name.ident == "self" => {
            found.push(import(before.clone(), before.last().cloned()));
        }
        UseTree::Name(name) => {
            let name = name.ident.to_string();
            let path = [before.as_slice(), std::slice::from_ref(&name)].concat();
            found.push(import(path, Some(name)));
        }
        UseTree::Rename(rename) => {
            let path = match rename.ident.to_string().as_str() {
                "self" => before.clone(),
                name => [before.as_slice(), &[name.to_owned()]].concat(),
            };
            let name = Some(rename.rename.to_string()).filter(|name| name != "_");
            found.push(import(path, name));
        }
        UseTree::Glob(_) => found.push(Import {
            path: before.clone(),
            name: None,
            is_glob: true,
        }),
        UseTree::Group(group) => {
            for tree in &group.items {
                collect(tree, before, found);
            }
        }
    }
}

/// What an item says: paths of more than one part, those in macros too, and `use` in
/// functions.
pub(crate) fn said(item: &Item) -> Said {
    let mut said = Said::default();
    said.visit_item(item);
    said
}

/// What a piece of code says.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Paths, as they are written.
    pub(crate) paths: Vec<Vec<String>>,
    pub(crate) imports: Vec<Import>,
    /// Every single identifier, keywords of asynchronous code among them.
    pub(crate) words: Vec<String>,
}

impl<'ast> Visit<'ast> for Said {
    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    // `pub(in super::there)` is no import.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.imports.extend(imports(&item.tree));
        visit::visit_item_use(self, item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<_> = path
            .segments
            .iter()
            .map(|part| part.ident.to_string())
            .collect();
        if parts.len() > 1 {
            self.paths.push(parts);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast Macro) {
        let text = item.tokens.to_string();
        self.paths.extend(paths_in(&text));
        let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        self.words.extend(words.map(str::to_owned));
        visit::visit_macro(self, item);
    }

    fn visit_ident(&mut self, name: &'ast syn::Ident) {
        self.words.push(name.to_string());
    }

    fn visit_expr_await(&mut self, expression: &'ast syn::ExprAwait) {
        self.words.push("await".to_owned());
        visit::visit_expr_await(self, expression);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if signature.asyncness.is_some() {
            self.words.push("async".to_owned());
        }
        visit::visit_signature(self, signature);
    }
}

/// The paths in a macro's tokens, which are printed with spaces between them.
fn paths_in(tokens: &str) -> Vec<Vec<String>> {
    let is_name = |word: &str| {
        word.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && word.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    let spaced = tokens.replace("::", " :: ");
    let mut found = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut is_open = false;
    for word in spaced.split_whitespace().chain([";"]) {
        match word {
            "::" => is_open = !path.is_empty(),
            name if is_open && is_name(name) => {
                path.push(name.to_owned());
                is_open = false;
            }
            other => {
                if path.len() > 1 {
                    found.push(std::mem::take(&mut path));
                }
                path.clear();
                is_open = false;
                // Something may stick to it, as in `(name`.
                let name = other
                    .rsplit(|c: char| !c.is_alphanumeric() && c != '_')
                    .next();
                path.extend(name.filter(|name| is_name(name)).map(str::to_owned));
            }
        }
    }
    found
}

#[test]
fn every_form_of_use_is_read() {
    let item: syn::ItemUse = syn::parse_quote!(
        use super::{
            self as up,
            a::{self, B},
            c as d,
            e::*,
            f as _,
        };
    );
    let all: Vec<_> = imports(&item.tree)
        .into_iter()
        .map(|import| (import.path.join("::"), import.name, import.is_glob))
        .collect();
    let named = |path: &str, name: &str| (path.to_owned(), Some(name.to_owned()), false);
    assert_eq!(
        all,
        [
            named("super", "up"),
            named("super::a", "a"),
            named("super::a::B", "B"),
            named("super::c", "d"),
            ("super::e".to_owned(), None, true),
            ("super::f".to_owned(), None, false),
        ]
    );
}

#[test]
fn paths_are_read_in_code_and_in_macros_and_not_in_tests() {
    let item: Item = syn::parse_quote!(
        fn f() -> super::Type {
            use crate::inner::X;
            println!("{}", table::draw(&x, Other::<T>::new()));
            #[cfg(test)]
            fn g() {
                crate::not::this();
            }
            call::<a::B>(1)
        }
    );
    let said = said(&item);
    let paths: Vec<_> = said.paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(paths, ["super::Type", "table::draw", "a::B"]);
    assert_eq!(said.imports[0].path.join("::"), "crate::inner::X");
}
