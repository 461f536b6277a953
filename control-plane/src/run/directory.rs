//! A directory of manifests, and a state directory for all else.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::RunError;
use super::parts::Parts;
use crate::args::Serve;
use crate::ca::Authority;
use crate::ca::join_token::JoinKey;
use crate::captures::{CaptureFile, Captures};
use crate::cluster::Cluster;
use crate::file_changes::FileChanges;
use crate::inject::InjectedShape;
use crate::serve::authentication::Authenticator;
use crate::source::directory::{Directory, FileError, Update};

/// Manifests that are broken, and why. Cloning shares them.
#[derive(Clone, Debug, Default)]
struct BrokenFiles(Arc<Mutex<BTreeMap<String, String>>>);

/// Reads everything, and follows what becomes of it.
pub(super) fn start(serve: &Serve, leaf_lifetime: time::Duration) -> Result<Parts, RunError> {
    let args = &serve.directory;
    let given = |path: &Option<PathBuf>, option| path.clone().ok_or(RunError::Missing(option));
    let state_directory = given(&args.state_directory, "--state-directory")?;
    let manifests = given(&args.config_directory, "--config-directory")?;
    make_private(&state_directory)?;
    let authority = Arc::new(Authority::open(&state_directory, leaf_lifetime)?);
    tokio::spawn(Arc::clone(&authority).follow(state_directory.clone()));
    let key = Arc::new(JoinKey::open(&state_directory)?);
    let cluster = Arc::new(Cluster::of_directory());
    tokio::spawn(Arc::clone(&authority).publish_revocations(Arc::clone(&cluster)));
    let store = CaptureFile::open(&state_directory, Arc::clone(&cluster))?;
    let broken = BrokenFiles::default();
    // Before the first scan, so that nothing falls between both.
    let changes = FileChanges::watch(&manifests);
    let directory = Directory::new(&manifests).kept_in(&state_directory);
    let scanned = directory.and_then(|mut directory| Ok((directory.scan()?, directory)));
    let (update, directory) = scanned.map_err(|source| RunError::Manifests {
        path: manifests,
        source,
    })?;
    apply(update, &cluster, &broken);
    tokio::spawn(follow(
        directory,
        changes,
        Arc::clone(&cluster),
        broken.clone(),
    ));
    Ok(Parts {
        captures: Captures::new(store, Arc::clone(&cluster)),
        cluster,
        source_errors: Arc::new(move || broken.list()),
        authority,
        authenticator: Authenticator::JoinTokens(key),
        injection: serve.injection(InjectedShape::Native),
        loaded: tokio::spawn(async {}),
        // It leads nobody.
        resigned: tokio::spawn(async {}),
    })
}

async fn follow(
    mut directory: Directory,
    mut changes: FileChanges,
    cluster: Arc<Cluster>,
    broken: BrokenFiles,
) {
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
                apply(update, &cluster, &broken);
            }
            Err(error) => {
                tracing::error!(%error, "the manifest directory can't be read; what is known stays")
            }
        }
    }
}

fn apply(update: Update, cluster: &Cluster, broken: &BrokenFiles) {
    let Update {
        events,
        broken: newly_broken,
        mended,
    } = update;
    broken.update(newly_broken, &mended);
    cluster.apply_events(events);
}

impl BrokenFiles {
    fn update(&self, broken: Vec<(String, FileError)>, mended: &[String]) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (file, error) in broken {
            tracing::error!(%file, %error, "broken manifest; its last good content stays in force");
            files.insert(file, error.to_string());
        }
        for file in mended {
            files.remove(file);
        }
    }

    fn list(&self) -> BTreeMap<String, String> {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.clone()
    }
}

fn make_private(path: &Path) -> Result<(), RunError> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|source| RunError::State {
        path: path.to_path_buf(),
        source,
    })
}
