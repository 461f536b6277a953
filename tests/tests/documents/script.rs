//! Blocks of `sh`: their commands, and who checks each.

use crate::blocks::{Block, blocks};

/// Who checks a block of `sh`. There is nobody else: a block is of one of these.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Checker {
    /// Cargo's: `cargo xtask` is parsed by its own parser, other lines are listed in
    /// [`crate::programs`].
    Cargo,
    /// kubectl's and Helm's: parsed by them, and what needs no node is run against a real
    /// API server.
    Cluster,
    /// A shell runs it as it stands, with a control plane, an agent and two pods.
    Playground,
}

/// All blocks that somebody checks.
pub(crate) fn scripts(checker: Checker) -> Vec<Block> {
    let mut found = blocks("sh");
    found.retain(|block| checker_of(block) == checker);
    assert!(!found.is_empty(), "no block is for {checker:?}");
    found
}

fn checker_of(block: &Block) -> Checker {
    try_checker_of(&block.text).unwrap_or_else(|error| panic!("{block}: {error}"))
}

fn try_checker_of(text: &str) -> Result<Checker, String> {
    let commands = split(text);
    let of = |command: &Vec<String>| match command[0].as_str() {
        "cargo" => Checker::Cargo,
        "kubectl" | "helm" => Checker::Cluster,
        _ => Checker::Playground,
    };
    let Some(first) = commands.first().map(of) else {
        return Err("a block without a command".to_owned());
    };
    match commands.iter().find(|command| of(command) != first) {
        None => Ok(first),
        Some(other) => Err(format!(
            "`{}` is checked otherwise than the block's first command: give it a block of its own",
            other.join(" ")
        )),
    }
}

/// The commands of a script, as words. As much of a shell as documents use: comments,
/// quotes, continued lines, `&&`, `|`, `;`, `&`, and files that output goes to, which are
/// left out; so are texts between `<<'END'` and `END`.
pub(crate) fn split(script: &str) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    let script = script.replace("\\\n", " ");
    let mut lines = script.lines();
    while let Some(line) = lines.next() {
        let mut command = Vec::new();
        let mut words = words(line).into_iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "&&" | "||" | "|" | ";" | "&" => commands.push(std::mem::take(&mut command)),
                ">" | "2>" | ">>" => _ = words.next(),
                "2>&1" => {}
                "<<END" => _ = lines.by_ref().take_while(|line| *line != "END").count(),
                _ => command.push(word),
            }
        }
        commands.push(command);
    }
    commands.retain(|command| !command.is_empty());
    commands
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            ('#', None) if word.is_empty() => break,
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (c, None) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            (c, _) => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[test]
fn every_block_of_sh_has_somebody_who_checks_it() {
    for block in blocks("sh") {
        checker_of(&block);
    }
}

#[test]
fn a_block_that_two_would_check_is_refused() {
    assert_eq!(
        try_checker_of("kubectl get pods\nhelm list"),
        Ok(Checker::Cluster)
    );
    assert_eq!(
        try_checker_of("# cargo\nweft-node-agent run &"),
        Ok(Checker::Playground)
    );
    for odd in ["kubectl get pods\ncurl x", "cargo test && ls", "# nothing"] {
        assert!(try_checker_of(odd).is_err(), "{odd}");
    }
}

#[test]
fn a_script_is_split_as_a_shell_would() {
    let script = "a -b 'c d'   # e\n\n# f\ng \\\n  --h > i 2>&1 && j\nk <<'END'\nl m\nEND\nn &\n";
    let expected: Vec<Vec<&str>> = vec![
        vec!["a", "-b", "c d"],
        vec!["g", "--h"],
        vec!["j"],
        vec!["k"],
        vec!["n"],
    ];
    assert_eq!(split(script), expected);
}
