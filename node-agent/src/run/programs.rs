//! Loading the kernel programs, when it is this agent's turn.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::args::{RunArguments, UnknownPodsArgument};
use super::error::RunError;
use crate::redirect::{PinsError, Redirect, RedirectError, RedirectOptions, UnknownPods};

/// The interval at which a successor looks whether its predecessor has handed over, or ended.
const STAND_BY: Duration = Duration::from_millis(50);

/// The interval at which kubelet is looked for, once it has restarted: shorter than that of
/// any probe.
const KUBELET: Duration = Duration::from_secs(1);

/// Loads the programs as soon as no other agent serves this node: a successor waits for
/// its predecessor's end, or until that hands over, and then takes over within moments.
///
/// # Errors
/// When another agent serves this node, and this one couldn't: the other serves on.
pub(super) async fn load_when_free(
    arguments: &RunArguments,
) -> Result<Result<Redirect, RedirectError>, RunError> {
    let options = options(arguments);
    let mut is_announced = false;
    loop {
        match load(&options) {
            Err(RedirectError::Pins(PinsError::InUse(directory))) => {
                if !std::mem::replace(&mut is_announced, true) {
                    Redirect::try_out(&options).map_err(RunError::Successor)?;
                    tracing::info!(directory = %directory.display(), "another agent serves this node; standing by until it hands over");
                }
                tokio::time::sleep(STAND_BY).await;
            }
            loaded => return Ok(loaded),
        }
    }
}

fn options(arguments: &RunArguments) -> RedirectOptions {
    RedirectOptions {
        cgroup: arguments.cgroup.clone(),
        pods_cgroup: arguments.pods_cgroup.clone(),
        kubelet_cgroup: arguments.kubelet_cgroup.clone(),
        unknown_pods: match arguments.unknown_pods {
            UnknownPodsArgument::Allow => UnknownPods::Allow,
            UnknownPodsArgument::Refuse => UnknownPods::Refuse,
        },
        pin_directory: arguments.pin_directory.clone(),
        map_sizes: Vec::new(),
        // One line for each connection, when WEFT_LOG asks for it.
        log: tracing::enabled!(target: "weft_ebpf", tracing::Level::DEBUG),
    }
}

fn load(options: &RedirectOptions) -> Result<Redirect, RedirectError> {
    let redirect = Redirect::load(options)?;
    if options.log {
        tokio::spawn(redirect.read_log()?);
    }
    tracing::info!(capabilities = %redirect.capabilities(), "eBPF programs loaded and attached");
    Ok(redirect)
}

/// Keeps the kernel's idea true of where applications listen, for as long as the agent runs.
pub(super) async fn follow_listening(events: impl Future<Output = io::Result<()>>) {
    if let Err(error) = events.await {
        tracing::error!(%error, "can't hear of applications that listen no more; connections to their ports are taken and then reset; restart the agent if it goes on");
    }
}

/// Keeps the kernel's idea of kubelet true, until `end`: when this has ended, nothing is written.
pub(super) async fn follow_kubelet(redirect: Arc<Redirect>, end: CancellationToken) {
    let next = || end.run_until_cancelled(tokio::time::sleep(KUBELET));
    while next().await.is_some() {
        let redirect = Arc::clone(&redirect);
        // It reads `/proc`.
        let looked = tokio::task::spawn_blocking(move || redirect.look_for_kubelet()).await;
        match looked {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "kubelet's probes of strict pods may be refused")
            }
            Err(_) => return,
        }
    }
}
