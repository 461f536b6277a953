//! Wires everything together and runs it until it is told to stop.

use std::sync::Arc;

use weft_admin::signals;
use weft_model::workload::WorkloadUid;
use weft_proxy::control_plane::ControlPlaneOptions;
use weft_proxy::runtime::{Runtime, RuntimeError, RuntimeOptions};
use weft_proxy::{HeadLimits, Settings};

use super::args::RunArguments;
use super::drain::{DrainState, Drains, drain};
use super::error::RunError;
use super::pages::PageListeners;
use crate::pod::{KnownAddresses, POD, ServedPod};

/// Serves the pod until a signal, or somebody in the pod, says to stop.
pub(super) async fn serve(
    arguments: RunArguments,
    addresses: KnownAddresses,
    default_buffer_bytes: usize,
) -> Result<(), RunError> {
    let mut stop = signals::stop().map_err(RunError::Signals)?;
    let listeners = PageListeners::open(&arguments).await?;
    let uid = pod_uid(&arguments);
    let runtime = runtime(&arguments, &uid, default_buffer_bytes)?;
    let drains = Arc::new(Drains::default());
    runtime
        .readiness
        .unmet(POD, "the control plane has not told of the pod yet");
    listeners
        .serve(&runtime, &uid, &drains)
        .map_err(RunError::Threads)?;
    runtime.follow_control_plane();
    let pod = tokio::select! {
        pod = ServedPod::start(&runtime, &uid, &addresses, arguments.capture.into()) => pod,
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    let exits = tokio::select! {
        exits = drains.told() => exits,
        _ = stop.wait_for(|stop| *stop) => true,
    };
    runtime.readiness.unmet(POD, "the sidecar is stopping");
    tracing::info!("draining");
    let (proxy, _identity) = pod.into_parts();
    drain(proxy, arguments.proxy_uid, arguments.drain_deadline).await;
    drains.want(DrainState::Drained);
    if !exits {
        // An error is the end of the task that catches signals.
        let _ = stop.wait_for(|stop| *stop).await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// Without Kubernetes a pod's UID is its namespace and name.
fn pod_uid(arguments: &RunArguments) -> WorkloadUid {
    let given = arguments.pod_uid.as_deref().filter(|uid| !uid.is_empty());
    match given {
        Some(uid) => uid.into(),
        None => {
            let (namespace, name) = (&arguments.pod_namespace, &arguments.pod_name);
            format!("{namespace}/{name}").as_str().into()
        }
    }
}

/// The proxy, with no pod yet.
fn runtime(
    arguments: &RunArguments,
    pod: &WorkloadUid,
    default_buffer_bytes: usize,
) -> Result<Runtime, RuntimeError> {
    let open_files = weft_admin::raise_open_files();
    if let Err(error) = &open_files {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let buffer_bytes = arguments.buffer_bytes.unwrap_or(default_buffer_bytes);
    let runtime = Runtime::new(RuntimeOptions {
        node: arguments.node.clone(),
        pod: Some(pod.clone()),
        control_plane: ControlPlaneOptions {
            address: arguments.control_plane.clone(),
            server_name: arguments.control_plane_name.clone(),
            root_certificates: arguments.root_certificates.clone(),
            token_file: arguments.token_file.clone(),
        },
        workers: Some(arguments.workers.get()),
        settings: Settings {
            heads: HeadLimits {
                time: arguments.http_head_time.0,
                ..HeadLimits::default()
            },
            series_per_pod: arguments.metrics_series_per_pod as usize,
            connections_per_pod: arguments.connections_per_pod,
            open_files: open_files.ok(),
            buffer_bytes,
            ..Settings::default()
        },
    })?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        pod = arguments.pod_name,
        namespace = arguments.pod_namespace,
        node = arguments.node,
        control_plane = arguments.control_plane,
        buffer_bytes,
        "starting",
    );
    Ok(runtime)
}
