//! Wake-ups for whoever has read a directory or a file.

use std::path::Path;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Quiet time after a change before files are read: editors write in steps.
const SETTLE: Duration = Duration::from_millis(50);
/// Rescan that finds what no notification told, such as on network file systems.
const RESCAN: Duration = Duration::from_secs(30);

/// Wakes when something may have changed: by notification, and now and then anyway.
pub(crate) struct FileChanges {
    events: mpsc::Receiver<()>,
    _watcher: Option<notify::RecommendedWatcher>,
}

impl FileChanges {
    /// Watches a directory. Where notifications can't be had, the rescan remains.
    pub(crate) fn watch(directory: &Path) -> Self {
        Self::start(directory, RecursiveMode::Recursive)
    }

    /// Watches a file by what becomes of its directory, so that it may be replaced.
    pub(crate) fn watch_file(file: &Path) -> Self {
        let directory = file.parent().filter(|parent| *parent != Path::new(""));
        Self::start(
            directory.unwrap_or(Path::new(".")),
            RecursiveMode::NonRecursive,
        )
    }

    fn start(directory: &Path, mode: RecursiveMode) -> Self {
        let (sender, events) = mpsc::channel(1);
        let notify = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                // One waiting wake-up is enough.
                let _ = sender.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(notify).and_then(|mut watcher| {
            watcher.watch(directory, mode)?;
            Ok(watcher)
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(%error, directory = %directory.display(), "no change notifications; it is read every 30 s");
        });
        Self {
            events,
            _watcher: watcher.ok(),
        }
    }

    /// Waits for the next change to settle.
    pub(crate) async fn next(&mut self) {
        match tokio::time::timeout(RESCAN, self.events.recv()).await {
            Ok(Some(())) => {
                tokio::time::sleep(SETTLE).await;
                while self.events.try_recv().is_ok() {}
            }
            Ok(None) => tokio::time::sleep(RESCAN).await,
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn a_change_wakes_up() {
        let folder = tempfile::tempdir().unwrap();
        let mut changes = FileChanges::watch(folder.path());
        fs::write(folder.path().join("a.yaml"), "kind: Namespace").unwrap();
        tokio::time::timeout(Duration::from_secs(10), changes.next())
            .await
            .unwrap();
    }
}
