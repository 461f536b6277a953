//! `cargo xtask demo`: a mesh on this machine, real requests, and what happened to
//! each of them as the agents' records and a packet capture tell it.

mod addresses;
mod call;
mod error;
mod playground;
mod row;
mod table;

use std::io;

use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{Mesh, MeshBuilder};
use weft_tests::packets::Capture;
use weft_tests::run::remove_own;
use xtask::options;
use xtask::steps::Steps;
use xtask::workspace::Workspace;

use crate::interrupt;
use addresses::{ECHO_SERVICE, HTTP_PORT, TCP_PORT, WEB_SERVICE};
use call::Call;
pub(crate) use error::DemoError;
use row::Row;

/// Shows it.
///
/// # Errors
/// When the mesh can't be started, or a call is not as it should be.
pub(crate) fn run(workspace: &Workspace, options: &options::Demo) -> Result<(), DemoError> {
    let mut steps = Steps::go_on(2);
    // From here on there is something to clean up.
    let stop = || {
        eprintln!("stopping, and removing everything");
        remove_own();
        std::process::exit(interrupt::EXIT_CODE);
    };
    let system = |what| move |source| DemoError::System { what, source };
    interrupt::on_interrupt(stop).map_err(system("can't listen for Ctrl-C"))?;
    steps.next("starting two nodes, five pods, a control plane and an agent on each node");
    let mut mesh = start_mesh(workspace)?;
    steps.next("making requests, with a packet capture between the nodes");
    let rows = make_calls(&mut mesh)?;
    steps.end();
    let unexpected = rows
        .iter()
        .filter(|(_, problems)| !problems.is_empty())
        .count();
    show(&rows, options).map_err(system("can't write the result"))?;
    if options.keep {
        let playground = playground::write(&mesh, workspace)?;
        eprintln!("{playground}");
        loop {
            std::thread::park();
        }
    }
    if unexpected == 0 {
        Ok(())
    } else {
        Err(DemoError::Unexpected(unexpected))
    }
}

fn start_mesh(workspace: &Workspace) -> Result<Mesh, weft_tests::Error> {
    let mut mesh = MeshBuilder::new(2)
        .binaries(workspace.programs())
        .pod(PodSpec::new("client", 1))
        .pod(
            PodSpec::new("web-v1", 1)
                .label("app", "web")
                .label("version", "v1"),
        )
        .pod(
            PodSpec::new("web-v2", 2)
                .label("app", "web")
                .label("version", "v2"),
        )
        .pod(PodSpec::new("echo", 2))
        .pod(PodSpec::new("outside", 2).outside())
        .service("web", &[WEB_SERVICE], "web", &[(80, HTTP_PORT)])
        .service("echo", &[ECHO_SERVICE], "echo", &[(7, TCP_PORT)])
        .start()?;
    let http = format!("--listen=[::]:{HTTP_PORT}");
    for pod in ["web-v1", "web-v2", "outside"] {
        mesh.serve(pod, &["http", &http, &format!("--name={pod}")])?;
    }
    mesh.serve("echo", &["echo", &format!("--listen=[::]:{TCP_PORT}")])?;
    Ok(mesh)
}

/// The calls, with what is wrong with each.
fn make_calls(mesh: &mut Mesh) -> Result<Vec<(Row, Vec<String>)>, weft_tests::Error> {
    let capture = Capture::start(mesh.topology(), mesh.directory())?;
    let made: Result<Vec<_>, _> = Call::all(mesh)?
        .into_iter()
        .map(|call| call.make(mesh))
        .collect();
    let made = made?;
    let packets = capture.finish(mesh.topology())?;
    made.iter()
        .map(|made| {
            let row = Row::of(made, mesh, &packets)?;
            let problems = row.problems(made, &packets);
            Ok((row, problems))
        })
        .collect()
}

fn show(rows: &[(Row, Vec<String>)], options: &options::Demo) -> io::Result<()> {
    for (row, problems) in rows {
        for problem in problems {
            eprintln!("{} -> {}: {problem}", row.from, row.to);
        }
    }
    if options.json {
        let rows: Vec<_> = rows.iter().map(|(row, _)| row).collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        let rows: Vec<_> = rows.iter().map(|(row, _)| row).collect();
        println!("{}", table::draw(&rows));
    }
    Ok(())
}
