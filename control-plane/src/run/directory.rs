//! A directory of manifests, and a state directory for all else.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Parts, RunError};
use crate::args::DirectoryArgs;
use crate::ca::Authority;
use crate::ca::join_token::JoinKey;
use crate::changes::Changes;
use crate::serve::authentication::Authenticator;
use crate::source::directory::Directory;
use crate::state::State;

/// Reads everything, and follows what becomes of it.
pub(super) fn start(
    args: &DirectoryArgs,
    leaf_lifetime: time::Duration,
) -> Result<Parts, RunError> {
    let given = |path: &Option<PathBuf>, option| path.clone().ok_or(RunError::Missing(option));
    let state_directory = given(&args.state_directory, "--state-directory")?;
    let manifests = given(&args.config_directory, "--config-directory")?;
    make_private(&state_directory)?;
    let authority = Arc::new(Authority::open(&state_directory, leaf_lifetime)?);
    tokio::spawn(Arc::clone(&authority).follow(state_directory.clone()));
    let key = Arc::new(JoinKey::open(&state_directory)?);
    let state = Arc::new(State::open(&state_directory)?);
    // Before the first scan, so that nothing falls between both.
    let changes = Changes::watch(&manifests);
    let mut directory = Directory::new(&manifests);
    let update = directory.scan().map_err(|source| RunError::Manifests {
        path: manifests,
        source,
    })?;
    state.update(update);
    tokio::spawn(follow(directory, changes, Arc::clone(&state)));
    Ok(Parts {
        state,
        authority,
        authenticator: Authenticator::JoinTokens(key),
        loaded: tokio::spawn(async {}),
        // It leads nobody.
        resigned: tokio::spawn(async {}),
    })
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
