//! The tables of docs/flags.md are what the programs say of themselves.

use std::fmt::Write as _;
use std::fs;

use crate::blocks::{document, root};
use crate::programs::program;

/// The commands that have flags.
const COMMANDS: [(&str, &str); 11] = [
    ("weft-node-agent", "run"),
    ("weft-node-agent", "uninstall"),
    ("weft-sidecar", "init"),
    ("weft-sidecar", "cleanup"),
    ("weft-sidecar", "run"),
    ("weft-sidecar", "wait"),
    ("weft-sidecar", "drain"),
    ("weft-control-plane", "serve"),
    ("weft-control-plane", "token"),
    ("weft-control-plane", "rotate-root"),
    ("weft-control-plane", "inject"),
];
/// Writes the tables instead of comparing them, when set.
const WRITE: &str = "WEFT_TEST_WRITE";
const PAGE: &str = "docs/flags.md";
const HEAD: &str = "| flag | default | environment | what |\n| --- | --- | --- | --- |\n";

/// A flag or an argument, as `--help` has it.
#[derive(Debug, Default, Eq, PartialEq)]
struct Flag {
    spelling: String,
    default: String,
    environment: String,
    text: String,
}

/// Reads what `--help` prints.
fn flags(help: &str) -> Vec<Flag> {
    let usage = help.lines().find(|line| line.starts_with("Usage: "));
    let usage = usage.unwrap_or_default();
    let mut found: Vec<Flag> = Vec::new();
    let mut is_list = false;
    for line in help.lines().filter(|line| !line.is_empty()) {
        let trimmed = line.trim();
        if !line.starts_with(' ') {
            is_list = line.ends_with(':') && line != "Commands:";
        } else if is_list && (trimmed.starts_with('-') || trimmed.starts_with('<')) && is_name(line)
        {
            let (spelling, text) = trimmed.split_once("  ").unwrap_or((trimmed, ""));
            let mut flag = Flag {
                spelling: spelling.to_owned(),
                ..Flag::default()
            };
            if usage.contains(&format!(" {spelling}")) {
                flag.default = "required".to_owned();
            }
            flag.say(text.trim());
            found.push(flag);
        } else if let Some(flag) = found.last_mut().filter(|_| is_list) {
            flag.say(trimmed);
        }
    }
    found.retain(|flag| !flag.spelling.starts_with("-h,"));
    found
}

/// Names are indented less than what is said of them.
fn is_name(line: &str) -> bool {
    line.len() - line.trim_start().len() < 10
}

impl Flag {
    /// One more line of what is said of it.
    fn say(&mut self, line: &str) {
        // In the short layout notes follow the text on its line.
        if let Some((text, note)) = line
            .rsplit_once(" [")
            .filter(|(_, note)| note.ends_with(']'))
        {
            self.say(text);
            return self.say(&format!("[{note}"));
        }
        let within = |name: &str| line.strip_prefix(name)?.strip_suffix(']');
        if let Some(default) = within("[default: ") {
            self.default = format!("`{default}`");
        } else if let Some(variable) = within("[env: ") {
            self.environment = format!("`{}`", variable.trim_end_matches('='));
        } else if let Some(values) = within("[possible values: ") {
            self.add(&format!("One of {values}."));
        } else if let Some((value, text)) = value(line) {
            self.add(&format!("`{value}`: {text}."));
        } else if line != "Possible values:" && !line.is_empty() {
            let end = if line.ends_with('.') { "" } else { "." };
            self.add(&format!("{line}{end}"));
        }
    }

    fn add(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(text);
    }

    fn row(&self) -> String {
        let or_none = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
        format!(
            "| `{}` | {} | {} | {} |\n",
            self.spelling,
            or_none(&self.default),
            or_none(&self.environment),
            self.text.replace('|', "\\|").replace('*', "\\*")
        )
    }
}

/// A value in a list of those that are possible.
fn value(line: &str) -> Option<(&str, &str)> {
    let (value, text) = line.strip_prefix("- ")?.split_once(':')?;
    Some((value, text.trim()))
}

#[test]
#[cfg_attr(not(feature = "end-to-end"), ignore = "needs the programs built")]
fn every_flag_is_in_the_table_as_its_program_explains_it() {
    let page = document(PAGE).text;
    let mut wanted = page.split("\n## ").next().unwrap().trim_end().to_owned() + "\n";
    for (name, command) in COMMANDS {
        let output = program(name).args([command, "--help"]).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        let flags = flags(&help);
        assert!(!flags.is_empty(), "{name} {command}: {help}");
        write!(wanted, "\n## {name} {command}\n\n{HEAD}").unwrap();
        flags.iter().for_each(|flag| wanted += &flag.row());
    }
    if std::env::var_os(WRITE).is_some() {
        fs::write(root().join(PAGE), &wanted).unwrap();
    } else if page != wanted {
        let differs = |(is, should): &(&str, &str)| is != should;
        let first = page.lines().zip(wanted.lines()).find(differs);
        panic!("{PAGE} is not what the programs say: {first:#?}\n{WRITE}=1 writes it anew");
    }
}

/// A command with flags that the page lacks would be missed otherwise.
#[test]
#[cfg_attr(not(feature = "end-to-end"), ignore = "needs the programs built")]
fn every_command_with_flags_is_in_the_table() {
    for name in ["weft-node-agent", "weft-sidecar", "weft-control-plane"] {
        let help = program(name).arg("--help").output().unwrap().stdout;
        let help = String::from_utf8(help).unwrap();
        let commands = help.split("Commands:\n").nth(1).unwrap();
        let commands = commands.lines().take_while(|line| line.starts_with("  "));
        for command in commands.filter_map(|line| line.split_whitespace().next()) {
            let help = program(name).args([command, "--help"]).output().unwrap();
            let flags = flags(&String::from_utf8(help.stdout).unwrap());
            let is_known = COMMANDS.contains(&(name, command));
            assert!(
                is_known || flags.is_empty() || command == "help",
                "{name} {command} has flags: add it to COMMANDS in {}",
                file!()
            );
        }
    }
}

#[test]
fn help_is_read_in_both_of_its_layouts() {
    let long = "Serves.\n\nUsage: x serve [OPTIONS] --node <NAME>\n\nOptions:\n      --node <NAME>\n          \
                The node\n          \n          [env: N=]\n\n  -h, --help\n          Print help\n\nMore:\n      \
                --kind <KIND>\n          Which\n\n          Possible values:\n          - a: One\n          \n          \
                [default: a]\n";
    let node = Flag {
        spelling: "--node <NAME>".to_owned(),
        default: "required".to_owned(),
        environment: "`N`".to_owned(),
        text: "The node.".to_owned(),
    };
    let kind = Flag {
        spelling: "--kind <KIND>".to_owned(),
        default: "`a`".to_owned(),
        environment: String::new(),
        text: "Which. `a`: One.".to_owned(),
    };
    assert_eq!(flags(long), [node, kind]);
    let short = "Usage: x [OPTIONS]\n\nOptions:\n      --all   Everything. [default: a]\n  -h, --help  Print help\n";
    let all = Flag {
        spelling: "--all".to_owned(),
        default: "`a`".to_owned(),
        text: "Everything.".to_owned(),
        ..Flag::default()
    };
    assert_eq!(flags(short), [all]);
}
