//! Fenced blocks of code in Markdown.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Languages of blocks. Those that no other module checks are for people's eyes.
const LANGUAGES: [&str; 6] = ["sh", "yaml", "rust", "text", "json", "mermaid"];
/// Beginnings of lines that somebody would paste into a shell.
const PROMPTS: [&str; 14] = [
    "$ ", "# ", "cargo ", "cd ", "curl ", "docker ", "export ", "helm ", "ip ", "kind ",
    "kubectl ", "nsenter ", "sudo ", "weft-",
];

/// A Markdown document of the project.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// Its path from the top folder.
    pub(crate) file: String,
    pub(crate) text: String,
}

/// A block with where it is.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) file: String,
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

/// Everything that people read.
pub(crate) fn documents() -> Vec<Document> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for folder in ["", "docs", "deploy", "tests/conformance", "tests/fuzz"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "md") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let read = |path: &PathBuf| Document {
        file: path.strip_prefix(root()).unwrap().display().to_string(),
        text: fs::read_to_string(path).unwrap(),
    };
    paths.iter().map(read).collect()
}

/// A document by its path from the top folder.
pub(crate) fn document(file: &str) -> Document {
    let found = documents()
        .into_iter()
        .find(|document| document.file == file);
    found.unwrap_or_else(|| panic!("there is no {file}"))
}

/// All blocks of a language in everything that people read.
pub(crate) fn blocks(language: &str) -> Vec<Block> {
    let mut all: Vec<_> = documents().iter().flat_map(Document::blocks).collect();
    all.retain(|block| block.language == language);
    assert!(!all.is_empty(), "no document has a block of {language}");
    all
}

impl Document {
    fn blocks(&self) -> Vec<Block> {
        let mut found = Vec::new();
        let mut open: Option<(usize, Block)> = None;
        for (index, line) in self.text.lines().enumerate() {
            let fence = line.trim_start().strip_prefix("```");
            match (fence, &mut open) {
                (Some(_), Some(_)) => found.extend(open.take().map(|(_, block)| block)),
                (Some(language), None) => {
                    let indent = line.len() - line.trim_start().len();
                    let block = Block {
                        file: self.file.clone(),
                        line: index + 1,
                        language: language.trim().to_owned(),
                        text: String::new(),
                    };
                    open = Some((indent, block));
                }
                // In a list a block is indented as the list's text is.
                (None, Some((indent, block))) => {
                    let line = line.get(*indent..).unwrap_or_default();
                    block.text += &format!("{line}\n");
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block of code has no end", self.file);
        found
    }

    /// The text outside of blocks, where each is one line of nothing.
    pub(crate) fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut is_code = false;
        let lines = self.text.lines().enumerate();
        lines.filter_map(move |(index, line)| {
            let is_fence = line.trim_start().starts_with("```");
            is_code ^= is_fence;
            (!is_code && !is_fence).then_some((index + 1, line))
        })
    }

    /// Code within prose, with the number of the line that its paragraph begins at.
    pub(crate) fn inline_code(&self) -> Vec<(usize, String)> {
        let mut paragraphs: Vec<(usize, String)> = Vec::new();
        let mut last = 0;
        for (number, line) in self.prose().filter(|(_, line)| !line.trim().is_empty()) {
            match paragraphs.last_mut() {
                Some((_, text)) if number == last + 1 => *text += &format!(" {}", line.trim()),
                _ => paragraphs.push((number, line.to_owned())),
            }
            last = number;
        }
        let code = |(number, text): &(usize, String)| {
            let spans = text.split('`').skip(1).step_by(2);
            spans
                .map(|span| (*number, span.to_owned()))
                .collect::<Vec<_>>()
        };
        paragraphs.iter().flat_map(code).collect()
    }

    /// The cells of the rows of all tables below a heading, up to the next heading.
    pub(crate) fn rows(&self, heading: &str) -> Vec<Vec<String>> {
        let lines = self.prose().map(|(_, line)| line);
        let mut lines = lines.skip_while(|line| *line != heading).skip(1).peekable();
        assert!(lines.peek().is_some(), "{}: no `{heading}`", self.file);
        let section = lines.take_while(|line| !line.starts_with('#'));
        let rows = section.filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
        rows.map(|row| {
            let cells = row.trim_matches('|').split(" | ");
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
    }
}

#[test]
fn every_block_has_a_language_and_commands_are_only_in_those_of_sh() {
    for block in documents().iter().flat_map(Document::blocks) {
        assert!(
            LANGUAGES.contains(&block.language.as_str()),
            "{block}: `{}` is none of {LANGUAGES:?}: say what the block is",
            block.language
        );
        if ["sh", "yaml"].contains(&block.language.as_str()) {
            continue;
        }
        for line in block.text.lines().map(str::trim_start) {
            let is_command = |prompt: &&str| line.starts_with(*prompt);
            assert!(
                !PROMPTS.iter().any(is_command),
                "{block}: `{line}` is a command: it belongs in a block of sh, which is tested"
            );
        }
    }
}

#[test]
fn every_block_of_rust_is_rust() {
    for block in blocks("rust") {
        let text = &block.text;
        let parsed = [
            text.clone(),
            format!("async fn example() {{\n{text}\n}}"),
            format!("impl Example {{\n{text}\n}}"),
            format!("struct Example {{\n{text}\n}}"),
        ]
        .iter()
        .map(|text| syn::parse_file(text).map(drop))
        .reduce(|before, parsed| before.or(parsed))
        .unwrap();
        parsed.unwrap_or_else(|error| panic!("{block}: {error}"));
    }
}

#[test]
fn a_block_is_between_its_fences() {
    let text = "text\n```sh\nls\n```\nmore\n- item\n  ```yaml\n  a:\n    - 1\n  ```\n";
    let document = Document {
        file: "a.md".to_owned(),
        text: text.to_owned(),
    };
    let found: Vec<_> = document
        .blocks()
        .into_iter()
        .map(|block| (block.to_string(), block.language, block.text))
        .collect();
    let block = |place: &str, language: &str, text: &str| {
        (place.to_owned(), language.to_owned(), text.to_owned())
    };
    let expected = [
        block("a.md:2", "sh", "ls\n"),
        block("a.md:7", "yaml", "a:\n  - 1\n"),
    ];
    assert_eq!(found, expected);
    let prose: Vec<_> = document.prose().map(|(_, line)| line).collect();
    assert_eq!(prose, ["text", "more", "- item"]);
}
