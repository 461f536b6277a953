//! Weft's control plane: manifests in; configuration and certificates out.
//!
//! From objects to agents:
//! * `kinds`: the kinds of objects, and what there is to know about each
//! * `source`: where objects come from
//! * `index`: from objects to the mesh's resources
//! * `cluster`: both behind locks: events in, revisions out
//! * `publish`: resources as they go over the wire, and how far each stream has come
//! * `serve`: what agents connect to
//! * `agents`: their streams; `captures`: what they report
//!
//! From what follows to objects:
//! * `status`: what is written into objects; `notices`: Events on them
//! * `webhook`: what the API server asks; `inject`: sidecars, put into pods
//!
//! Beside both:
//! * `ca`: certificates and join tokens
//! * `key_sets`: keys of issuers of tokens, fetched
//! * `rate_limit`: what agents ask before they let a request pass
//! * `admin`: what an operator asks
//! * `args`, `run`: the process
//! * `file_changes`, `yaml`, `field_manager`: what several of these use

mod admin;
mod agents;
mod args;
mod ca;
mod captures;
mod cluster;
mod field_manager;
mod file_changes;
mod index;
mod inject;
mod key_sets;
mod kinds;
mod notices;
mod publish;
mod rate_limit;
mod run;
mod serve;
mod source;
mod status;
mod webhook;
mod yaml;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use weft_admin::log;

use args::{Action, Command, Serve};

pub use ca::{InvalidRequest, InvalidRevocations, check_request, check_revocation_lists};
pub use rate_limit::check_limits;
pub use source::manifest::{ManifestError, check as check_manifest};
pub use webhook::check_review;

/// The filter of the log when WEFT_LOG says nothing.
const LOG_FILTER: &str = "info,kube_client=error";

/// The program `weft-control-plane`.
pub async fn main() -> ExitCode {
    let output = match Command::parse().action {
        Action::Serve(args) => serve(*args).await.map(|()| None),
        Action::Token(args) => run::token(&args)
            .map(Some)
            .map_err(|error| error.to_string()),
        Action::RotateRoot(args) => run::rotate_root(&args)
            .await
            .map(Some)
            .map_err(|error| error.to_string()),
        Action::Inject(args) => run::inject(&args)
            .map(Some)
            .map_err(|error| error.to_string()),
        Action::Crds => kinds::definitions()
            .map(Some)
            .map_err(|error| error.to_string()),
    };
    let result = output.and_then(|text| text.map_or(Ok(()), |text| print(&text)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Serve) -> Result<(), String> {
    let _log = log::start(args.log_format.into(), LOG_FILTER).map_err(|error| error.to_string())?;
    run::serve(args).await.map_err(|error| error.to_string())
}

/// Writes what was asked for. Whoever reads no more of it, as `head`, has what they wanted.
fn print(text: &str) -> Result<(), String> {
    let mut output = io::stdout().lock();
    let written = writeln!(output, "{}", text.trim_end()).and_then(|()| output.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("can't write to the standard output: {error}"))
        }
        _ => Ok(()),
    }
}

#[allow(
    clippy::print_stderr,
    reason = "the last words of the process, log or not"
)]
fn complain(error: &str) {
    eprintln!("weft-control-plane: {error}");
}
