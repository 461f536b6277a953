//! Programs of Go, built while Cargo builds.

use std::thread::{self, JoinHandle};

use weft_provision::ProvisionError;
use weft_provision::go::{Binaries, Kit, is_built};
use xtask::workspace::Workspace;

/// What a person is told who waits for it.
pub(crate) const WAITING: &str = "building programs of Go, such as Kubernetes (began with the \
                                  first step; the first time takes minutes)";

/// A build that is under way.
pub(crate) struct GoBuild(JoinHandle<Result<(), ProvisionError>>);

impl GoBuild {
    /// Begins with it: it uses the cores that Cargo leaves idle, at the end of a build
    /// most of them, and what Cargo is busy with meanwhile is no less busy.
    pub(crate) fn start(workspace: &Workspace, mut kits: Vec<Kit>) -> Self {
        kits.sort();
        let root = workspace.root().to_owned();
        Self(thread::spawn(move || {
            let mut binaries = Binaries::default();
            for kit in kits {
                if !is_built(&root, kit)? {
                    binaries.add_kit(&root, kit)?;
                }
            }
            Ok(())
        }))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When something doesn't build.
    pub(crate) fn wait(self) -> Result<(), ProvisionError> {
        let died = || ProvisionError::Missing("the build of Go's programs died".to_owned());
        self.0.join().map_err(|_| died())?
    }
}
