//! The authority in a state directory: made at its first use, followed from then on.
//!
//! `ca/root.pem` has all roots that are trusted, for agents to be given.
//! `ca/root-key.pem` has the key that signs, and before it the certificate that belongs
//! to it; where that is left out, it is the one of `root.pem`.
//! `ca/revoked.pem`, where there is one, has certificate revocation lists.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use time::Duration;

use super::material::{Material, Pem};
use super::revocation;
use super::rotation::{self, Stored};
use super::{Authority, AuthorityError, private_file};
use crate::file_changes::FileChanges;

const ROOTS: &str = "root.pem";
const KEY: &str = "root-key.pem";
const LEAF_LIFETIME: &str = "leaf-lifetime";
const REVOKED: &str = "revoked.pem";

/// The folder of a state directory that keeps its authority.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

impl Authority {
    /// The authority of a state directory; a new one at its first use.
    ///
    /// # Errors
    /// When it can't be made, read or used.
    pub(crate) fn open(
        state_directory: &Path,
        leaf_lifetime: Duration,
    ) -> Result<Self, AuthorityError> {
        let folder = Folder::of(state_directory);
        folder.create_where_missing()?;
        folder.write(
            LEAF_LIFETIME,
            leaf_lifetime.whole_seconds().to_string().as_bytes(),
        )?;
        let material = folder.material(&folder.load()?.pem)?;
        let authority = Self::new(material, leaf_lifetime);
        folder
            .revoke(&authority)
            .or_else(AuthorityError::at_start)?;
        Ok(authority)
    }

    /// Signs with what the state directory has now, whenever that changes. Never ends.
    pub(crate) async fn follow(self: Arc<Self>, state_directory: PathBuf) {
        let folder = Folder::of(&state_directory);
        // Before it is read again, so that nothing falls between both.
        let mut changes = FileChanges::watch(&folder.0);
        loop {
            if let Err(error) = self.reload(&folder) {
                tracing::error!(%error, "signing goes on with what was there before");
            }
            if let Err(error) = folder.revoke(&self) {
                tracing::error!(%error, "certificate revocation lists aren't followed");
            }
            changes.next().await;
        }
    }

    fn reload(&self, folder: &Folder) -> Result<(), AuthorityError> {
        let stored = folder.load()?;
        if !self.is_of(&stored.pem) {
            let material = folder.material(&stored.pem)?;
            tracing::info!(folder = %folder.0.display(), ?material, "signing with what the state directory holds now");
            self.replace(material);
        }
        Ok(())
    }
}

impl Folder {
    /// That of a state directory.
    pub(crate) fn of(state_directory: &Path) -> Self {
        Self(state_directory.join("ca"))
    }

    /// Its content.
    ///
    /// # Errors
    /// When a file is missing or can't be read.
    pub(crate) fn load(&self) -> Result<Stored, AuthorityError> {
        let roots = self.read(ROOTS)?;
        let secret = self.read(KEY)?;
        let certificate = match before_key(&secret) {
            "" => roots.clone(),
            certificate => certificate.to_owned(),
        };
        let rotation =
            match self.read(rotation::NAME) {
                Ok(text) => Some(serde_json::from_str(&text).map_err(|source| {
                    AuthorityError::Rotation {
                        place: self.path(rotation::NAME).display().to_string(),
                        source,
                    }
                })?),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error),
            };
        let pem = Pem {
            certificate,
            key: secret[before_key(&secret).len()..].to_owned(),
            roots,
        };
        Ok(Stored { pem, rotation })
    }

    /// Has an authority follow the lists that are there now.
    fn revoke(&self, authority: &Authority) -> Result<(), AuthorityError> {
        let path = self.path(REVOKED);
        let pem = match private_file::read_at_most(&path, revocation::MOST_BYTES + 1) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(self.failed(REVOKED))?,
        };
        let revoked = authority.revoke(&pem);
        revoked.map_err(|source| AuthorityError::Revocations {
            place: path.display().to_string(),
            source,
        })
    }

    /// Keeps it. After a crash at any point the same step can be taken again: what signs
    /// is always among the roots.
    ///
    /// # Errors
    /// When a file can't be written.
    pub(crate) fn save(&self, stored: &Stored) -> Result<(), AuthorityError> {
        let secret = format!("{}{}", stored.pem.certificate, stored.pem.key);
        self.write(KEY, secret.as_bytes())?;
        self.write(ROOTS, stored.pem.roots.as_bytes())?;
        let name = rotation::NAME;
        let Some(rotation) = &stored.rotation else {
            return match fs::remove_file(self.path(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(self.failed(name)(error))
                }
                _ => Ok(()),
            };
        };
        let text = serde_json::to_vec_pretty(rotation).map_err(io::Error::from);
        self.write(name, &text.map_err(self.failed(name))?)
    }

    /// Lifetime of leaves, as the control plane was told when it started last; `None`
    /// when it never did.
    pub(crate) fn leaf_lifetime(&self) -> Option<Duration> {
        let text = self.read(LEAF_LIFETIME).ok()?;
        text.trim().parse().ok().map(Duration::seconds)
    }

    fn create_where_missing(&self) -> Result<(), AuthorityError> {
        match (self.path(ROOTS).exists(), self.path(KEY).exists()) {
            (true, true) => Ok(()),
            (false, false) => self.create(),
            (roots, _) => Err(AuthorityError::Half {
                missing: self.path(if roots { KEY } else { ROOTS }),
            }),
        }
    }

    fn create(&self) -> Result<(), AuthorityError> {
        fs::create_dir_all(&self.0).map_err(self.failed(""))?;
        let pem = Material::generate()?;
        // Never replaces one.
        let secret = format!("{}{}", pem.certificate, pem.key);
        private_file::create(&self.path(KEY), secret.as_bytes()).map_err(self.failed(KEY))?;
        self.write(ROOTS, pem.roots.as_bytes())?;
        tracing::info!(root = %self.path(ROOTS).display(), "made a new root certificate");
        Ok(())
    }

    fn material(&self, pem: &Pem) -> Result<Material, AuthorityError> {
        Material::parse(pem).map_err(|source| AuthorityError::Invalid {
            place: self.0.display().to_string(),
            source,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn read(&self, name: &str) -> Result<String, AuthorityError> {
        fs::read_to_string(self.path(name)).map_err(self.failed(name))
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), AuthorityError> {
        let mode = match name {
            ROOTS | LEAF_LIFETIME => private_file::PUBLIC,
            _ => private_file::PRIVATE,
        };
        private_file::replace(&self.path(name), content, mode).map_err(self.failed(name))
    }

    fn failed(&self, name: &str) -> impl FnOnce(io::Error) -> AuthorityError + use<> {
        let path = self.path(name);
        move |source| AuthorityError::Io { path, source }
    }
}

/// The text before the first private key.
fn before_key(pem: &str) -> &str {
    let mut start = 0;
    for line in pem.split_inclusive('\n') {
        if line.starts_with("-----BEGIN ") && line.contains("PRIVATE KEY-----") {
            return &pem[..start];
        }
        start += line.len();
    }
    ""
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use time::OffsetDateTime;

    use super::super::rotation::{Guard, Step};
    use super::*;

    fn guard() -> Guard {
        Guard {
            now: OffsetDateTime::now_utc(),
            wait: Duration::HOUR,
            force: true,
        }
    }

    #[test]
    fn a_root_is_made_once_and_its_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::open(folder.path(), Duration::HOUR).unwrap();
        let again = Authority::open(folder.path(), Duration::HOUR).unwrap();
        assert_eq!(first.roots(), again.roots());
        let key = fs::metadata(folder.path().join("ca/root-key.pem")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn nobody_starts_beside_revocation_lists_that_it_would_not_follow() {
        let folder = tempfile::tempdir().unwrap();
        Authority::open(folder.path(), Duration::HOUR).unwrap();
        let lists = folder.path().join("ca").join(REVOKED);
        fs::write(&lists, "nonsense").unwrap();
        let error = Authority::open(folder.path(), Duration::HOUR).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("there is no `X509 CRL` in it"), "{text}");
        // Of a root that is trusted no more.
        let other = Material::parse(&Material::generate().unwrap()).unwrap();
        fs::write(&lists, revocation::tests::list(&other, &[1], Duration::DAY)).unwrap();
        Authority::open(folder.path(), Duration::HOUR).unwrap();
    }

    #[test]
    fn half_a_root_is_never_replaced() {
        for missing in ["root-key.pem", "root.pem"] {
            let folder = tempfile::tempdir().unwrap();
            Authority::open(folder.path(), Duration::HOUR).unwrap();
            fs::remove_file(folder.path().join("ca").join(missing)).unwrap();
            let error = Authority::open(folder.path(), Duration::HOUR).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&format!("{missing} is missing")), "{text}");
        }
    }

    #[test]
    fn a_key_without_its_certificate_is_that_of_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let pem = Material::generate().unwrap();
        let folder = directory.path().join("ca");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(ROOTS), &pem.roots).unwrap();
        fs::write(folder.join(KEY), &pem.key).unwrap();
        let stored = Folder::of(directory.path()).load().unwrap();
        assert_eq!(stored.pem, pem);
    }

    #[test]
    fn every_step_is_kept_and_private() {
        let directory = tempfile::tempdir().unwrap();
        Authority::open(directory.path(), Duration::HOUR).unwrap();
        let folder = Folder::of(directory.path());
        assert_eq!(folder.leaf_lifetime(), Some(Duration::HOUR));
        for step in [Step::Start, Step::Switch, Step::Finish] {
            let next = folder.load().unwrap().step(step, &guard()).unwrap();
            folder.save(&next).unwrap();
            assert_eq!(folder.load().unwrap(), next);
            for file in fs::read_dir(directory.path().join("ca")).unwrap() {
                let file = file.unwrap();
                let mode = file.metadata().unwrap().permissions().mode() & 0o777;
                let is_public = file.file_name() == ROOTS || file.file_name() == LEAF_LIFETIME;
                assert!(is_public || mode == 0o600, "{file:?}: {mode:o}");
            }
        }
        assert!(!directory.path().join("ca/rotation.json").exists());
    }

    #[test]
    fn after_a_crash_in_the_middle_of_a_step_it_can_be_taken_again() {
        let directory = tempfile::tempdir().unwrap();
        Authority::open(directory.path(), Duration::HOUR).unwrap();
        let folder = Folder::of(directory.path());
        for step in [
            Step::Start,
            Step::Switch,
            Step::Abort,
            Step::Switch,
            Step::Finish,
        ] {
            let before = folder.load().unwrap();
            let next = before.step(step, &guard()).unwrap();
            // Each file is one rename: a crash comes after the first or the second.
            for (roots, rotation) in [(false, false), (true, false)] {
                let mut half = next.clone();
                if !roots {
                    half.pem.roots.clone_from(&before.pem.roots);
                }
                if !rotation {
                    half.rotation.clone_from(&before.rotation);
                }
                folder.save(&half).unwrap();
                Authority::open(directory.path(), Duration::HOUR).unwrap();
                folder.load().unwrap().step(step, &guard()).unwrap();
            }
            folder.save(&next).unwrap();
        }
    }

    #[test]
    fn a_damaged_rotation_is_named() {
        let directory = tempfile::tempdir().unwrap();
        Authority::open(directory.path(), Duration::HOUR).unwrap();
        let path = directory.path().join("ca/rotation.json");
        fs::write(&path, "{").unwrap();
        let error = Folder::of(directory.path()).load().unwrap_err().to_string();
        assert!(error.contains("rotation.json"), "{error}");
    }
}
