//! `cargo xtask cluster conformance`: the Gateway API's own tests of meshes, on a cluster
//! with Weft or, as a control, on one without.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use weft_tests::cluster::{Binaries, Kubectl, install_weft, load_archive_into, load_by_command};
use weft_tests::conformance::{self, Suite, Test, Verdict};

use super::error::ClusterError;
use super::lifecycle::{down, start};
use super::state::State;
use crate::images;
use xtask::options::{ClusterUp, Conformance as Options};
use xtask::workspace::Workspace;

/// The cluster that it runs on.
enum Place<'a> {
    /// Somebody else's.
    Given(&'a Options),
    /// One that a process of ours holds.
    Held(State),
}

/// Prepares a cluster, runs the suite on it, and says how it went.
///
/// # Errors
/// When that can't be done, or when the results are not what they have to be.
pub(super) fn run(workspace: &Workspace, options: &Options) -> Result<(), ClusterError> {
    let mut binaries = match options.kubeconfig {
        Some(_) => Binaries::api_server(workspace.root())?,
        None => Binaries::ensure(workspace.root())?,
    };
    conformance::add_programs(&mut binaries, workspace.root())?;
    let directory = workspace.target().join("conformance");
    fs::create_dir_all(&directory).map_err(system("create target/conformance"))?;
    let archives = archives(workspace, options, &binaries, &directory)?;
    let found = State::read(workspace)?;
    let is_ours = found.is_none() && options.kubeconfig.is_none();
    let place = match (&options.kubeconfig, found) {
        (Some(_), _) => Place::Given(options),
        (None, Some(state)) => Place::Held(state),
        (None, None) => Place::Held(start(workspace, &ClusterUp::default())?),
    };
    let ended = run_on(&place, workspace, options, &binaries, &archives, &directory);
    match is_ours && !options.keep {
        true => ended.and(down(workspace)),
        false => ended,
    }
}

/// The files of all images that the run takes.
fn archives(
    workspace: &Workspace,
    options: &Options,
    binaries: &Binaries,
    directory: &Path,
) -> Result<Vec<PathBuf>, ClusterError> {
    let mut archives = Vec::new();
    for image in conformance::images(binaries, workspace.root())? {
        let name = image.name.replace(['/', ':'], "-");
        let archive = directory.join(format!("{name}.tar"));
        fs::write(&archive, image.pack()?.bytes).map_err(system("write an image"))?;
        archives.push(archive);
    }
    if !options.without_mesh {
        // `cargo xtask` has made them.
        archives.extend(images::archives(workspace));
    }
    Ok(archives)
}

fn run_on(
    place: &Place<'_>,
    workspace: &Workspace,
    options: &Options,
    binaries: &Binaries,
    archives: &[PathBuf],
    directory: &Path,
) -> Result<(), ClusterError> {
    let kubectl = Kubectl::new(binaries.path("kubernetes/kubectl")?, &place.kubeconfig()?);
    if options.without_mesh && kubectl.run(&["get", "namespace", "weft-system"]).is_ok() {
        return Err(ClusterError::HasMesh);
    }
    for archive in archives {
        place.load(binaries, archive)?;
    }
    conformance::install_api(&kubectl, workspace.root())?;
    if !options.without_mesh {
        install_weft(&kubectl, workspace.root())?;
    }
    let suite = Suite {
        binaries,
        kubeconfig: kubectl.kubeconfig(),
        in_mesh: !options.without_mesh,
        filter: options.test.as_deref(),
        keep: options.keep,
        directory,
    };
    eprintln!(
        "running the suite; all that it says: {}",
        suite.log().display()
    );
    let begin = Instant::now();
    let tests = suite.run(print)?;
    let passed = tests.iter().filter(|test| test.verdict == Verdict::Passed);
    println!(
        "{} of {} passed, after {:.0} s",
        passed.count(),
        tests.len(),
        begin.elapsed().as_secs_f32()
    );
    if let Some(report) = &options.report {
        write(&suite, &tests, report)?;
    }
    let shortcomings = suite.shortcomings(&tests);
    if shortcomings.is_empty() {
        return Ok(());
    }
    if suite.in_mesh {
        keep_logs(&kubectl, directory)?;
    }
    Err(ClusterError::Conformance(shortcomings.join("\n")))
}

impl Place<'_> {
    fn kubeconfig(&self) -> Result<PathBuf, ClusterError> {
        let path = match self {
            Self::Given(options) => options.kubeconfig.as_deref().unwrap_or(Path::new("")),
            Self::Held(state) => &state.kubeconfig,
        };
        std::path::absolute(path).map_err(system("find the kubeconfig"))
    }

    fn load(&self, binaries: &Binaries, archive: &Path) -> Result<(), ClusterError> {
        match self {
            Self::Given(options) => {
                let command = options.load_image.as_deref();
                command.map_or(Ok(()), |command| load_by_command(command, archive))?;
            }
            Self::Held(state) => load_archive_into(&state.directory, binaries, archive)?,
        }
        Ok(())
    }
}

/// A row of the table, as soon as it is known.
fn print(test: &Test) {
    let (verdict, name) = (test.verdict.name(), &test.name);
    println!(
        "{verdict:7}  {name:42} {:6.1} s{}",
        test.seconds,
        test.reasons()
    );
}

fn write(suite: &Suite<'_>, tests: &[Test], report: &Path) -> Result<(), ClusterError> {
    let list = report.with_extension("txt");
    fs::write(&list, conformance::list(tests)).map_err(system("write the list of tests"))?;
    if suite.in_mesh {
        fs::copy(suite.report(), report).map_err(system("write the report"))?;
    }
    Ok(())
}

/// What Weft's own parts have said, for whoever looks for a reason.
fn keep_logs(kubectl: &Kubectl, directory: &Path) -> Result<(), ClusterError> {
    for part in ["weft-control-plane", "weft-node-agent"] {
        let label = format!("--selector=app.kubernetes.io/name={part}");
        let line = ["logs", "-n=weft-system", &label, "--tail=-1", "--prefix"];
        // One that can't be had is no reason to say nothing of the results.
        let log = kubectl.run(&line).unwrap_or_else(|error| error.to_string());
        let path = directory.join(format!("{part}.log"));
        fs::write(&path, log).map_err(system("write a log"))?;
        eprintln!("log of {part}: {}", path.display());
    }
    Ok(())
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> ClusterError {
    move |source| ClusterError::System { what, source }
}
