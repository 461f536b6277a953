//! The commands of `cargo xtask` that need the test bed. `xtask` builds what they use,
//! this program with it, and then becomes this program: it isn't meant to be called by
//! hand.

// A command-line tool: what it says is its work.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod cluster;
mod demo;
mod images;
mod interrupt;
mod run_tests;

use std::fmt::Display;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::options;
use xtask::workspace::Workspace;

/// What needs the test bed; called by `cargo xtask`.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the mesh at work.
    Demo(options::Demo),
    /// Measures the data path.
    Bench(options::Bench),
    /// Runs a real Kubernetes.
    #[command(subcommand)]
    Cluster(options::Cluster),
    /// Packs programs as container images.
    Images(images::Options),
    /// Runs tests, counts them, and removes what they left.
    RunTests(run_tests::Options),
}

fn main() -> ExitCode {
    let workspace = Workspace::find();
    match Arguments::parse().command {
        Command::Demo(options) => done(demo::run(&workspace, &options)),
        Command::Bench(options) => done(bench::run(&workspace, &options)),
        Command::Cluster(action) => done(cluster::run(&workspace, &action)),
        Command::Images(options) => done(images::run(&options)),
        Command::RunTests(options) => run_tests::run(&workspace, &options),
    }
}

fn done<E: Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
