//! The official conformance suite of the Gateway API, as far as it is about meshes.
//!
//! It is the suite's own program, unchanged, built from `tests/kube/gateway-api`. It makes
//! two namespaces with an echo application, attaches routes to their Services, and asks
//! from inside the pods. It knows nothing of Weft but the label that its namespaces get.

mod echo;
mod module;
mod results;

pub use echo::images;
pub use results::{Failure, Test, Verdict, list};

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use weft_provision::go::Kit;

use crate::cluster::{Binaries, Kubectl, tail};
use crate::error::{Error, Result};
use module::MODULE;
use results::Reader;

/// The modules of `tests/kube` that it takes beside those of a cluster.
const PROGRAM: &str = "gateway-api/conformance";
/// Where the suite's version stands.
const DEFINITION: &str = "tests/kube/gateway-api/go.mod";
/// The profiles that Weft keeps to.
const PROFILES: &str = "MESH-HTTP,MESH-GRPC";
/// What Weft declares: every extended feature of a mesh, and what further tests of
/// meshes build on (`pkg/features` of the Gateway API).
const FEATURES: [&str; 14] = [
    "MeshClusterIPMatching",
    "MeshConsumerRoute",
    "MeshHTTPRouteBackendRequestHeaderModification",
    "MeshHTTPRouteNamedRouteRule",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteParentRefPort",
    "HTTPRouteResponseHeaderModification",
];
/// The suite's tests of meshes: all have to run, or one was skipped unnoticed.
const TESTS: [&str; 22] = [
    "MeshBasic",
    "MeshConsumerRoute",
    "MeshFrontend",
    "MeshFrontendHostname",
    "MeshGRPCRouteWeight",
    "MeshHTTPRoute303Redirect",
    "MeshHTTPRoute307Redirect",
    "MeshHTTPRoute308Redirect",
    "MeshHTTPRouteBackendRequestHeaderModifier",
    "MeshHTTPRouteMatching",
    "MeshHTTPRouteNamedRule",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteRedirectHostAndStatus",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRequestHeaderModifier",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
    "MeshHTTPRouteSimpleSameNamespace",
    "MeshHTTPRouteWeight",
    "MeshPorts",
    "MeshTrafficSplit",
];
/// Those that prove nothing: Services without a mesh pass them too. The last two ask until
/// three answers in a row come from the pod they want, one of two: it takes luck, and
/// patience that some runs have.
const PASSED_BY_SERVICES: [&str; 5] = [
    "MeshBasic",
    "MeshHTTPRouteSimpleSameNamespace",
    "MeshTrafficSplit",
    "MeshHTTPRouteMatching",
    "MeshHTTPRouteNamedRule",
];

/// One run of the suite.
#[derive(Clone, Copy, Debug)]
pub struct Suite<'a> {
    /// The programs, with [`add_programs`].
    pub binaries: &'a Binaries,
    /// Of a member of `system:masters`.
    pub kubeconfig: &'a Path,
    /// Whether its pods shall be in the mesh. Else it is the control, which shows what
    /// there is to be proven.
    pub in_mesh: bool,
    /// Only tests with this in their name.
    pub filter: Option<&'a str>,
    /// Leave its applications running.
    pub keep: bool,
    /// Where its report and its log go.
    pub directory: &'a Path,
}

/// Adds the suite and its application to the programs of a cluster.
///
/// # Errors
/// When they don't build.
pub fn add_programs(binaries: &mut Binaries, workspace: &Path) -> Result<()> {
    binaries.add_kit(workspace, Kit::Conformance)?;
    Ok(())
}

/// The suite's version, such as `v1.6.3`.
///
/// # Errors
/// When its go.mod can't be read.
pub fn version(workspace: &Path) -> Result<String> {
    let path = workspace.join(DEFINITION);
    let text = std::fs::read_to_string(&path)
        .map_err(Error::system(format!("read {}", path.display())))?;
    let mut words = text.split_whitespace().skip_while(|word| *word != MODULE);
    let version = words.nth(1).map(str::to_owned);
    version.ok_or_else(|| Error::Unreadable(format!("{DEFINITION} doesn't require {MODULE}")))
}

/// Installs the API that the suite is about: the experimental channel, whose routes have
/// all that the standard one has.
///
/// # Errors
/// When the module can't be had or the API server refuses it.
pub fn install_api(kubectl: &Kubectl, workspace: &Path) -> Result<()> {
    let crds = Binaries::gateway_api_crds(workspace)?.join("experimental");
    let crds = crds.display().to_string();
    kubectl.run(&["apply", "--server-side", "-k", &crds])?;
    let established = "--for=condition=Established";
    let line = ["wait", established, "crd", "--all", "--timeout=60s"];
    kubectl.run(&line).map(drop)
}

impl Suite<'_> {
    /// Runs it to its end; `ended` is told of every test when it is over. It doesn't fail
    /// when tests do: see [`Suite::shortcomings`].
    ///
    /// # Errors
    /// When it can't be started, or ends before the first test.
    pub fn run(&self, mut ended: impl FnMut(&Test)) -> Result<Vec<Test>> {
        let path = self.log();
        let log = File::create(&path).map_err(Error::system(format!("create {}", path.display())));
        let mut log = log?;
        let errors = log
            .try_clone()
            .map_err(Error::system("open the log again"))?;
        let mut suite = Command::new(self.binaries.path(PROGRAM)?)
            .args(self.arguments())
            .env("KUBECONFIG", self.kubeconfig)
            .current_dir(self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(Error::system("start the conformance suite"))?;
        let mut reader = Reader::default();
        let mut tests = Vec::new();
        if let Some(output) = suite.stdout.take() {
            for line in BufReader::new(output).split(b'\n') {
                let line = line.map_err(Error::system("read the suite's output"))?;
                let written = log.write_all(&line).and_then(|()| log.write_all(b"\n"));
                written.map_err(Error::system(format!("write {}", path.display())))?;
                if let Some(test) = reader.read(&String::from_utf8_lossy(&line)) {
                    ended(&test);
                    tests.push(test);
                }
            }
        }
        let status = suite.wait().map_err(Error::system("wait for the suite"))?;
        if tests.is_empty() {
            return Err(Error::Program {
                command: PROGRAM.to_owned(),
                status: status.to_string(),
                output: tail(&std::fs::read_to_string(&path).unwrap_or_default()),
            });
        }
        Ok(tests)
    }

    /// All that it wrote.
    pub fn log(&self) -> PathBuf {
        self.directory.join("suite.log")
    }

    /// Its report, in the format that the Gateway API's site collects.
    pub fn report(&self) -> PathBuf {
        self.directory.join("report.yaml")
    }

    /// What speaks against these results; nothing when all is well. In the mesh every
    /// test has to be there and to pass. Without it, those have to fail that say
    /// something about a mesh.
    pub fn shortcomings(&self, tests: &[Test]) -> Vec<String> {
        let asked = |name: &str| self.filter.is_none_or(|filter| name.contains(filter));
        let known = TESTS.iter().filter(|name| asked(name));
        let missing = known
            .filter(|name| !tests.iter().any(|test| test.name == **name))
            .map(|name| format!("{name} was not run"));
        let wrong = tests.iter().filter_map(|test| self.shortcoming(test));
        let nothing = tests.is_empty().then(|| "no test was run".to_owned());
        missing.chain(wrong).chain(nothing).collect()
    }

    fn shortcoming(&self, test: &Test) -> Option<String> {
        let name = &test.name;
        if !TESTS.contains(&name.as_str()) {
            return Some(format!("{name} is not among the tests that are known"));
        }
        match (test.verdict, self.in_mesh) {
            (Verdict::Passed, true) | (Verdict::Failed, false) => None,
            (Verdict::Passed, false) if PASSED_BY_SERVICES.contains(&name.as_str()) => None,
            (Verdict::Passed, false) => Some(format!(
                "{name} passes without a mesh, so that it proves nothing of one"
            )),
            (Verdict::Failed, true) => Some(format!("{name} failed{}", test.reasons())),
            (Verdict::Skipped, _) => Some(format!("{name} was skipped")),
        }
    }

    fn arguments(&self) -> Vec<String> {
        let only = self.filter.map(|filter| format!("/{filter}"));
        let mut arguments = vec![
            // With marks that let each test's end be seen when it comes.
            "-test.v=test2json".to_owned(),
            "-test.timeout=60m".to_owned(),
            // Cases of a test wait side by side, not in turn, when there is nothing to see.
            "-test.parallel=16".to_owned(),
            format!("-test.run=^TestConformance${}", only.unwrap_or_default()),
            format!("-conformance-profiles={PROFILES}"),
            format!("-supported-features={}", FEATURES.join(",")),
            format!("-cleanup-base-resources={}", !self.keep),
        ];
        if self.in_mesh {
            arguments.extend([
                "-namespace-labels=weft.dev/mesh=enabled".to_owned(),
                "-organization=weft".to_owned(),
                "-project=weft".to_owned(),
                "-url=https://weft.dev".to_owned(),
                format!("-version=v{}", env!("CARGO_PKG_VERSION")),
                "-contact=@weft/maintainers".to_owned(),
                format!("-report-output={}", self.report().display()),
            ]);
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(binaries: &Binaries, in_mesh: bool, filter: Option<&'static str>) -> Vec<String> {
        let tests: Vec<_> = TESTS
            .iter()
            .map(|name| test(name, Verdict::Passed))
            .collect();
        of(binaries, in_mesh, filter).shortcomings(&tests)
    }

    fn of<'a>(binaries: &'a Binaries, in_mesh: bool, filter: Option<&'a str>) -> Suite<'a> {
        Suite {
            binaries,
            kubeconfig: Path::new("/kubeconfig"),
            in_mesh,
            filter,
            keep: false,
            directory: Path::new("/reports"),
        }
    }

    fn test(name: &str, verdict: Verdict) -> Test {
        Test {
            name: name.to_owned(),
            verdict,
            seconds: 0.0,
            failures: Vec::new(),
        }
    }

    #[test]
    fn in_the_mesh_every_test_has_to_be_run_and_to_pass() {
        let binaries = Binaries::default();
        assert_eq!(suite(&binaries, true, None), Vec::<String>::new());
        let all = of(&binaries, true, None);
        let mut tests: Vec<_> = TESTS
            .iter()
            .map(|name| test(name, Verdict::Passed))
            .collect();
        tests.retain(|test| test.name != "MeshPorts");
        tests[0].verdict = Verdict::Failed;
        tests[1].verdict = Verdict::Skipped;
        tests.push(test("MeshTomorrow", Verdict::Passed));
        assert_eq!(
            all.shortcomings(&tests),
            [
                "MeshPorts was not run",
                "MeshBasic failed",
                "MeshConsumerRoute was skipped",
                "MeshTomorrow is not among the tests that are known",
            ]
        );
    }

    #[test]
    fn without_the_mesh_a_test_of_it_has_to_fail() {
        let binaries = Binaries::default();
        let passed = suite(&binaries, false, None);
        assert_eq!(passed.len(), TESTS.len() - PASSED_BY_SERVICES.len());
        assert!(passed[0].starts_with("MeshConsumerRoute passes without a mesh"));
        let failed: Vec<_> = TESTS
            .iter()
            .map(|name| test(name, Verdict::Failed))
            .collect();
        assert!(of(&binaries, false, None).shortcomings(&failed).is_empty());
    }

    #[test]
    fn a_filter_takes_the_others_out_and_has_to_match_something() {
        let binaries = Binaries::default();
        let ports = [test("MeshPorts", Verdict::Passed)];
        assert!(
            of(&binaries, true, Some("Ports"))
                .shortcomings(&ports)
                .is_empty()
        );
        let nothing = of(&binaries, true, Some("Tomorrow")).shortcomings(&[]);
        assert_eq!(nothing, ["no test was run"]);
        let arguments = of(&binaries, true, Some("Ports")).arguments();
        assert!(arguments.contains(&"-test.run=^TestConformance$/Ports".to_owned()));
    }

    #[test]
    fn the_version_is_that_of_the_module() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert_eq!(version(workspace).unwrap(), "v1.6.3");
        let error = version(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(
            error.contains("/nowhere/tests/kube/gateway-api/go.mod"),
            "{error}"
        );
    }
}
