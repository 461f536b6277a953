//! The program: its command line, and what it starts in which order.
//!
//! * `args`: the command line
//! * `process`: the network namespace and the user that it runs in and as
//! * `pages`: health, metrics, and what the operator asks for
//! * `serve` wires everything together
//! * `drain`: how it ends

mod args;
mod drain;
mod error;
mod pages;
mod process;
mod serve;

use weft_admin::{log, memory};
use weft_model::AddressBlock;
use weft_model::ports::OUTBOUND_PORT;

pub use self::args::Arguments;
pub use self::error::RunError;

use self::args::{Command, InitArguments, LogFormat, RunArguments};
use crate::ask;
use crate::pod::{self, KnownAddresses};
use crate::redirect::{self, Capture, RedirectOptions};

/// Does what the command line asks for.
///
/// # Errors
/// When something that it can't do without fails.
pub fn run(arguments: Arguments) -> Result<(), RunError> {
    let format = match &arguments.command {
        Command::Run(run) => run.log_format,
        _ => LogFormat::Text,
    };
    let _log = log::start(format.into(), log::DEFAULT_FILTER)?;
    match arguments.command {
        Command::Init(arguments) => init(&arguments),
        Command::Cleanup(arguments) => {
            process::enter(arguments.netns.as_deref())?;
            redirect::clean_up()?;
            tracing::info!("connections are redirected no more");
            Ok(())
        }
        Command::Run(arguments) => run_proxy(*arguments),
        Command::Wait(arguments) => Ok(ask::wait_until_ready(arguments.probes, arguments.timeout)?),
        Command::Drain(arguments) => Ok(ask::drain(arguments.admin, arguments.timeout)?),
    }
}

fn init(arguments: &InitArguments) -> Result<(), RunError> {
    process::enter(arguments.netns.as_deref())?;
    let options = RedirectOptions {
        capture: arguments.capture.into(),
        proxy_uid: arguments.proxy_uid,
        page_ports: arguments.pages.clone(),
        excluded_inbound_ports: arguments.exclude_inbound_ports.clone(),
        excluded_inbound_blocks: arguments.exclude_inbound_cidrs.clone(),
        excluded_outbound_ports: arguments.exclude_outbound_ports.clone(),
        excluded_outbound_blocks: arguments.exclude_outbound_cidrs.clone(),
    };
    redirect::set_up(&options)?;
    let texts = |blocks: &[AddressBlock]| -> Vec<_> {
        let blocks = blocks.iter();
        blocks.map(ToString::to_string).collect()
    };
    tracing::info!(
        capture = ?options.capture,
        proxy_uid = options.proxy_uid,
        page_ports = ?options.page_ports,
        excluded_inbound_ports = ?options.excluded_inbound_ports,
        excluded_inbound_blocks = ?texts(&options.excluded_inbound_blocks),
        excluded_outbound_ports = ?options.excluded_outbound_ports,
        excluded_outbound_blocks = ?texts(&options.excluded_outbound_blocks),
        outbound_port = OUTBOUND_PORT,
        "connections are redirected to the proxy",
    );
    Ok(())
}

/// Runs the proxy on this thread, which also carries all control traffic; connections have
/// workers of their own.
fn run_proxy(arguments: RunArguments) -> Result<(), RunError> {
    let default_buffer_bytes = memory::default_buffer_bytes();
    // Before there are other threads, which would stay where they are.
    process::enter(arguments.netns.as_deref())?;
    let capture = arguments.capture.into();
    process::become_user(arguments.proxy_uid, capture, &arguments.token_file)?;
    if capture == Capture::Tproxy {
        pod::try_transparent().map_err(RunError::Tproxy)?;
    }
    let of_pod = match arguments.pod_ips.is_empty() {
        false => arguments.pod_ips.clone(),
        true => pod::own_addresses().map_err(RunError::Addresses)?,
    };
    let addresses = KnownAddresses {
        pod: of_pod,
        node: arguments.host_ips.clone(),
    };
    let control = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Threads)?;
    control.block_on(serve::serve(arguments, addresses, default_buffer_bytes))
}
