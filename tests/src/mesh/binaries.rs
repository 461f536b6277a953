//! Where the programs under test are.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The programs of a mesh, all there.
#[derive(Clone, Debug)]
pub struct Binaries {
    control_plane: String,
    agent: String,
    sidecar: String,
    test_app: String,
}

impl Binaries {
    /// Finds them in a directory, or in Cargo's output directory that the running
    /// program is in.
    ///
    /// # Errors
    /// When one isn't there.
    pub fn find(directory: Option<&Path>) -> Result<Self> {
        let directory = match directory {
            Some(directory) => directory.to_path_buf(),
            None => output_directory()?,
        };
        let program = |name: &str| {
            let path = directory.join(name);
            if path.is_file() {
                return Ok(path.display().to_string());
            }
            Err(Error::Missing(format!(
                "{} is not built; `cargo xtask test` builds everything, `cargo build --workspace --bins` the programs",
                path.display()
            )))
        };
        Ok(Self {
            control_plane: program("weft-control-plane")?,
            agent: program("weft-node-agent")?,
            sidecar: program("weft-sidecar")?,
            test_app: program("weft-test-app")?,
        })
    }

    pub(super) fn control_plane(&self) -> &str {
        &self.control_plane
    }

    pub(super) fn agent(&self) -> &str {
        &self.agent
    }

    pub(super) fn sidecar(&self) -> &str {
        &self.sidecar
    }

    pub(super) fn test_app(&self) -> &str {
        &self.test_app
    }
}

/// Test programs are in `deps` below it.
fn output_directory() -> Result<PathBuf> {
    let program = std::env::current_exe().map_err(Error::system("find the running program"))?;
    let directory = program.parent().map(Path::to_path_buf).unwrap_or_default();
    if directory.ends_with("deps") {
        return Ok(directory
            .parent()
            .map(Path::to_path_buf)
            .unwrap_or_default());
    }
    Ok(directory)
}
