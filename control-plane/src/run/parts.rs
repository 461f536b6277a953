//! The parts that differ by source.

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::admin::SourceErrors;
use crate::ca::Authority;
use crate::captures::Captures;
use crate::cluster::Cluster;
use crate::inject::InjectionOptions;
use crate::serve::authentication::Authenticator;

/// Parts that come with a source.
pub(super) struct Parts {
    pub(super) cluster: Arc<Cluster>,
    pub(super) captures: Captures,
    pub(super) source_errors: SourceErrors,
    pub(super) authority: Arc<Authority>,
    pub(super) authenticator: Authenticator,
    /// The sidecars of the mesh.
    pub(super) injection: InjectionOptions,
    /// Completes when every object that there is has been taken in.
    pub(super) loaded: JoinHandle<()>,
    /// Completes, once told to stop, when nobody has to wait for this process any more.
    pub(super) resigned: JoinHandle<()>,
}
