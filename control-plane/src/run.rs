//! The process: what is started, in which order, and how it ends.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::admin::{self, Readiness};
use crate::args::{Serve, Token};
use crate::ca::join_token::JoinKey;
use crate::ca::{Authority, AuthorityError};
use crate::capture::CaptureStateError;
use crate::serve::certificates::CertificatesService;
use crate::serve::discovery::DiscoveryService;
use crate::serve::{ServerCertificate, server};
use crate::source::directory::{Changes, Directory};
use crate::state::State;

/// The condition of readiness that all objects are known.
const MANIFESTS: &str = "manifests";

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
    /// A listener.
    #[error("listening on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
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

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn serve(args: Serve) -> Result<(), RunError> {
    let lifetime =
        time::Duration::try_from(args.leaf_lifetime).map_err(|_| RunError::LeafLifetime)?;
    state_directory(&args.state_directory)?;
    let authority = Arc::new(Authority::open(&args.state_directory, lifetime)?);
    let key = Arc::new(JoinKey::open(&args.state_directory)?);
    let state = Arc::new(State::open(&args.state_directory)?);
    let certificate = ServerCertificate::new(Arc::clone(&authority), args.server_names)?;
    let tls = certificate.config()?;

    let readiness = Arc::new(Readiness::default());
    readiness.unmet(MANIFESTS, "not read yet");
    let monitoring = admin::monitoring(Arc::clone(&readiness), &state);
    let all = admin::all(monitoring.clone(), &state);
    tokio::spawn(admin::serve(listen(args.admin).await?, all));
    if let Some(address) = args.monitoring {
        tokio::spawn(admin::serve(listen(address).await?, monitoring));
    }

    let changes = Changes::watch(&args.config_directory);
    let mut directory = Directory::new(&args.config_directory);
    let update = directory.scan().map_err(|source| RunError::Manifests {
        path: args.config_directory.clone(),
        source,
    })?;
    state.update(update);
    tokio::spawn(follow(directory, changes, Arc::clone(&state)));
    tokio::spawn(async move { certificate.keep_renewed(args.leaf_lifetime).await });

    let listener = listen(args.listen).await?;
    let (stop, stopping) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
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
    let discovery = DiscoveryService {
        state: Arc::clone(&state),
        stopping: stopping.clone(),
    };
    let certificates = CertificatesService { state, authority };
    tracing::info!(agents = %args.listen, admin = %args.admin, "control plane ready");
    readiness.met(MANIFESTS);
    server::serve(listener, tls, key, discovery, certificates, stopping).await?;
    Ok(())
}

/// A token for a node.
pub(crate) fn token(args: &Token) -> Result<String, AuthorityError> {
    let key = JoinKey::open(&args.state_directory)?;
    Ok(key.issue(&args.node, args.lifetime, SystemTime::now()))
}

async fn follow(mut directory: Directory, mut changes: Changes, state: Arc<State>) {
    loop {
        changes.next().await;
        match directory.scan() {
            Ok(update) if update.is_empty() => {}
            Ok(update) => {
                tracing::info!(
                    objects = update.events.len(),
                    broken = update.broken.len(),
                    "manifests changed"
                );
                state.update(update);
            }
            Err(error) => {
                tracing::error!(%error, "the manifest directory can't be read; what is known stays")
            }
        }
    }
}

fn state_directory(path: &Path) -> Result<(), RunError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|source| RunError::State {
        path: path.to_path_buf(),
        source,
    })
}

async fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| RunError::Listen { address, source })
}
