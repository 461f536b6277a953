//! What is known about the cluster that `cargo xtask cluster up` left running.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use weft_tests::run::start_time;

use xtask::workspace::Workspace;

/// A cluster that is up.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct State {
    /// The process that holds it.
    pub(super) process: u32,
    /// When that started, in clock ticks since boot.
    pub(super) started: u64,
    pub(super) nodes: u8,
    pub(super) kube_proxy: String,
    pub(super) kubeconfig: PathBuf,
    /// Files and logs of the nodes.
    pub(super) directory: PathBuf,
    /// The kubectl that was built with it.
    pub(super) kubectl: PathBuf,
}

/// Why that is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// The file can't be read, written or removed.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It says something else.
    #[error("{path} can't be read ({source}): remove it, then run `cargo xtask cluster down`")]
    Content {
        /// The file.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl State {
    /// Where it and the log are.
    pub(super) fn directory(workspace: &Workspace) -> PathBuf {
        workspace.target().join("cluster")
    }

    fn file(workspace: &Workspace) -> PathBuf {
        Self::directory(workspace).join("state.json")
    }

    /// The cluster that is up; `None` where none is.
    pub(super) fn read(workspace: &Workspace) -> Result<Option<Self>, StateError> {
        let path = Self::file(workspace);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(file(&path)(source)),
        };
        let state = serde_json::from_str(&text).map_err(|source| StateError::Content {
            path: path.display().to_string(),
            source,
        });
        Ok(Some(state?).filter(Self::is_alive))
    }

    /// Whether the process that holds it runs.
    pub(super) fn is_alive(&self) -> bool {
        start_time(self.process) == Some(self.started)
    }

    /// Says that it is up.
    pub(super) fn write(&self, workspace: &Workspace) -> Result<(), StateError> {
        let path = Self::file(workspace);
        let text = serde_json::to_string_pretty(self).map_err(|source| StateError::Content {
            path: path.display().to_string(),
            source,
        })?;
        // Whoever waits for it shall not find half of it.
        let unfinished = path.with_extension("unfinished");
        fs::write(&unfinished, text).map_err(file(&unfinished))?;
        fs::rename(&unfinished, &path).map_err(file(&path))
    }

    /// Says that it is down.
    pub(super) fn remove(workspace: &Workspace) -> Result<(), StateError> {
        let path = Self::file(workspace);
        fs::remove_file(&path).map_err(file(&path))
    }
}

fn file(path: &std::path::Path) -> impl FnOnce(io::Error) -> StateError + use<> {
    let path = path.display().to_string();
    move |source| StateError::File { path, source }
}
