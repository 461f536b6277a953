//! Which tests are asked for, and what Cargo is told to run them.

use std::collections::BTreeSet;
use std::path::Path;

use clap::ValueEnum;

use super::options::Options;
use super::source::{self, Target, Test};
use super::suite::{self, Suite};

/// Has what the whole workspace wants of its dependencies: whatever is built beside it
/// needs no dependency compiled once more.
const FEATURES: &str = "weft-test-features";

/// The tests that are asked for.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    tests: Vec<Test>,
    filters: Vec<String>,
    /// Every test of the workspace, or all of some suites: Cargo finds them by itself.
    is_workspace: bool,
    /// Every test of some packages.
    is_packages: bool,
}

/// Why there is nothing to run. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelectionError {
    /// A source.
    #[error("can't read the sources: {0}")]
    Read(#[from] std::io::Error),
    /// Nothing fits.
    #[error("no test has {0}; `cargo xtask test --list` has all names")]
    None(String),
}

impl Selection {
    /// Looks for them in the sources.
    ///
    /// # Errors
    /// When nothing fits.
    pub(crate) fn new(root: &Path, options: &Options) -> Result<Self, SelectionError> {
        let mut tests = source::tests(root)?;
        // A suite may be asked for as tests are, by its name.
        let is_suite = |filter: &String| {
            let of_a_test = tests.iter().any(|test| test.path.contains(filter.as_str()));
            Suite::from_str(filter, false).ok().filter(|_| !of_a_test)
        };
        let (named, filters): (Vec<_>, Vec<_>) = options
            .filters
            .iter()
            .cloned()
            .partition(|filter| is_suite(filter).is_some());
        let mut suites = options.suite.clone();
        suites.extend(named.iter().filter_map(is_suite));
        let packages = &options.package;
        tests.retain(|test| {
            (packages.is_empty() || packages.contains(&test.package))
                && (suites.is_empty() || suites.contains(&test.suite))
                && (!test.suite.is_on_request()
                    || suites.contains(&test.suite)
                    || !filters.is_empty())
                && !(options.fast && test.suite.is_slow())
                && (filters.is_empty() || test.has_one_of(&filters))
        });
        if tests.is_empty() {
            let mut asked: Vec<_> = filters
                .iter()
                .map(|name| format!("`{name}` in its name"))
                .collect();
            asked.extend(packages.iter().map(|name| format!("package {name}")));
            asked.extend(suites.iter().map(|suite| format!("suite {suite:?}")));
            return Err(SelectionError::None(asked.join(", ")));
        }
        let has_all_units = suites.is_empty() || suites.contains(&Suite::Unit);
        Ok(Self {
            tests,
            is_workspace: packages.is_empty() && filters.is_empty() && has_all_units,
            is_packages: filters.is_empty() && has_all_units,
            filters,
        })
    }

    /// The suites that they are of.
    pub(crate) fn suites(&self) -> impl Iterator<Item = Suite> {
        let suites: BTreeSet<_> = self.tests.iter().map(|test| test.suite).collect();
        suites.into_iter()
    }

    /// A line for each: package, target, name.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.tests.iter().map(|test| match &test.target {
            Target::Unit => format!("{} {}", test.package, test.path),
            Target::Test(target) => format!("{} {target} {}", test.package, test.path),
        })
    }

    /// What Cargo is told to run them, as far as they are of these suites.
    pub(crate) fn arguments(&self, suites: &BTreeSet<Suite>) -> Vec<String> {
        let mut arguments = vec!["test".to_owned(), "--no-fail-fast".to_owned()];
        let tests = || {
            self.tests
                .iter()
                .filter(|test| suites.contains(&test.suite))
        };
        if self.is_workspace {
            arguments.push("--workspace".to_owned());
        } else {
            let packages: BTreeSet<_> = tests().map(|test| test.package.as_str()).collect();
            let packages = packages.into_iter().chain([FEATURES]);
            arguments.extend(packages.map(|name| format!("--package={name}")));
        }
        let features = suite::features(suites);
        if !features.is_empty() {
            arguments.push(format!("--features={}", features.join(",")));
        }
        if !self.is_workspace && !self.is_packages {
            let targets: BTreeSet<_> = tests().map(|test| &test.target).collect();
            for target in targets {
                match target {
                    Target::Unit => arguments.extend(["--lib", "--bins"].map(str::to_owned)),
                    Target::Test(name) => arguments.push(format!("--test={name}")),
                }
            }
        }
        if !self.filters.is_empty() {
            arguments.push("--".to_owned());
            arguments.extend(self.filters.iter().cloned());
        }
        arguments
    }

    /// How to run one test of the end-to-end suite alone, for whoever looks for a reason.
    pub(crate) fn hint(&self) -> Option<String> {
        let of_mesh = |test: &&Test| test.suite == Suite::EndToEnd;
        let example = self.tests.iter().find(of_mesh)?;
        Some(format!(
            "One of them alone: cargo xtask test {}\nA test that fails leaves the logs, manifests \
             and state of its mesh in target/logs/NAME; with WEFT_TEST_KEEP=1 each does. WEFT_LOG, \
             such as info,weft_proxy=debug, is what the agents log.",
            example.path
        ))
    }
}

impl Test {
    /// By its path, also with the name of its target before it.
    fn has_one_of(&self, filters: &[String]) -> bool {
        filters
            .iter()
            .any(|filter| self.path.contains(filter.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(options: &Options) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let selection = Selection::new(root, options).unwrap();
        let suites = selection.suites().collect();
        selection.arguments(&suites).join(" ")
    }

    #[test]
    fn without_a_word_it_is_everything() {
        let line = arguments(&Options::default());
        assert!(
            line.starts_with("test --no-fail-fast --workspace --features="),
            "{line}"
        );
        for feature in [
            "kernel-tests",
            "redis-tests",
            "end-to-end",
            "deploy",
            "cluster",
        ] {
            assert!(line.contains(feature), "{line}");
        }
        assert!(!line.contains("old-kernels"), "{line}");
        let asked = arguments(&Options {
            filters: vec!["old-kernels".to_owned()],
            ..Options::default()
        });
        assert!(
            asked.ends_with("--features=weft-tests/old-kernels --test=old_kernels"),
            "{asked}"
        );
        let fast = arguments(&Options {
            fast: true,
            ..Options::default()
        });
        assert!(
            fast.contains("end-to-end") && !fast.contains("cluster"),
            "{fast}"
        );
    }

    #[test]
    fn a_name_asks_for_the_targets_that_have_it() {
        let of = |name: &str| {
            arguments(&Options {
                filters: vec![name.to_owned()],
                ..Options::default()
            })
        };
        assert_eq!(
            of("a_name_asks_for_the_targets"),
            "test --no-fail-fast --package=xtask --package=weft-test-features --lib --bins -- \
             a_name_asks_for_the_targets"
        );
        assert_eq!(
            of("a_gibibyte_goes_both_ways"),
            "test --no-fail-fast --package=weft-tests --package=weft-test-features \
             --features=weft-tests/end-to-end --test=end_to_end -- a_gibibyte_goes_both_ways"
        );
    }

    #[test]
    fn a_suite_or_a_package_asks_for_what_is_of_it() {
        let suite = arguments(&Options {
            suite: vec![Suite::Deploy],
            ..Options::default()
        });
        assert_eq!(
            suite,
            "test --no-fail-fast --package=weft-tests --package=weft-test-features \
             --features=weft-tests/deploy --test=deploy --test=documents"
        );
        let named = arguments(&Options {
            filters: vec!["as-without".to_owned()],
            ..Options::default()
        });
        assert_eq!(
            named,
            "test --no-fail-fast --package=weft-tests --package=weft-test-features \
             --features=weft-tests/end-to-end --test=as_without"
        );
        let package = arguments(&Options {
            package: vec!["weft-proxy".to_owned()],
            ..Options::default()
        });
        assert_eq!(
            package,
            "test --no-fail-fast --package=weft-proxy --package=weft-test-features"
        );
    }

    #[test]
    fn what_nobody_is_called_is_said() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let options = Options {
            filters: vec!["no_such_test".to_owned() + "_anywhere"],
            ..Options::default()
        };
        let error = Selection::new(root, &options).unwrap_err();
        assert!(
            error.to_string().contains("`no_such_test_anywhere`"),
            "{error}"
        );
    }
}
