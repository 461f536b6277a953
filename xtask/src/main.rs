//! The project's own commands: `cargo xtask help`.
//!
//! This program is small, so that it is there in seconds. It looks after what the machine
//! lacks, builds, and leaves what needs the test bed to `weft-lab` (`tests/lab`).

// A command-line tool: what it says is its work.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod build_ebpf;
mod cluster;
mod codegen;
mod demo;
mod error;
mod go;
mod images;
mod lab;
mod test;

use std::fmt::Display;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::options;
use xtask::workspace::Workspace;

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the mesh at work: two nodes and five pods on this machine, real requests,
    /// a table of what happened. Needs root.
    Demo(options::Demo),
    /// Runs tests, all or some; closes with `N passed, N failed`. Kernel and end-to-end
    /// tests need root.
    Test(test::Options),
    /// Measures Weft beside a direct connection and an Envoy pair, and prints ratios.
    /// Needs root.
    Bench(options::Bench),
    /// Runs a real Kubernetes on this machine: nodes as namespaces, nothing else needed
    /// but Go to build it once. Needs root.
    #[command(subcommand)]
    Cluster(options::Cluster),
    /// Builds the eBPF programs that the node agent embeds.
    BuildEbpf(options::BuildEbpf),
    /// Packs the programs as container images, files that `docker load` and `ctr images
    /// import` read. Needs no container engine.
    Images(options::Images),
    /// Generates what is checked in: Rust code from the protobuf schema, and deploy/crds
    /// from the control plane's types.
    Codegen,
}

fn main() -> ExitCode {
    let workspace = Workspace::find();
    match Arguments::parse().command {
        Command::Demo(_) => done(demo::run(&workspace)),
        Command::Test(options) => test::run(&workspace, &options),
        Command::Bench(options) => done(bench::run(&workspace, &options)),
        Command::Cluster(action) => done(cluster::run(&workspace, &action)),
        Command::BuildEbpf(options) => done(build_ebpf::run(&options).map(drop)),
        Command::Images(options) => done(images::run(&workspace, &options)),
        Command::Codegen => done(codegen::run(&workspace)),
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
