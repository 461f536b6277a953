//! Captured pods in a file of the state directory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use weft_model::workload::WorkloadUid;

use super::report::{CaptureReport, PodCaptureState};
use super::store::CaptureStore;
use crate::cluster::Cluster;
use crate::index::CapturedPods;

/// The file in the state directory.
const FILE: &str = "captured.json";

/// The most pods that a node may claim while they aren't known as its own.
const MAX_UNKNOWN: usize = 10_000;

/// A reason not to use the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureFileError {
    /// It can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It isn't what was written.
    #[error(
        "{path} is damaged ({source}); remove it and restart: strict pods then refuse \
         connections until their nodes report again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The mistake.
        source: serde_json::Error,
    },
}

/// Captured pods by node, as the file has them.
type ByNode = BTreeMap<String, BTreeSet<String>>;

/// The store of a state directory.
#[derive(Debug)]
pub(crate) struct CaptureFile {
    path: PathBuf,
    /// Held while the file is written, so that it never gets older.
    by_node: Mutex<ByNode>,
    cluster: Arc<Cluster>,
}

impl CaptureFile {
    /// Lets the cluster know what an earlier process left in the state directory.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn open(
        state_directory: &Path,
        cluster: Arc<Cluster>,
    ) -> Result<Self, CaptureFileError> {
        let path = state_directory.join(FILE);
        let by_node = match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| CaptureFileError::Damaged {
                    path: path.clone(),
                    source,
                })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => ByNode::default(),
            Err(source) => return Err(CaptureFileError::Io { path, source }),
        };
        cluster.set_captured(captured(&by_node));
        Ok(Self {
            path,
            by_node: Mutex::new(by_node),
            cluster,
        })
    }

    /// Writes it down, whole or not at all.
    fn save(&self, by_node: &ByNode) -> Result<(), CaptureFileError> {
        let failed = |source| CaptureFileError::Io {
            path: self.path.clone(),
            source,
        };
        let bytes = serde_json::to_vec_pretty(by_node);
        let bytes = bytes.map_err(|error| failed(io::Error::other(error)))?;
        let fresh = self.path.with_extension("json.new");
        fs::write(&fresh, bytes)
            .and_then(|()| fs::rename(&fresh, &self.path))
            .map_err(failed)
    }
}

impl CaptureStore for CaptureFile {
    /// There is no other replica.
    fn stream_opened(&self, _node: &str) {}

    fn record(&self, report: &CaptureReport) {
        let mut by_node = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        let is_own = |uid: &str| {
            let node = self.cluster.node_of(&uid.into());
            node.is_some_and(|node| *node == *report.node)
        };
        let is_sidecar = |uid: &str| self.cluster.is_sidecar(&uid.into());
        if !apply(report, &mut by_node, is_own, is_sidecar) {
            return;
        }
        if let Err(error) = self.save(&by_node) {
            tracing::error!(%error, "captured pods could not be written down");
        }
        self.cluster.set_captured(captured(&by_node));
    }
}

/// Puts a report in; `is_own` knows the pods of its node, `is_sidecar` those of them that report
/// for themselves. True when it says something new.
fn apply(
    report: &CaptureReport,
    by_node: &mut ByNode,
    is_own: impl Fn(&str) -> bool,
    is_sidecar: impl Fn(&str) -> bool,
) -> bool {
    let pods = by_node.entry(report.node.clone()).or_default();
    // Few enough claims need no look at each.
    let most = pods.len() + report.pods.len();
    let mut room = match most > MAX_UNKNOWN {
        true => MAX_UNKNOWN.saturating_sub(pods.iter().filter(|uid| !is_own(uid)).count()),
        false => MAX_UNKNOWN,
    };
    let mut left_out = 0_usize;
    let mut news = false;
    for (uid, state) in &report.pods {
        news |= match state {
            PodCaptureState::Captured if pods.contains(uid.as_str()) => false,
            PodCaptureState::Captured if is_own(uid.as_str()) => pods.insert(uid.to_string()),
            PodCaptureState::Captured if room == 0 => {
                left_out += 1;
                false
            }
            PodCaptureState::Captured => {
                room -= 1;
                pods.insert(uid.to_string())
            }
            PodCaptureState::Released | PodCaptureState::Failed(_) => pods.remove(uid.as_str()),
        };
    }
    if left_out > 0 {
        let node = &report.node;
        tracing::warn!(
            node,
            left_out,
            "claims too many pods that aren't known; ignored"
        );
    }
    if let Some(all) = &report.complete {
        let before = pods.len();
        pods.retain(|uid| all.contains(&WorkloadUid::from(uid.as_str())) || is_sidecar(uid));
        news |= pods.len() != before;
    }
    news
}

/// All captured pods, each with every node that says so. A claim of a pod that isn't known
/// yet may be anybody's, so none replaces another's: the index counts the one of the pod's
/// own node, once it knows that.
fn captured(by_node: &ByNode) -> CapturedPods {
    let mut captured = CapturedPods::new();
    for (node, uids) in by_node {
        let node: Arc<str> = node.as_str().into();
        for uid in uids {
            let nodes = captured.entry(uid.as_str().into()).or_default();
            nodes.insert(Arc::clone(&node));
        }
    }
    captured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_named_and_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        fs::write(&path, "{").unwrap();
        let cluster = Arc::new(Cluster::of_directory());
        let error = CaptureFile::open(directory.path(), cluster).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(FILE) && error.contains("damaged"), "{error}");
        assert_eq!(fs::read_to_string(path).unwrap(), "{");
    }

    #[test]
    fn a_node_claims_only_so_many_pods_that_are_not_known_as_its_own() {
        let claim = |uids: &[String]| CaptureReport {
            node: "node-1".into(),
            pods: uids
                .iter()
                .map(|uid| (uid.as_str().into(), PodCaptureState::Captured))
                .collect(),
            complete: None,
        };
        let mut by_node = ByNode::new();
        let is_own = |uid: &str| uid.starts_with("own");
        let unknown: Vec<_> = (0..MAX_UNKNOWN + 5).map(|n| n.to_string()).collect();
        let none = |_: &str| false;
        assert!(apply(&claim(&unknown), &mut by_node, is_own, none));
        assert_eq!(by_node["node-1"].len(), MAX_UNKNOWN);
        assert!(!apply(&claim(&["more".into()]), &mut by_node, is_own, none));
        assert!(apply(&claim(&["own".into()]), &mut by_node, is_own, none));
        assert_eq!(by_node["node-1"].len(), MAX_UNKNOWN + 1);
    }
}
