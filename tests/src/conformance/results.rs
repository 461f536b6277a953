//! What the suite says of its tests, line by line, as Go's `testing` writes it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Instant;

/// The one test of the suite's program: all others are below it.
const ROOT: &str = "TestConformance/";
/// What begins a line that tells something to machines (`go doc test2json`).
const MARK: char = '\u{16}';
/// What the suite's messages have when an answer is not the one that it waits for.
const REASONS: [&str; 2] = ["not ready yet: ", "distribution test failed "];
/// How much of a reason is told: some list all headers of a request.
const REASON_LENGTH: usize = 200;

/// How a test ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Well.
    Passed,
    /// With an expectation that wasn't met.
    Failed,
    /// It wasn't run.
    Skipped,
}

impl Verdict {
    /// As lists have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    /// As Go calls it.
    fn parse(word: &str) -> Option<Self> {
        match word {
            "PASS" => Some(Self::Passed),
            "FAIL" => Some(Self::Failed),
            "SKIP" => Some(Self::Skipped),
            _ => None,
        }
    }
}

/// A test that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// As the suite calls it, such as `MeshBasic`.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// How long it took. Go doesn't count the time of cases that run side by side.
    pub seconds: f32,
    /// What wasn't as it should be.
    pub failures: Vec<Failure>,
}

/// A case that failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// As the suite calls it; empty where a test has no cases.
    pub case: String,
    /// What was last seen.
    pub reason: String,
}

impl Test {
    /// Every failure on a line of its own.
    pub fn reasons(&self) -> String {
        let mut text = String::new();
        for failure in &self.failures {
            // Writing to a String can't fail.
            let _ = write!(text, "\n    {}: {}", failure.case, failure.reason);
        }
        text
    }
}

/// Tests by name, as it is checked in: nothing that differs between two runs.
pub fn list(tests: &[Test]) -> String {
    let by_name: BTreeMap<_, _> = tests.iter().map(|test| (&test.name, test)).collect();
    by_name.values().fold(String::new(), |text, test| {
        format!("{text}{:7} {}\n", test.verdict.name(), test.name)
    })
}

/// Reads what the suite writes.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// When the test that runs was begun.
    begun: Option<Instant>,
    /// Whose messages come.
    current: String,
    /// The last reason to ask again, by test or case.
    reasons: BTreeMap<String, String>,
    /// Cases that failed, by test.
    failures: BTreeMap<String, Vec<Failure>>,
}

impl Reader {
    /// Takes one line; gives back the test that it ends. Tests of gateways are skipped
    /// by the hundred and are not worth mentioning.
    pub(super) fn read(&mut self, line: &str) -> Option<Test> {
        let line = line.trim_start_matches([MARK, ' ']).trim_end();
        if let Some(rest) = line.strip_prefix("=== ") {
            let name = rest.split_whitespace().nth(1).unwrap_or_default();
            name.strip_prefix(ROOT)
                .unwrap_or_default()
                .clone_into(&mut self.current);
            if rest.starts_with("RUN ") && !self.current.contains('/') {
                self.begun = Some(Instant::now());
            }
            return None;
        }
        if let Some(rest) = line.strip_prefix("--- ") {
            return self.end(rest);
        }
        let reason = REASONS
            .iter()
            .find_map(|mark| Some(line.split_once(mark)?.1));
        if let Some(reason) = reason {
            let reason = reason
                .rsplit_once(" (after ")
                .map_or(reason, |(text, _)| text);
            let reason = reason.chars().take(REASON_LENGTH).collect();
            self.reasons.insert(self.current.clone(), reason);
        }
        None
    }

    /// Reads such as `PASS: TestConformance/MeshBasic (0.51s)`.
    fn end(&mut self, text: &str) -> Option<Test> {
        let (verdict, rest) = text.split_once(": ")?;
        let verdict = Verdict::parse(verdict)?;
        let (name, _) = rest.rsplit_once(" (")?;
        let name = name.strip_prefix(ROOT)?;
        let reason = self.reasons.remove(name);
        let Some((test, case)) = name.split_once('/') else {
            let mut failures = self.failures.remove(name).unwrap_or_default();
            if let (Verdict::Failed, Some(reason)) = (verdict, reason) {
                let case = String::new();
                failures.push(Failure { case, reason });
            }
            let is_ours = verdict != Verdict::Skipped || name.starts_with("Mesh");
            return is_ours.then(|| Test {
                name: name.to_owned(),
                verdict,
                seconds: self
                    .begun
                    .map_or(0.0, |begun| begun.elapsed().as_secs_f32()),
                failures,
            });
        };
        if verdict == Verdict::Failed {
            let reason = reason.unwrap_or_else(|| "see the log".to_owned());
            let case = case.to_owned();
            let failures = self.failures.entry(test.to_owned()).or_default();
            failures.push(Failure { case, reason });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
\u{16}=== RUN   TestConformance
    conformance.go:112: Running conformance tests with:
\u{16}=== RUN   TestConformance/HTTPRouteTimeouts
    conformance.go:70: Skipping HTTPRouteTimeouts: suite does not support Gateway
\u{16}--- SKIP: TestConformance/HTTPRouteTimeouts (0.00s)
\u{16}=== RUN   TestConformance/MeshBasic
\u{16}=== RUN   TestConformance/MeshBasic/0_request_to_'echo/'_should_receive_a_200
    pod.go:69: 2026-01-02T03:04:05Z: Request passed
\u{16}    --- PASS: TestConformance/MeshBasic/0_request_to_'echo/'_should_receive_a_200 (0.31s)
\u{16}--- PASS: TestConformance/MeshBasic (0.51s)
\u{16}=== RUN   TestConformance/MeshPorts
\u{16}=== RUN   TestConformance/MeshPorts/one
\u{16}=== PAUSE TestConformance/MeshPorts/one
\u{16}=== RUN   TestConformance/MeshPorts/two
\u{16}=== CONT  TestConformance/MeshPorts/one
    pod.go:62: 2026-01-02T03:04:05Z: Response expectation failed for request: [client http://echo-v1]  not ready yet: expected header X-Header-Set=v1, got  (after 1.5s)
\u{16}=== NAME  TestConformance/MeshPorts/two
    pod.go:57: 2026-01-02T03:04:05Z: Request [client http://echo-v1:8080] failed, not ready yet: exit code 1 (after 2s)
\u{16}=== NAME  TestConformance/MeshPorts/one
    http.go:306: 2026-01-02T03:04:06Z: timeout while waiting after 4 attempts
\u{16}    --- FAIL: TestConformance/MeshPorts/one (30.21s)
\u{16}    --- PASS: TestConformance/MeshPorts/two (30.11s)
\u{16}--- FAIL: TestConformance/MeshPorts (60.51s)
\u{16}--- SKIP: TestConformance/MeshConsumerRoute (0.00s)
\u{16}--- FAIL: TestConformance (61.00s)
FAIL
";

    fn tests() -> Vec<Test> {
        let mut reader = Reader::default();
        OUTPUT
            .lines()
            .filter_map(|line| reader.read(line))
            .collect()
    }

    #[test]
    fn each_test_of_meshes_ends_with_what_it_was_and_why() {
        let tests = tests();
        assert_eq!(tests.len(), 3, "{tests:?}");
        assert_eq!(tests[0].name, "MeshBasic");
        assert_eq!(tests[0].verdict, Verdict::Passed);
        assert_eq!(tests[0].failures, []);
        let failure = Failure {
            case: "one".to_owned(),
            reason: "expected header X-Header-Set=v1, got ".to_owned(),
        };
        assert_eq!(tests[1].failures, [failure]);
        assert_eq!(
            tests[1].reasons(),
            "\n    one: expected header X-Header-Set=v1, got "
        );
        assert_eq!(tests[2].verdict, Verdict::Skipped);
    }

    #[test]
    fn a_list_is_sorted_and_has_nothing_that_differs_between_runs() {
        let mut tests = tests();
        let text = "passed  MeshBasic\nskipped MeshConsumerRoute\nfailed  MeshPorts\n";
        assert_eq!(list(&tests), text);
        tests.reverse();
        tests[0].seconds = 7.0;
        assert_eq!(list(&tests), text);
    }

    #[test]
    fn a_long_reason_is_cut() {
        let mut reader = Reader::default();
        let headers = "ä".repeat(1000);
        reader.read("=== RUN   TestConformance/MeshBasic");
        reader.read(&format!("failed, not ready yet: {headers} (after 1s)"));
        let test = reader.read("--- FAIL: TestConformance/MeshBasic (0.00s)");
        let failure = &test.unwrap().failures[0];
        assert_eq!(failure.reason, "ä".repeat(REASON_LENGTH));
    }

    #[test]
    fn a_failure_without_a_message_points_to_the_log() {
        let mut reader = Reader::default();
        reader.read("--- FAIL: TestConformance/MeshBasic/one (0.00s)");
        let test = reader
            .read("--- FAIL: TestConformance/MeshBasic (0.00s)")
            .unwrap();
        assert_eq!(test.reasons(), "\n    one: see the log");
    }
}
