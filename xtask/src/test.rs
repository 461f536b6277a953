//! `cargo xtask test`: every test there is, or those that are asked for, and one line at
//! the end.

mod options;
mod select;
mod source;
mod suite;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::ExitCode;

use weft_provision::go::Kit;
use weft_provision::packages::ensure_programs;
use weft_provision::prerequisites;
use xtask::options::BuildEbpf;
use xtask::steps::Steps;
use xtask::workspace::Workspace;

use crate::build_ebpf;
use crate::go::{GoBuild, WAITING};
use crate::images::pack_development;
use crate::lab::{COMPILING, COMPILING_EBPF, NAME, become_lab_with};
pub(crate) use options::Options;
use select::Selection;
use suite::{Need, Suite};

/// Runs them and says how it went; fails when one did, or when some couldn't be run.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> ExitCode {
    let selection = match Selection::new(workspace.root(), options) {
        Ok(selection) => selection,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    if options.list {
        for name in selection.names() {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    }
    let needs: BTreeSet<Need> = selection.suites().flat_map(Suite::needs).copied().collect();
    let mut preparation = Preparation {
        workspace,
        steps: Steps::new(2 + steps_of(&needs)),
        problems: Vec::new(),
        suites: selection.suites().collect(),
    };
    preparation.run(&needs);
    let Preparation {
        mut steps,
        problems,
        suites,
        ..
    } = preparation;
    let arguments = selection.arguments(&suites);
    if let Some(hint) = selection.hint() {
        eprintln!("{hint}");
    }
    let mut command: Vec<OsString> = vec!["run-tests".into()];
    command.extend(
        problems
            .iter()
            .map(|problem| format!("--problem={problem}").into()),
    );
    command.push("--".into());
    command.extend(arguments.into_iter().map(OsString::from));
    let Err(error) = become_lab_with(&workspace.programs(), &mut steps, command);
    // Without the lab there is nobody else to say it.
    for problem in problems.iter().chain([&error.to_string()]) {
        eprintln!("{problem}");
    }
    println!("0 passed, {} failed", problems.len() + 1);
    ExitCode::FAILURE
}

/// How many steps preparing takes beside compiling the programs.
fn steps_of(needs: &BTreeSet<Need>) -> u32 {
    let has = |need: fn(&Need) -> bool| u32::from(needs.iter().any(need));
    // The machine, the eBPF programs; the programs of Go; images.
    2 * has(|need| *need == Need::Kernel)
        + has(|need| matches!(need, Need::Go(_)))
        + has(|need| *need == Need::Images)
}

/// What is done before tests run: whatever can't be had takes the suites that need it
/// away, and is said at the end.
struct Preparation<'a> {
    workspace: &'a Workspace,
    steps: Steps,
    problems: Vec<String>,
    suites: BTreeSet<Suite>,
}

impl Preparation<'_> {
    fn run(&mut self, needs: &BTreeSet<Need>) {
        let kits: Vec<Kit> = needs.iter().filter_map(Need::kit).collect();
        let go = (!kits.is_empty()).then(|| GoBuild::start(self.workspace, kits));
        if needs.contains(&Need::Kernel) {
            self.steps.next("looking for what the tests need");
            let ready = prerequisites::ensure();
            self.steps.next(COMPILING_EBPF);
            let built = ready.and_then(|()| {
                let built = build_ebpf::run(&BuildEbpf::default());
                built.map(drop).map_err(|error| error.to_string())
            });
            self.check(built, Need::Kernel);
        }
        if needs.contains(&Need::Redis) {
            let had = ensure_programs(&[("redis-server", "redis-server")]);
            self.check(had.map_err(|error| error.to_string()), Need::Redis);
        }
        if needs.contains(&Need::Prometheus) {
            let had = ensure_programs(&[("promtool", "prometheus")]);
            self.check(had.map_err(|error| error.to_string()), Need::Prometheus);
        }
        if needs.contains(&Need::Python) {
            let had = ensure_programs(&[("python3", "python3")]);
            self.check(had.map_err(|error| error.to_string()), Need::Python);
        }
        self.steps.next(COMPILING);
        // The lab at least: it runs the tests. With the features that the tests will be
        // compiled with, or some of this would be compiled again.
        let programs: &[&str] = match needs.contains(&Need::Programs) {
            true => &[],
            false => &[NAME],
        };
        let built = self
            .workspace
            .build_programs(programs, &suite::features(&self.suites));
        self.check(built.map_err(|error| error.to_string()), Need::Programs);
        if let Some(go) = go {
            self.steps.next(WAITING);
            let built = go.wait().map_err(|error| error.to_string());
            for kit in needs.iter().filter(|need| need.kit().is_some()) {
                // Said once; which module it was stands in it.
                if let Err(error) = &built {
                    self.leave_out(*kit);
                    if !self.problems.iter().any(|problem| problem.ends_with(error)) {
                        self.problems.push(format!("{}: {error}", kit.missed()));
                    }
                }
            }
        }
        if needs.contains(&Need::Images) {
            self.steps.next("packing the images");
            let packed = match self.suites.contains(&Suite::Kubernetes) {
                true => pack_development(self.workspace).map_err(|error| error.to_string()),
                false => Ok(()),
            };
            self.check(packed, Need::Images);
        }
    }

    fn check(&mut self, result: Result<(), String>, need: Need) {
        if let Err(error) = result {
            self.leave_out(need);
            self.problems.push(format!("{}: {error}", need.missed()));
        }
    }

    fn leave_out(&mut self, need: Need) {
        self.suites.retain(|suite| !suite.needs().contains(&need));
    }
}
