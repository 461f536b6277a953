//! Fenced blocks of code in Markdown.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// A block with where it is.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    file: String,
    line: usize,
    language: String,
    pub(crate) text: String,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// The top folder of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// All blocks of a language in everything that people read.
pub(crate) fn blocks(language: &str) -> Vec<Block> {
    let mut all = Vec::new();
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        let file = path.strip_prefix(root()).unwrap().display().to_string();
        all.extend(blocks_of(&file, &text));
    }
    all.retain(|block| block.language == language);
    assert!(!all.is_empty(), "no document has a block of {language}");
    all
}

fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["", "docs", "deploy", "tests/conformance", "tests/fuzz"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn blocks_of(file: &str, text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in text.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (fence, &mut open) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(language), None) => {
                open = Some(Block {
                    file: file.to_owned(),
                    line: index + 1,
                    language: language.trim().to_owned(),
                    text: String::new(),
                });
            }
            (None, Some(block)) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{file}: a block of code has no end");
    found
}

#[test]
fn a_block_is_between_its_fences() {
    let found = blocks_of("a.md", "text\n```sh\nls\n```\nmore\n```yaml\na: 1\n```\n");
    let found: Vec<_> = found
        .iter()
        .map(|block| {
            (
                block.to_string(),
                block.language.as_str(),
                block.text.as_str(),
            )
        })
        .collect();
    let expected = [
        ("a.md:2".to_owned(), "sh", "ls\n"),
        ("a.md:6".to_owned(), "yaml", "a: 1\n"),
    ];
    assert_eq!(found, expected);
}
