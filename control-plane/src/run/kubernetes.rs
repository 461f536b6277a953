//! An API server, which also keeps what must outlive this process.

use std::sync::Arc;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::{oneshot, watch};

use super::error::RunError;
use super::lease::{Lease, while_held};
use super::parts::Parts;
use crate::args::{ClusterArgs, PlaceArgs, Serve};
use crate::ca::{Authority, Place};
use crate::captures::{Captures, PodStatusStore, gates};
use crate::cluster::{Cluster, ObjectStatuses};
use crate::inject::{InjectedShape, KnownSidecars, SidecarRoots};
use crate::notices::Notices;
use crate::serve::authentication::{Authenticator, TokenReviewer, TokenReviewerOptions};
use crate::source::kubernetes::{Kubernetes, Problems};
use crate::status::StatusController;
use crate::webhook::Registration;

/// Time limit of the API server's answer to anything but a watch.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Connects, and follows what becomes of everything.
pub(super) async fn start(
    serve: &Serve,
    leaf_lifetime: time::Duration,
    stopping: watch::Receiver<bool>,
) -> Result<Parts, RunError> {
    let args = &serve.cluster;
    let client = connect(&args.place).await?;
    let namespace = &args.place.namespace;
    let injection = serve.injection(shape(&client).await?);
    let authority = Authority::of_cluster(&client, place(&args.place), leaf_lifetime).await?;
    let notices = Notices::publish(client.clone());
    let statuses = Arc::<ObjectStatuses>::default();
    let cluster = Cluster::of_api_server(namespace, Arc::clone(&statuses));
    let known = KnownSidecars::new(&client, namespace, injection.source());
    let cluster = cluster.with_sidecars(known.synchronize().await?);
    let cluster = Arc::new(cluster.with_notices(notices.clone()));
    tokio::spawn(known.follow(Arc::clone(&cluster)));
    tokio::spawn(Arc::clone(&authority).publish_revocations(Arc::clone(&cluster)));
    let store = PodStatusStore::start(client.clone(), Arc::clone(&cluster), notices.clone());
    let problems = Problems::new(notices);
    let (loaded, is_loaded) = oneshot::channel();
    let source = Kubernetes::watch(&client, &problems);
    tokio::spawn(follow(source, Arc::clone(&cluster), loaded));
    let held = watch::Sender::new(false);
    let writer = Writer {
        client: client.clone(),
        cluster: Arc::clone(&cluster),
        authority: Arc::clone(&authority),
    };
    writer.start(args, statuses, &held);
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
        injection,
        loaded: tokio::spawn(async {
            // The other end lives as long as the process.
            let _ = is_loaded.await;
        }),
        resigned,
    })
}

/// The shape of sidecars that the API server knows.
///
/// # Errors
/// When it doesn't say its version.
async fn shape(client: &Client) -> Result<InjectedShape, RunError> {
    let version = client.apiserver_version().await;
    let version = version.map_err(|error| RunError::Cluster(error.to_string()))?;
    let minor = minor_version(&version.major, &version.minor);
    Ok(InjectedShape::of_api_server(minor))
}

/// The minor version of Kubernetes 1; of a later one the highest. Some providers write `29+`.
fn minor_version(major: &str, minor: &str) -> u32 {
    let number = |text: &str| {
        let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
        digits.parse::<u32>().unwrap_or_default()
    };
    match number(major) {
        0 | 1 => number(minor),
        _ => u32::MAX,
    }
}

/// What only one replica writes.
struct Writer {
    client: Client,
    cluster: Arc<Cluster>,
    authority: Arc<Authority>,
}

impl Writer {
    /// Writes all of it while the lease is held.
    fn start(self, args: &ClusterArgs, statuses: Arc<ObjectStatuses>, held: &watch::Sender<bool>) {
        let Self {
            client,
            cluster,
            authority,
        } = self;
        let name = args.webhook_configuration.clone();
        let registration =
            Registration::new(&client, name, Arc::clone(&authority), Arc::clone(&cluster));
        let webhook_held = held.subscribe();
        tokio::spawn(async move { while_held(webhook_held, || registration.keep()).await });
        let roots = SidecarRoots {
            client: client.clone(),
            cluster: Arc::clone(&cluster),
            authority,
            config_map: args.place.root_config_map.clone(),
            mesh_namespace: args.place.namespace.clone(),
        };
        let roots_held = held.subscribe();
        tokio::spawn(async move { while_held(roots_held, || roots.keep()).await });
        tokio::spawn(write_statuses(
            client.clone(),
            Arc::clone(&cluster),
            statuses,
            held.subscribe(),
        ));
        let gates_held = held.subscribe();
        tokio::spawn(async move {
            while_held(gates_held, || gates::keep(client.clone(), &cluster)).await;
        });
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_providers_write_it() {
        for (major, minor, expected) in [
            ("1", "28", 28),
            ("1", "29+", 29),
            ("2", "0", u32::MAX),
            ("", "", 0),
        ] {
            assert_eq!(minor_version(major, minor), expected, "{major}.{minor}");
        }
    }
}
