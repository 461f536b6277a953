//! docs/as-without.md is what the cases and the table of differences say.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::cases::CASES;
use crate::differences::DIFFERENCES;
use crate::packaged;

/// Writes the tables instead of comparing them, when set.
const WRITE: &str = "WEFT_TEST_WRITE";
const BEGIN: &str = "<!-- begin: written by the suite -->\n";
const END: &str = "<!-- end -->\n";

fn tables() -> String {
    let mut text = String::from("\n## What differs\n\n");
    text += "| when | in the mesh | why | what changes it |\n| --- | --- | --- | --- |\n";
    for difference in DIFFERENCES {
        let (when, in_mesh) = (text_of(difference.case).unwrap(), difference.behaviour);
        let (reason, setting) = (difference.reason, difference.setting);
        writeln!(text, "| {when} | {in_mesh} | {reason} | {setting} |").unwrap();
    }
    text += "\n## What is compared\n\n";
    for (title, is_http) in [("Connections", false), ("Requests", true)] {
        let cases = CASES.iter().filter(|case| case.is_http == is_http);
        let cases: Vec<_> = cases.map(|case| case.text).collect();
        writeln!(text, "{title}: {}.\n", cases.join("; ")).unwrap();
    }
    let cases: Vec<_> = packaged::cases().map(|case| case.text).collect();
    writeln!(text, "Programs of others: {}.\n", cases.join("; ")).unwrap();
    text
}

/// A case in words.
pub(crate) fn text_of(case: &str) -> Option<&'static str> {
    let ours = CASES.iter().map(|known| (known.name, known.text));
    let others = packaged::cases().map(|known| (known.name, known.text));
    let mut cases = ours.chain(others);
    cases.find(|(name, _)| *name == case).map(|(_, text)| text)
}

#[test]
fn the_page_says_what_the_suite_does() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/as-without.md");
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}{BEGIN}{}{END}{after}", tables());
    if std::env::var_os(WRITE).is_some() {
        return fs::write(&page, expected).unwrap();
    }
    assert!(
        text == expected,
        "{WRITE}=1 before this test writes the page"
    );
}
