//! Which pods are captured, as their nodes report; kept on disk, so that a restart of
//! the control plane never tells peers to talk plaintext to a captured pod.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use serde::{Deserialize, Serialize};
use weft_model::workload::WorkloadUid;

use crate::index::CapturedPods;

/// The file in the state directory.
const FILE: &str = "captured.json";

/// Why the state can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureStateError {
    /// It can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
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
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// CapturedPods pods by node.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(transparent)]
struct ByNode(BTreeMap<String, BTreeSet<String>>);

/// The captured pods.
#[derive(Debug)]
pub(crate) struct CaptureState {
    path: PathBuf,
    nodes: ByNode,
}

impl CaptureState {
    /// What an earlier process left in the state directory.
    pub(crate) fn load(state_directory: &Path) -> Result<Self, CaptureStateError> {
        let path = state_directory.join(FILE);
        let nodes = match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| CaptureStateError::Damaged {
                    path: path.clone(),
                    source,
                })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => ByNode::default(),
            Err(source) => return Err(CaptureStateError::Io { path, source }),
        };
        Ok(Self { path, nodes })
    }

    /// All captured pods, each with the node that says so.
    pub(crate) fn captured(&self) -> CapturedPods {
        let mut captured = CapturedPods::new();
        for (node, uids) in &self.nodes.0 {
            let node: Arc<str> = node.as_str().into();
            let uids = uids.iter().map(|uid| WorkloadUid::from(uid.as_str()));
            captured.extend(uids.map(|uid| (uid, Arc::clone(&node))));
        }
        captured
    }

    /// A node reports one of its pods. True when that is news.
    pub(crate) fn report(&mut self, node: &str, uid: &WorkloadUid, captured: bool) -> bool {
        let pods = self.nodes.0.entry(node.to_owned()).or_default();
        if captured {
            pods.insert(uid.to_string())
        } else {
            pods.remove(uid.as_str())
        }
    }

    /// A node has reported all of its captured pods. True when others were known.
    pub(crate) fn retain(&mut self, node: &str, reported: &HashSet<WorkloadUid>) -> bool {
        let Some(pods) = self.nodes.0.get_mut(node) else {
            return false;
        };
        let before = pods.len();
        pods.retain(|uid| reported.contains(&WorkloadUid::from(uid.as_str())));
        pods.len() != before
    }

    /// Writes it down, whole or not at all.
    pub(crate) fn save(&self) -> Result<(), CaptureStateError> {
        let failed = |source| CaptureStateError::Io {
            path: self.path.clone(),
            source,
        };
        let bytes = serde_json::to_vec_pretty(&self.nodes);
        let bytes = bytes.map_err(|error| failed(io::Error::other(error)))?;
        let fresh = self.path.with_extension("json.new");
        fs::write(&fresh, bytes)
            .and_then(|()| fs::rename(&fresh, &self.path))
            .map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_remembers_who_is_captured() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = CaptureState::load(directory.path()).unwrap();
        let uid = WorkloadUid::from("shop/web");
        assert!(state.report("node-1", &uid, true));
        assert!(!state.report("node-1", &uid, true));
        state.save().unwrap();
        let again = CaptureState::load(directory.path()).unwrap();
        assert_eq!(
            again.captured(),
            CapturedPods::from([(uid, "node-1".into())])
        );
    }

    #[test]
    fn a_full_report_forgets_the_rest_of_that_node_only() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = CaptureState::load(directory.path()).unwrap();
        let (a, b) = (WorkloadUid::from("a"), WorkloadUid::from("b"));
        state.report("node-1", &a, true);
        state.report("node-2", &b, true);
        assert!(state.retain("node-1", &HashSet::new()));
        assert_eq!(state.captured(), CapturedPods::from([(b, "node-2".into())]));
    }

    #[test]
    fn a_damaged_file_is_named_and_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "{").unwrap();
        let error = CaptureState::load(directory.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains(FILE) && error.contains("damaged"), "{error}");
    }
}
