//! The process: what is started, in which order, and how it ends.
//!
//! * [`directory`], [`cluster`]: what depends on where objects come from
//! * [`rotate_root`]: a command of its own

mod cluster;
mod directory;
mod rotate_root;

pub(crate) use rotate_root::rotate_root;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::admin::{self, Readiness};
use crate::args::{RateLimitArgs, Serve, SourceKind, Token};
use crate::ca::join_token::JoinKey;
use crate::ca::{Authority, AuthorityError};
use crate::capture::CaptureStateError;
use crate::rate_limit;
use crate::serve::authentication::Authenticator;
use crate::serve::certificates::CertificatesService;
use crate::serve::discovery::DiscoveryService;
use crate::serve::{ServerCertificate, server};
use crate::state::State;
use crate::webhook;

/// The condition of readiness that all objects are known.
const OBJECTS: &str = "objects";
/// How long giving up the lease may take, of the time that a pod has to end.
const RESIGN_WITHIN: Duration = Duration::from_secs(5);

/// Why the control plane doesn't run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The captured pods.
    #[error(transparent)]
    Captures(#[from] CaptureStateError),
    /// The control plane's own certificate.
    #[error(transparent)]
    Certificate(#[from] crate::serve::ServerCertificateError),
    /// The manifests.
    #[error("--config-directory {path}: {source}")]
    Manifests {
        /// The directory.
        path: PathBuf,
        /// Why it can't be read.
        source: io::Error,
    },
    /// The state directory.
    #[error("--state-directory {path}: {source}")]
    State {
        /// The directory.
        path: PathBuf,
        /// Why it can't be used.
        source: io::Error,
    },
    /// The API server.
    #[error(
        "the API server can't be reached: {0}; run in a pod with a ServiceAccount, or give --kubeconfig"
    )]
    Cluster(String),
    /// An option that the source needs.
    #[error("{0} is needed with --source directory")]
    Missing(&'static str),
    /// A listener.
    #[error("listening on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The limits of the rate limit service.
    #[error(transparent)]
    RateLimits(#[from] rate_limit::FileError),
    /// Where it shall count.
    #[error("--redis (or WEFT_REDIS): {0}")]
    Redis(#[from] rate_limit::InvalidRedis),
    /// A lifetime that no certificate can have.
    #[error("--leaf-lifetime is too long")]
    LeafLifetime,
    /// Signals.
    #[error("signals: {0}")]
    Signals(io::Error),
    /// The gRPC server.
    #[error("serving agents: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// What a source brings along.
struct Parts {
    state: Arc<State>,
    authority: Arc<Authority>,
    authenticator: Authenticator,
    /// Completes when every object that there is has been taken in.
    loaded: JoinHandle<()>,
    /// Completes, once told to stop, when nobody has to wait for this process any more.
    resigned: JoinHandle<()>,
}

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn serve(args: Serve) -> Result<(), RunError> {
    let lifetime =
        time::Duration::try_from(args.leaf_lifetime).map_err(|_| RunError::LeafLifetime)?;
    let rate_limits = rate_limit_options(args.rate_limits)?;
    let stopping = stop_on_signal().map_err(RunError::Signals)?;
    let parts = match args.source {
        SourceKind::Directory => directory::start(&args.directory, lifetime)?,
        SourceKind::Kubernetes => cluster::start(&args.cluster, lifetime, stopping.clone()).await?,
    };
    let Parts {
        state,
        authority,
        authenticator,
        loaded,
        resigned,
    } = parts;

    let readiness = Arc::new(Readiness::default());
    readiness.unmet(OBJECTS, "not read yet");
    let stats = Arc::new(rate_limit::Stats::default());
    let monitoring = admin::monitoring(Arc::clone(&readiness), &state, Arc::clone(&stats));
    let rate_limits = rate_limit::start(rate_limits, authenticator.clone(), stats)?;
    let all = admin::all(monitoring.clone(), &state);
    tokio::spawn(admin::serve(listen(args.admin).await?, all));
    if let Some(address) = args.monitoring {
        tokio::spawn(admin::serve(listen(address).await?, monitoring));
    }

    let mut names = args.server_names;
    if args.source == SourceKind::Kubernetes {
        names.push(format!(
            "weft-control-plane.{}.svc",
            args.cluster.place.namespace
        ));
    }
    let certificate = ServerCertificate::new(Arc::clone(&authority), names)?;
    let tls = certificate.config()?;
    if let Some(address) = args.webhook {
        tokio::spawn(webhook::serve(
            listen(address).await?,
            certificate.config()?,
        ));
    }
    tokio::spawn(async move { certificate.keep_renewed(args.leaf_lifetime).await });

    // Agents take "everything" at its word, so nobody is served before it is here.
    let mut told_to_stop = stopping.clone();
    tokio::select! {
        _ = loaded => {}
        _ = told_to_stop.wait_for(|stop| *stop) => {
            resign(resigned).await;
            return Ok(());
        }
    }
    let listener = listen(args.listen).await?;
    let discovery = DiscoveryService {
        state: Arc::clone(&state),
        authenticator: authenticator.clone(),
        stopping: stopping.clone(),
    };
    let certificates = CertificatesService {
        state,
        authenticator,
        authority,
    };
    tracing::info!(agents = %args.listen, admin = %args.admin, "control plane ready");
    readiness.met(OBJECTS);
    server::serve(
        listener,
        tls,
        discovery,
        certificates,
        rate_limits,
        stopping,
    )
    .await?;
    resign(resigned).await;
    Ok(())
}

fn rate_limit_options(args: RateLimitArgs) -> Result<rate_limit::Options, RunError> {
    // A Secret's value may be empty, or end with its line.
    let redis = args.redis.as_deref().map(str::trim);
    let redis = redis.filter(|address| !address.is_empty());
    Ok(rate_limit::Options {
        config: args.rate_limit_config,
        redis: redis.map(str::parse).transpose()?,
    })
}

async fn resign(resigned: JoinHandle<()>) {
    if timeout(RESIGN_WITHIN, resigned).await.is_err() {
        tracing::warn!("can't give up the lease: another replica leads when it has run out");
    }
}

/// A token for a node.
pub(crate) fn token(args: &Token) -> Result<String, AuthorityError> {
    let key = JoinKey::open(&args.state_directory)?;
    Ok(key.issue(&args.node, args.lifetime, SystemTime::now()))
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
