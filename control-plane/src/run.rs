//! The process: what is started, in which order, and how it ends.
//!
//! * [`directory`], [`kubernetes`]: what depends on where objects come from
//! * [`parts`]: what either of them brings along
//! * [`lease`]: which replica does what only one may
//! * [`rotate_root`]: a command of its own

mod directory;
mod error;
mod kubernetes;
mod lease;
mod parts;
mod rotate_root;

pub(crate) use rotate_root::rotate_root;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::error::{InjectError, RunError};
use crate::admin::{self, Endpoint, Limits, Pages, Readiness, Shown};
use crate::agents::Agents;
use crate::args::{Inject, KeySetArgs, RateLimitArgs, Serve, SourceKind, Token};
use crate::ca::join_token::{Bearer, JoinKey};
use crate::ca::{Authority, AuthorityError};
use crate::cluster::Cluster;
use crate::inject::{InjectionOptions, inject_text};
use crate::key_sets::{Fetcher, FetcherOptions, KeySets};
use crate::rate_limit;
use crate::serve::ServerCertificate;
use crate::serve::certificates::CertificatesService;
use crate::serve::discovery::{self, DiscoveryService};
use crate::serve::node_limit::NodeLimit;
use crate::serve::server::{self, Services};
use crate::webhook;

/// The condition of readiness that all objects are known.
const OBJECTS: &str = "objects";
/// Time limit for giving up the lease, of the time that a pod has to end.
const RESIGN_WITHIN: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn serve(args: Serve) -> Result<(), RunError> {
    let lifetime =
        time::Duration::try_from(args.leaf_lifetime).map_err(|_| RunError::LeafLifetime)?;
    let rate_limits = rate_limit_options(&args.rate_limits)?;
    let fetcher = Fetcher::new(fetcher_options(&args.key_sets))?;
    if let Err(error) = weft_admin::raise_open_files() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let stopping = stop_on_signal().map_err(RunError::Signals)?;
    let parts = match args.source {
        SourceKind::Directory => directory::start(&args, lifetime)?,
        SourceKind::Kubernetes => kubernetes::start(&args, lifetime, stopping.clone()).await?,
    };
    let (agents, readiness) = (Arc::<Agents>::default(), Arc::<Readiness>::default());
    readiness.unmet(OBJECTS, "not read yet; /errors lists kinds that can't be");
    let shown = Shown {
        cluster: Arc::clone(&parts.cluster),
        agents: Arc::clone(&agents),
        source_errors: parts.source_errors,
        certificates: Arc::default(),
        rate_limits: Arc::default(),
    };
    let authenticator = parts.authenticator;
    let counted = Arc::clone(&shown.rate_limits);
    let rate_limits = rate_limit::start(rate_limits, authenticator.clone(), counted)?;
    serve_pages(&args, Arc::clone(&readiness), &shown).await?;
    let certificate = start_certificate(&args, &parts.authority)?;
    let tls = certificate.config()?;
    if let Some(address) = args.webhook {
        serve_webhook(address, &certificate, &parts.cluster, parts.injection).await?;
    }

    // Agents take "everything" at its word, so nobody is served before it is here.
    if is_loaded(parts.loaded, stopping.clone()).await {
        let key_sets = KeySets::new(Arc::clone(&parts.cluster), fetcher);
        key_sets.fetch_first().await;
        let listener = listen(args.listen).await?;
        let services = Services {
            discovery: DiscoveryService {
                cluster: Arc::clone(&parts.cluster),
                agents,
                captures: Arc::new(parts.captures),
                key_sets,
                authenticator: authenticator.clone(),
                streams: NodeLimit::new(discovery::MOST_STREAMS),
                stopping: stopping.clone(),
            },
            certificates: CertificatesService {
                cluster: parts.cluster,
                authenticator,
                authority: parts.authority,
                counts: shown.certificates,
            },
            rate_limits,
        };
        tracing::info!(agents = %args.listen, admin = %args.admin, "control plane ready");
        readiness.met(OBJECTS);
        server::serve(listener, tls, services, stopping).await?;
    }
    resign(parts.resigned).await;
    Ok(())
}

fn fetcher_options(args: &KeySetArgs) -> FetcherOptions {
    FetcherOptions {
        allow_http: args.jwks_allow_http,
        allow_local: args.jwks_allow_local,
        roots: args.jwks_roots.clone(),
    }
}

fn rate_limit_options(args: &RateLimitArgs) -> Result<rate_limit::Options, RunError> {
    // A Secret's value may be empty, or end with its line.
    let redis = args.redis.as_deref().map(str::trim);
    let redis = redis.filter(|address| !address.is_empty());
    Ok(rate_limit::Options {
        config: args.rate_limit_config.clone(),
        redis: redis.map(str::parse).transpose()?,
    })
}

/// Answers operators, and kubelet and Prometheus where they may ask. Only probes are answered
/// by the threads that everything else runs on: whoever asks for more takes nothing from it.
async fn serve_pages(
    args: &Serve,
    readiness: Arc<Readiness>,
    shown: &Shown,
) -> Result<(), RunError> {
    if let Some(address) = args.probes {
        let probes = Pages::new(Arc::clone(&readiness));
        let endpoint = Endpoint::new(listen(address).await?, probes, Limits::PROBES);
        tokio::spawn(admin::serve(endpoint));
    }
    let monitoring = admin::monitoring(readiness, shown);
    let all = admin::all(monitoring.clone(), shown);
    let mut apart = vec![Endpoint::new(
        listen(args.admin).await?,
        all,
        Limits::OPERATOR,
    )];
    if let Some(address) = args.monitoring {
        let listener = listen(address).await?;
        apart.push(Endpoint::new(listener, monitoring, Limits::MONITORING));
    }
    admin::serve_apart(apart).map_err(RunError::Threads)
}

/// The control plane's own certificate, which is renewed from now on.
fn start_certificate(
    args: &Serve,
    authority: &Arc<Authority>,
) -> Result<Arc<ServerCertificate>, RunError> {
    let mut names = args.server_names.clone();
    if args.source == SourceKind::Kubernetes {
        let namespace = &args.cluster.place.namespace;
        names.push(format!("weft-control-plane.{namespace}.svc"));
    }
    let certificate = ServerCertificate::new(Arc::clone(authority), names)?;
    let (renewed, lifetime) = (Arc::clone(&certificate), args.leaf_lifetime);
    tokio::spawn(async move { renewed.keep_renewed(lifetime).await });
    Ok(certificate)
}

async fn serve_webhook(
    address: SocketAddr,
    certificate: &Arc<ServerCertificate>,
    cluster: &Arc<Cluster>,
    injection: InjectionOptions,
) -> Result<(), RunError> {
    let tls = certificate.config()?;
    let listener = listen(address).await?;
    let cluster = Arc::clone(cluster);
    tokio::spawn(webhook::serve(listener, tls, cluster, injection));
    Ok(())
}

/// Waits until all objects are known; false when the process is to end before.
async fn is_loaded(loaded: JoinHandle<()>, mut stopping: watch::Receiver<bool>) -> bool {
    tokio::select! {
        _ = loaded => true,
        _ = stopping.wait_for(|stop| *stop) => false,
    }
}

async fn resign(resigned: JoinHandle<()>) {
    if timeout(RESIGN_WITHIN, resigned).await.is_err() {
        tracing::warn!("can't give up the lease: another replica leads when it has run out");
    }
}

/// A token for the agent of a node, or the sidecar of a pod.
pub(crate) fn token(args: &Token) -> Result<String, AuthorityError> {
    let key = JoinKey::existing(&args.state_directory)?;
    let bearer = match (&args.pod, &args.node) {
        (Some(pod), _) => Bearer::Pod(pod.clone()),
        // Clap asks for one of both.
        (None, node) => Bearer::Node(node.clone().unwrap_or_default()),
    };
    Ok(key.issue(bearer, args.lifetime, SystemTime::now()))
}

/// Manifests with sidecars in the pods that they make.
pub(crate) fn inject(args: &Inject) -> Result<String, InjectError> {
    let read = match args.file.as_os_str() == "-" {
        true => io::read_to_string(io::stdin()),
        false => std::fs::read_to_string(&args.file),
    };
    let text = read.map_err(|source| InjectError::Read {
        path: args.file.clone(),
        source,
    })?;
    let injected = inject_text(&text, &args.namespace, &args.options());
    injected.map_err(|source| InjectError::Content {
        path: args.file.clone(),
        source,
    })
}

/// Turns true at SIGTERM or SIGINT.
fn stop_on_signal() -> io::Result<watch::Receiver<bool>> {
    let (stop, stopping) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutting down");
        stop.send_replace(true);
        // Everyone has been told; keep the channel until the process ends.
        std::future::pending::<()>().await;
    });
    Ok(stopping)
}

async fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| RunError::Listen { address, source })
}
