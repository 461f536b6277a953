//! An API server, which also keeps what must outlive this process.

use std::sync::Arc;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::{oneshot, watch};

use super::error::RunError;
use super::lease::{Lease, while_held};
use super::parts::Parts;
use crate::args::{ClusterArgs, PlaceArgs};
use crate::ca::{Authority, Place};
use crate::captures::{Captures, PodStatusStore, gates};
use crate::cluster::{Cluster, ObjectStatuses};
use crate::notices::Notices;
use crate::serve::authentication::{Authenticator, TokenReviewer, TokenReviewerOptions};
use crate::source::kubernetes::{Kubernetes, Problems};
use crate::status::StatusController;
use crate::webhook::Registration;

/// Time limit of the API server's answer to anything but a watch.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Connects, and follows what becomes of everything.
pub(super) async fn start(
    args: &ClusterArgs,
    leaf_lifetime: time::Duration,
    stopping: watch::Receiver<bool>,
) -> Result<Parts, RunError> {
    let client = connect(&args.place).await?;
    let namespace = &args.place.namespace;
    let authority = Authority::of_cluster(&client, place(&args.place), leaf_lifetime).await?;
    let notices = Notices::publish(client.clone());
    let statuses = Arc::<ObjectStatuses>::default();
    let cluster = Cluster::of_api_server(namespace, Arc::clone(&statuses));
    let cluster = Arc::new(cluster.with_notices(notices.clone()));
    let store = PodStatusStore::start(client.clone(), Arc::clone(&cluster), notices.clone());
    let problems = Problems::new(notices);
    let (loaded, is_loaded) = oneshot::channel();
    let source = Kubernetes::watch(&client, &problems);
    tokio::spawn(follow(source, Arc::clone(&cluster), loaded));
    let held = watch::Sender::new(false);
    let name = args.webhook_configuration.clone();
    let registration = Registration::new(client.clone(), name, Arc::clone(&authority));
    let webhook_held = held.subscribe();
    tokio::spawn(async move { while_held(webhook_held, || registration.keep()).await });
    tokio::spawn(write_statuses(
        client.clone(),
        Arc::clone(&cluster),
        statuses,
        held.subscribe(),
    ));
    let (gates_held, gated) = (held.subscribe(), Arc::clone(&cluster));
    let gates_client = client.clone();
    tokio::spawn(async move {
        while_held(gates_held, || gates::keep(gates_client.clone(), &gated)).await;
    });
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
        captures: Captures::new(store, Arc::clone(&cluster)),
        cluster,
        source_errors: Arc::new(move || problems.list()),
        authority,
        authenticator: Authenticator::Kubernetes(Arc::new(reviewer)),
        loaded: tokio::spawn(async {
            // The other end lives as long as the process.
            let _ = is_loaded.await;
        }),
        resigned,
    })
}

/// Writes statuses while the lease is held. Each time anew: what was known of objects
/// before is outdated.
async fn write_statuses(
    client: Client,
    cluster: Arc<Cluster>,
    statuses: Arc<ObjectStatuses>,
    held: watch::Receiver<bool>,
) {
    let write = || async {
        let queue = Arc::clone(&statuses);
        StatusController::new(client.clone(), &cluster, queue)
            .run()
            .await;
    };
    while_held(held, write).await;
}

/// The names of the objects in which the authority is kept.
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
async fn follow(mut source: Kubernetes, cluster: Arc<Cluster>, loaded: oneshot::Sender<()>) {
    let mut first = Vec::new();
    while !source.unlisted().is_empty() {
        match source.next().await {
            Some(events) => first.extend(events),
            None => return,
        }
    }
    tracing::info!("every kind is listed");
    cluster.apply_events(first);
    let _ = loaded.send(());
    while let Some(events) = source.next().await {
        cluster.apply_events(events);
    }
}
