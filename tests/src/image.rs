//! Programs as container images, without a container engine: docker-archive files, as
//! `docker save` writes and `docker load` and `ctr images import` read them.
//!
//! An image is one layer and a configuration (OCI image specification, image-layout and
//! config). Equal contents make equal bytes: entries are sorted, owned by root, and as
//! old as [`Image::created`].

mod program;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;
use tar::{Builder, EntryType, Header};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::{Error, Result};

/// The file of certificate authorities, as Debian has it.
const CERTIFICATE_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// User and group of programs that don't need root, named `nonroot`.
pub const NONROOT: u32 = 65532;

/// What an image is made of.
#[derive(Clone, Debug)]
pub struct Image {
    /// Name with tag, such as `weft/node-agent:0.1.0`.
    pub name: String,
    /// What is started, with leading arguments.
    pub entrypoint: Vec<String>,
    /// `VARIABLE=value` each.
    pub environment: Vec<String>,
    /// User and group that it runs as; root is 0.
    pub user: u32,
    /// Labels of the image (OCI image specification, annotations).
    pub labels: BTreeMap<String, String>,
    /// Seconds since 1970 that everything in it was made at.
    pub created: u64,
    /// By path in the image, without a leading slash.
    entries: BTreeMap<PathBuf, Entry>,
}

/// One path of a layer.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Entry {
    Directory { mode: u32 },
    File { mode: u32, bytes: Vec<u8> },
}

/// A finished image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Packed {
    /// Digest of its configuration, which identifies the image: `sha256:...`.
    pub id: String,
    /// The docker-archive file.
    pub bytes: Vec<u8>,
}

impl Image {
    /// An image with what every one has: users `root` and `nonroot`, name resolution by
    /// DNS, and a `/tmp`.
    pub fn new(name: impl Into<String>) -> Self {
        let mut image = Self {
            name: name.into(),
            entrypoint: Vec::new(),
            environment: vec!["PATH=/usr/local/bin:/usr/bin:/bin".to_owned()],
            user: 0,
            labels: BTreeMap::new(),
            created: 0,
            entries: BTreeMap::new(),
        };
        let passwd = format!(
            "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:{NONROOT}:{NONROOT}:nonroot:/:/sbin/nologin\n"
        );
        let group = format!("root:x:0:\nnonroot:x:{NONROOT}:\n");
        image.add("etc/passwd", 0o644, passwd);
        image.add("etc/group", 0o644, group);
        // What glibc does without this file depends on its version.
        image.add("etc/nsswitch.conf", 0o644, "hosts: files dns\n");
        image.add_directory("tmp", 0o1777);
        image
    }

    /// An image of one program, which is its entrypoint, at `/NAME`.
    ///
    /// # Errors
    /// When it has no name, or it or a library of it can't be read.
    pub fn of_program(name: impl Into<String>, program: &Path) -> Result<Self> {
        let base = program.file_name().and_then(|base| base.to_str());
        let base =
            base.ok_or_else(|| Error::Unreadable(format!("{} has no name", program.display())))?;
        let mut image = Self::new(name);
        image.entrypoint = vec![format!("/{base}")];
        image.add_program(program, base)?;
        Ok(image)
    }

    /// Adds a file, and the directories that lead to it.
    pub fn add(&mut self, path: impl AsRef<Path>, mode: u32, bytes: impl Into<Vec<u8>>) {
        let path = self.add_parents(path.as_ref());
        let bytes = bytes.into();
        self.entries.insert(path, Entry::File { mode, bytes });
    }

    /// Adds a directory, and those that lead to it.
    pub fn add_directory(&mut self, path: impl AsRef<Path>, mode: u32) {
        let path = self.add_parents(path.as_ref());
        self.entries.insert(path, Entry::Directory { mode });
    }

    /// Adds a program of this machine, with the loader and the libraries that it needs.
    ///
    /// # Errors
    /// When it or one of them can't be read.
    pub fn add_program(&mut self, program: &Path, path: impl AsRef<Path>) -> Result<()> {
        self.add(path, 0o755, read(program)?);
        for library in program::libraries(program)? {
            // Under the very name that the loader will look for, whatever links are here.
            let bytes = read(&library)?;
            self.add(&library, 0o755, bytes);
        }
        Ok(())
    }

    /// Adds the certificate authorities that this machine trusts, where programs look for them.
    ///
    /// # Errors
    /// When it has none.
    pub fn add_certificate_authorities(&mut self) -> Result<()> {
        let bytes = read(Path::new(CERTIFICATE_AUTHORITIES)).map_err(|error| {
            Error::Missing(format!(
                "{error}; images have the authorities of Debian's package ca-certificates"
            ))
        })?;
        self.add(CERTIFICATE_AUTHORITIES, 0o644, bytes);
        Ok(())
    }

    fn add_parents(&mut self, path: &Path) -> PathBuf {
        let is_name = |component: &Component<'_>| matches!(component, Component::Normal(_));
        let path: PathBuf = path.components().filter(is_name).collect();
        let parents = path.ancestors().skip(1);
        for parent in parents.filter(|parent| !parent.as_os_str().is_empty()) {
            let parent = self.entries.entry(parent.to_owned());
            parent.or_insert(Entry::Directory { mode: 0o755 });
        }
        path
    }

    /// The image as a file.
    ///
    /// # Errors
    /// When a path or the time doesn't fit the format.
    pub fn pack(&self) -> Result<Packed> {
        let layer = self.layer().map_err(Error::system("pack a layer"))?;
        let layer_id = sha256(&layer);
        let config = self.config(&layer_id)?.to_string();
        let id = sha256(config.as_bytes());
        let layer_file = format!("{layer_id}/layer.tar");
        let config_file = format!("{id}.json");
        let manifest = json!([{
            "Config": config_file,
            "RepoTags": [self.name],
            "Layers": [layer_file],
        }]);
        let (repository, tag) = self.repository_and_tag();
        // For readers older than manifest.json.
        let repositories = json!({ repository: { tag: layer_id } });
        let files = BTreeMap::from([
            (layer_file, layer),
            (config_file, config.into_bytes()),
            ("manifest.json".to_owned(), manifest.to_string().into()),
            ("repositories".to_owned(), repositories.to_string().into()),
        ]);
        let mut archive = Builder::new(Vec::new());
        let packed = files.into_iter().try_for_each(|(path, bytes)| {
            let entry = Entry::File { mode: 0o644, bytes };
            self.append(&mut archive, Path::new(&path), &entry)
        });
        let bytes = packed.and_then(|()| archive.into_inner());
        Ok(Packed {
            id: format!("sha256:{id}"),
            bytes: bytes.map_err(Error::system(format!("pack {}", self.name)))?,
        })
    }

    fn layer(&self) -> io::Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            self.append(&mut archive, path, entry)?;
        }
        archive.into_inner()
    }

    fn append(&self, archive: &mut Builder<Vec<u8>>, path: &Path, entry: &Entry) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_mtime(self.created);
        header.set_uid(0);
        header.set_gid(0);
        match entry {
            Entry::Directory { mode } => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(*mode);
                header.set_size(0);
                archive.append_data(&mut header, path.join(""), io::empty())
            }
            Entry::File { mode, bytes } => {
                header.set_entry_type(EntryType::Regular);
                header.set_mode(*mode);
                header.set_size(bytes.len() as u64);
                archive.append_data(&mut header, path, bytes.as_slice())
            }
        }
    }

    fn config(&self, layer: &str) -> Result<serde_json::Value> {
        let created = i64::try_from(self.created).ok();
        let created = created.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        let created = created.and_then(|time| time.format(&Rfc3339).ok());
        let created = created.ok_or_else(|| {
            Error::Unreadable(format!(
                "{} seconds since 1970 is no time of this calendar",
                self.created
            ))
        })?;
        Ok(json!({
            "architecture": architecture(),
            "os": "linux",
            "created": created,
            "config": {
                "Entrypoint": self.entrypoint,
                "Env": self.environment,
                "Labels": self.labels,
                "User": format!("{0}:{0}", self.user),
                "WorkingDir": "/",
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
            "history": [{ "created": created, "created_by": "cargo xtask images" }],
        }))
    }

    fn repository_and_tag(&self) -> (&str, &str) {
        match self.name.rsplit_once(':') {
            // Not the port of a registry.
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            _ => (&self.name, "latest"),
        }
    }
}

/// As Go names it, and so everybody in this field.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(Error::system(format!("read {}", path.display())))
}

fn sha256(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a String can't fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests;
