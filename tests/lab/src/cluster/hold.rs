//! The process that holds a cluster: it ends with the cluster, and the cluster with it.

use std::sync::mpsc::channel;

use weft_tests::cluster::{Binaries, Cluster, ClusterOptions};
use weft_tests::run::{remove_own, start_time};

use super::error::ClusterError;
use super::mode::mode;
use super::state::State;
use crate::interrupt;
use xtask::options::ClusterUp;
use xtask::workspace::Workspace;

/// Starts a cluster and holds it until this process is told to stop.
///
/// # Errors
/// When it doesn't start.
pub(super) fn run(workspace: &Workspace, options: &ClusterUp) -> Result<(), ClusterError> {
    let system = |what| move |source| ClusterError::System { what, source };
    // Neither Ctrl-C in the terminal of `up` nor its end are for this process.
    nix::unistd::setsid()
        .map_err(std::io::Error::from)
        .map_err(system("leave the terminal"))?;
    let (stop, stopped) = channel();
    let (up, is_up) = channel::<()>();
    let handle = move || {
        if is_up.try_recv().is_ok() {
            // The thread that holds the cluster takes it down in order.
            let _ = stop.send(());
        } else {
            remove_own();
            std::process::exit(interrupt::EXIT_CODE);
        }
    };
    interrupt::on_interrupt(handle).map_err(system("listen for signals"))?;
    let binaries = Binaries::ensure(workspace.root())?;
    let kube_proxy = mode(options.kube_proxy);
    let mut cluster = ClusterOptions::new(workspace.programs().join("weft-test-app"));
    cluster.nodes = options.nodes;
    cluster.kube_proxy = kube_proxy;
    let cluster = Cluster::up(&binaries, &cluster)?;
    let kubeconfig = State::directory(workspace).join("kubeconfig");
    std::fs::copy(cluster.kubeconfig(), &kubeconfig).map_err(system("write the kubeconfig"))?;
    let process = std::process::id();
    let state = State {
        process,
        started: start_time(process).unwrap_or_default(),
        nodes: options.nodes,
        kube_proxy: kube_proxy.name().to_owned(),
        kubeconfig,
        directory: cluster.directory().to_owned(),
        kubectl: binaries.path("kubernetes/kubectl")?.to_owned(),
    };
    // From here on the order counts: first the signal's handler knows, then others.
    let _ = up.send(());
    state.write(workspace)?;
    // Ends also when the handler is gone, which it isn't.
    let _ = stopped.recv();
    drop(cluster);
    State::remove(workspace)?;
    Ok(())
}
