//! `model` decides, and nothing else: the same question gets the same answer, on every
//! machine, at every time.

use crate::names;
use crate::packages::{is_test_or_generated, packages, read};

/// What it must not name, and what it is given instead.
const FORBIDDEN: [(&str, &str); 17] = [
    ("fastrand", RANDOM),
    ("rand", RANDOM),
    ("getrandom", RANDOM),
    ("RandomState", RANDOM),
    ("AtomicBool", STATE),
    ("AtomicU32", STATE),
    ("AtomicU64", STATE),
    ("AtomicUsize", STATE),
    ("Mutex", STATE),
    ("RwLock", STATE),
    ("OnceLock", STATE),
    ("LazyLock", STATE),
    ("Cell", STATE),
    ("RefCell", STATE),
    ("SystemTime", CLOCK),
    ("async", ASYNC),
    ("await", ASYNC),
];
const RANDOM: &str = "the caller draws and hands in a number";
const STATE: &str = "the caller keeps what changes and hands it in";
const CLOCK: &str = "the caller reads the clock and hands in an Instant";
const ASYNC: &str = "nothing in the model waits";

#[test]
fn the_model_has_no_randomness_no_clock_no_locks_and_waits_for_nothing() {
    let all = packages();
    let model = all
        .iter()
        .find(|package| package.name == "weft-model")
        .unwrap();
    let mut broken = Vec::new();
    let mut advice = Vec::new();
    for path in model
        .sources()
        .into_iter()
        .filter(|path| !is_test_or_generated(path))
    {
        let file = syn::parse_file(&read(&path)).unwrap();
        for said in file
            .items
            .iter()
            .filter(|item| !names::is_for_tests(item))
            .map(names::said)
        {
            for (word, instead) in FORBIDDEN {
                if said.words.iter().any(|said| said == word) {
                    broken.push((path.clone(), word));
                    advice.push(instead);
                }
            }
            let is_clock =
                |path: &&Vec<String>| path.ends_with(&["Instant".to_owned(), "now".to_owned()]);
            if said.paths.iter().any(|path| is_clock(&path)) {
                broken.push((path.clone(), "Instant::now"));
                advice.push(CLOCK);
            }
        }
    }
    advice.sort_unstable();
    advice.dedup();
    assert!(
        broken.is_empty(),
        "the model is pure: {}: {broken:#?}",
        advice.join("; ")
    );
}
