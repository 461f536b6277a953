//! Copies of the manifests that were good when they were read last, for a process that starts when
//! one of them isn't any more.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Their folder in the state directory.
const FOLDER: &str = "manifests";

/// The copies; none are kept without a state directory.
#[derive(Debug, Default)]
pub(super) struct LastGood(Option<PathBuf>);

impl LastGood {
    /// Those of a state directory, without those of files that aren't there any more.
    ///
    /// # Errors
    /// When they can't be kept there.
    pub(super) fn open(state_directory: &Path, files: &BTreeSet<&str>) -> io::Result<Self> {
        let folder = state_directory.join(FOLDER);
        fs::create_dir_all(&folder)?;
        let names: BTreeSet<_> = files.iter().map(|file| copy_name(file)).collect();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if !name.to_str().is_some_and(|name| names.contains(name)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self(Some(folder)))
    }

    /// The text that a file had when it was good.
    pub(super) fn text(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.path(file)?).ok()
    }

    /// A file is good and says this.
    ///
    /// # Errors
    /// When that can't be kept; the next process knows an older state or none.
    pub(super) fn keep(&self, file: &str, text: &str) -> io::Result<()> {
        let Some(path) = self.path(file) else {
            return Ok(());
        };
        if self.text(file).is_some_and(|kept| kept == text) {
            return Ok(());
        }
        // Never half written: it may be all that there is after a crash. An older one would bring
        // back what was taken out of the file.
        let unfinished = path.with_extension("unfinished");
        let kept = write(&unfinished, text).and_then(|()| fs::rename(&unfinished, &path));
        kept.inspect_err(|_| self.forget(file))
    }

    /// A file is gone.
    pub(super) fn forget(&self, file: &str) {
        if let Some(path) = self.path(file) {
            let _ = fs::remove_file(path);
        }
    }

    fn path(&self, file: &str) -> Option<PathBuf> {
        self.0.as_ref().map(|folder| folder.join(copy_name(file)))
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The name of a file below the directory, as one in a single folder.
fn copy_name(file: &str) -> String {
    let escaped = file.replace('%', "%25").replace('/', "%2F");
    format!("{escaped}.good")
}
