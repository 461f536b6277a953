//! `weft-control-plane rotate-root`: one step of a root rotation. Control planes that run
//! follow what it writes.

use time::{Duration, OffsetDateTime};

use super::error::RunError;
use super::kubernetes;
use crate::args::{RotateAction, RotateRoot};
use crate::ca::{AuthorityError, AuthoritySecret, Folder, Guard, RotationError, Step};

/// Time limit for kubelets to give agents the roots that a ConfigMap holds now.
const KUBELET_DELAY: Duration = Duration::minutes(3);
/// Lifetime of leaves where nobody has said another: the default of `serve`.
const LEAF_LIFETIME: Duration = Duration::DAY;

/// A reason not to have taken a step.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotateRootError {
    /// The API server can't be reached.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The authority can't be read or written where it is kept.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// It isn't due.
    #[error(transparent)]
    Rotation(#[from] RotationError),
}

/// Takes the step, and says what is then.
///
/// # Errors
/// When it isn't due, or can't be kept. Nothing was changed then.
pub(crate) async fn rotate_root(args: &RotateRoot) -> Result<String, RotateRootError> {
    match &args.state_directory {
        Some(state_directory) => {
            let folder = Folder::of(state_directory);
            let guard = guard(args, folder.leaf_lifetime(), Duration::ZERO);
            let stored = folder.load()?;
            let Some(step) = step(args.action) else {
                return Ok(stored.describe(&guard));
            };
            let next = stored.step(step, &guard)?;
            folder.save(&next)?;
            Ok(next.describe(&guard))
        }
        None => {
            let client = kubernetes::connect(&args.place).await?;
            let secret = AuthoritySecret::read(&client, kubernetes::place(&args.place)).await?;
            let guard = guard(args, secret.leaf_lifetime().await?, KUBELET_DELAY);
            let stored = secret.stored()?;
            let Some(step) = step(args.action) else {
                return Ok(stored.describe(&guard));
            };
            let next = stored.step(step, &guard)?;
            secret.save(&next).await?;
            Ok(next.describe(&guard))
        }
    }
}

fn step(action: RotateAction) -> Option<Step> {
    match action {
        RotateAction::Status => None,
        RotateAction::Start => Some(Step::Start),
        RotateAction::Switch => Some(Step::Switch),
        RotateAction::Finish => Some(Step::Finish),
        RotateAction::Abort => Some(Step::Abort),
    }
}

fn guard(args: &RotateRoot, known: Option<Duration>, at_least: Duration) -> Guard {
    let given = args.leaf_lifetime;
    let given = given.map(|given| Duration::try_from(given).unwrap_or(Duration::MAX));
    let lifetime: Duration = known.max(given).unwrap_or(LEAF_LIFETIME);
    // A replica may sign with what was there before for a moment.
    let margin = Duration::min(lifetime / 10, Duration::MINUTE);
    Guard {
        now: OffsetDateTime::now_utc(),
        wait: lifetime.saturating_add(margin).max(at_least),
        force: args.force,
    }
}
