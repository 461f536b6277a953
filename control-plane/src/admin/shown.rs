//! The parts of the control plane that its pages show.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::agents::Agents;
use crate::cluster::Cluster;
use crate::rate_limit::Stats;
use crate::serve::certificate_counts::CertificateCounts;

/// Gives the parts of the source that can't be used, and why: files, or objects.
pub(crate) type SourceErrors = Arc<dyn Fn() -> BTreeMap<String, String> + Send + Sync>;

/// These parts, shared with the rest of the process.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) agents: Arc<Agents>,
    pub(crate) source_errors: SourceErrors,
    pub(crate) certificates: Arc<CertificateCounts>,
    pub(crate) rate_limits: Arc<Stats>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}
