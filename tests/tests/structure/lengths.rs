//! Files up to 400 lines before their tests, functions up to 60: who reads one sees it
//! whole. Clippy says the latter too (`too_many_lines`), at the place.

use crate::packages::{is_test_or_generated, packages, read};

const FILE: usize = 400;
const FUNCTION: usize = 60;

fn sources() -> Vec<String> {
    let all = packages();
    all.iter().flat_map(|package| package.sources()).collect()
}

#[test]
fn no_file_is_longer_than_one_can_read() {
    let long: Vec<_> = sources()
        .into_iter()
        .filter(|path| !is_test_or_generated(path) && lines_before_tests(&read(path)) > FILE)
        .collect();
    assert!(
        long.is_empty(),
        "more than {FILE} lines before the tests: split it by what its parts are about: {long:#?}"
    );
}

#[test]
fn no_function_is_longer_than_one_can_read() {
    let mut long = Vec::new();
    for path in sources()
        .into_iter()
        .filter(|path| !path.contains("/generated/"))
    {
        let functions = functions(&read(&path));
        let functions = functions.into_iter().filter(|(_, lines)| *lines > FUNCTION);
        long.extend(functions.map(|(name, _)| (path.clone(), name)));
    }
    assert!(
        long.is_empty(),
        "more than {FUNCTION} lines: give its phases names, a function each: {long:#?}"
    );
}

/// The lines of a source before `#[cfg(test)] mod tests`.
fn lines_before_tests(source: &str) -> usize {
    let lines: Vec<_> = source.lines().collect();
    let is_tests = |pair: &[&str]| {
        pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod ")
    };
    let tests = lines.windows(2).position(is_tests);
    tests.unwrap_or(lines.len())
}

/// Functions with the lines of code in their bodies, comments and empty ones left out, as
/// Clippy counts. Reads what rustfmt has laid out: a body ends where its line began.
fn functions(source: &str) -> Vec<(String, usize)> {
    let lines: Vec<_> = source.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let at_indent = |line: &&str| {
            line.len() > indent
                && line.as_bytes()[indent] != b' '
                && line[..indent].trim().is_empty()
        };
        let body = lines[start..].iter().position(|line| line.ends_with('{'));
        let Some(body) = body.map(|offset| start + offset) else {
            continue;
        };
        let end = lines[body + 1..]
            .iter()
            .position(|line| at_indent(line) && line[indent..].starts_with('}'));
        let code = lines[body + 1..].iter().take(end.unwrap_or(0));
        let code = code
            .map(|line| line.trim())
            .filter(|line| !line.is_empty() && !line.starts_with("//"));
        found.push((name.to_owned(), code.count()));
    }
    found
}

/// The name of the function that a line declares.
fn function_name(line: &str) -> Option<&str> {
    let words = [
        "pub ",
        "pub(crate) ",
        "pub(super) ",
        "const ",
        "async ",
        "unsafe ",
        "extern \"C\" ",
    ];
    let mut code = line.trim_start();
    while let Some(rest) = words.iter().find_map(|word| code.strip_prefix(word)) {
        code = rest;
    }
    let name = code.strip_prefix("fn ")?;
    // Without a body it is a declaration, of a trait or of C.
    (!line.ends_with(';')).then(|| name.split(['(', '<']).next())?
}

#[test]
fn code_is_counted_and_comments_are_not() {
    let source = "
impl A {
    pub(crate) async fn one(
        &self,
    ) -> u8 {
        // Why.
        let a = 1;

        a
    }

    fn declared(&self);
}
fn two() {
    let a = || {
        1
    };
}
";
    assert_eq!(
        functions(source),
        [("one".to_owned(), 2), ("two".to_owned(), 3)]
    );
    assert_eq!(lines_before_tests("a\n#[cfg(test)]\nmod tests {\n}\n"), 1);
    assert_eq!(lines_before_tests("a\n#[cfg(test)]\nfn b() {}\n"), 3);
}
