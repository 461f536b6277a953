//! An API server, which also keeps what must outlive this process.

use std::sync::Arc;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::{oneshot, watch};

use super::{Parts, RunError};
use crate::args::{ClusterArgs, PlaceArgs};
use crate::ca::{Authority, Place};
use crate::serve::authentication::{Authenticator, TokenReviewer, TokenReviewerOptions};
use crate::source::kubernetes::{Kubernetes, Problems};
use crate::state::State;
use crate::status::{
    CaptureWriter, Lease, Notices, keep_external_service_status, keep_mesh_config_status,
    keep_route_status, keep_traffic_policy_status, while_held,
};
use crate::webhook::Registration;

/// How long the API server may take for an answer to anything but a watch.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Connects, and follows what becomes of everything.
pub(super) async fn start(
    args: &ClusterArgs,
    leaf_lifetime: time::Duration,
    stopping: watch::Receiver<bool>,
) -> Result<Parts, RunError> {
    let client = connect(&args.place).await?;
    let namespace = &args.place.namespace;
    let place = place(&args.place);
    let authority = Authority::of_cluster(&client, place, leaf_lifetime).await?;
    let notices = Notices::publish(client.clone());
    let writer = CaptureWriter::start(client.clone(), notices.clone());
    let problems = Problems::new(notices);
    let state = Arc::new(State::of_cluster(namespace, writer, problems.clone()));
    let (loaded, is_loaded) = oneshot::channel();
    let source = Kubernetes::watch(&client, &problems);
    tokio::spawn(follow(source, Arc::clone(&state), loaded));
    let held = watch::Sender::new(false);
    let (client_of_status, status_held) = (client.clone(), held.subscribe());
    tokio::spawn(while_held(status_held, move || {
        keep_mesh_config_status(client_of_status.clone())
    }));
    let (client_of_externals, externals_held) = (client.clone(), held.subscribe());
    tokio::spawn(while_held(externals_held, move || {
        keep_external_service_status(client_of_externals.clone())
    }));
    let (client_of_routes, routes_held) = (client.clone(), held.subscribe());
    let state_of_routes = Arc::clone(&state);
    tokio::spawn(while_held(routes_held, move || {
        keep_route_status(client_of_routes.clone(), Arc::clone(&state_of_routes))
    }));
    let (client_of_policies, policies_held) = (client.clone(), held.subscribe());
    let verdicts = state.policy_verdicts();
    tokio::spawn(while_held(policies_held, move || {
        keep_traffic_policy_status(client_of_policies.clone(), verdicts.clone())
    }));
    let name = args.webhook_configuration.clone();
    let registration = Registration::new(client.clone(), name, Arc::clone(&authority));
    let registration_held = held.subscribe();
    tokio::spawn(async move { while_held(registration_held, || registration.keep()).await });
    let lease = Lease::new(client.clone(), namespace, &args.lease, &args.replica);
    let resigned = tokio::spawn(lease.claim(held, stopping));
    let reviewer = TokenReviewer::new(
        client,
        TokenReviewerOptions {
            audience: args.token_audience.clone(),
            service_account: format!("{namespace}/{}", args.agent_service_account),
        },
    );
    Ok(Parts {
        state,
        authority,
        authenticator: Authenticator::Kubernetes(Arc::new(reviewer)),
        loaded: tokio::spawn(async {
            // The other end lives as long as the process.
            let _ = is_loaded.await;
        }),
        resigned,
    })
}

/// What the authority is called.
pub(super) fn place(args: &PlaceArgs) -> Place {
    Place {
        namespace: args.namespace.clone(),
        secret: args.root_secret.clone(),
        config_map: args.root_config_map.clone(),
    }
}

/// A client of the API server.
pub(super) async fn connect(args: &PlaceArgs) -> Result<Client, RunError> {
    let failed = |error: &dyn std::fmt::Display| RunError::Cluster(error.to_string());
    let mut config = match &args.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|error| failed(&error))?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(file, &options)
                .await
                .map_err(|error| failed(&error))?
        }
        None => Config::infer().await.map_err(|error| failed(&error))?,
    };
    config.read_timeout = Some(Duration::from_secs(300));
    config.connect_timeout = Some(TIMEOUT);
    Client::try_from(config).map_err(|error| failed(&error))
}

/// Takes in everything at once that has come meanwhile; agents hear of nothing before
/// each kind was listed once.
async fn follow(mut source: Kubernetes, state: Arc<State>, loaded: oneshot::Sender<()>) {
    let mut first = Vec::new();
    while !source.unlisted().is_empty() {
        match source.next().await {
            Some(events) => first.extend(events),
            None => return,
        }
    }
    tracing::info!("every kind is listed");
    state.take_in(first);
    let _ = loaded.send(());
    while let Some(events) = source.next().await {
        state.take_in(events);
    }
}
