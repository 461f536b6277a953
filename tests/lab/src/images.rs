//! The container images of what runs on Kubernetes, packed of programs that `cargo xtask
//! images` has built.
//!
//! The same programs and certificate authorities make the same bytes: every time is
//! `SOURCE_DATE_EPOCH`, or 1970 (<https://reproducible-builds.org/specs/source-date-epoch/>).

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use weft_tests::image::{Image, NONROOT};
use xtask::workspace::Workspace;

/// What packing can be told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Where the programs are.
    #[arg(long, value_name = "DIR")]
    programs: PathBuf,
    /// Where the files go.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Tag of all images.
    #[arg(long)]
    tag: String,
}

/// Why there are no images.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImagesError {
    /// Packing.
    #[error(transparent)]
    Pack(#[from] weft_tests::Error),
    /// The variable.
    #[error("SOURCE_DATE_EPOCH is `{0}`; it has to be seconds since 1970, or unset")]
    Epoch(String),
    /// A file can't be written.
    #[error("cannot {action} {path}: {error}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// One program that gets an image.
#[derive(Clone, Copy, Debug)]
struct Program {
    name: &'static str,
    repository: &'static str,
    title: &'static str,
    user: u32,
}

const PROGRAMS: [Program; 3] = [
    Program {
        name: "weft-control-plane",
        repository: "weft/control-plane",
        title: "Weft control plane",
        user: NONROOT,
    },
    Program {
        name: "weft-node-agent",
        repository: "weft/node-agent",
        title: "Weft node agent",
        // Entering a pod's network namespace takes capabilities, which only root gets.
        user: 0,
    },
    Program {
        name: "weft-sidecar",
        repository: "weft/sidecar",
        title: "Weft sidecar",
        // The proxy's own; its init container says that it is root.
        user: PROXY_USER,
    },
];

/// The user that a sidecar runs as.
const PROXY_USER: u32 = 1337;

/// Packs programs that are built; prints file, name and id of each image.
///
/// # Errors
/// When they can't be packed or written.
pub(crate) fn run(options: &Options) -> Result<(), ImagesError> {
    let created = created(env::var_os("SOURCE_DATE_EPOCH"))?;
    let (programs, output) = (&options.programs, &options.output);
    fs::create_dir_all(output).map_err(file("make the folder", output))?;
    for program in PROGRAMS {
        let image = program.image(programs, &options.tag, created)?;
        let packed = image.pack()?;
        let path = output.join(program.file());
        // Whoever reads it meanwhile sees the old one or the new one, never half.
        let unfinished = path.with_extension("tar.new");
        fs::write(&unfinished, &packed.bytes).map_err(file("write", &unfinished))?;
        fs::rename(&unfinished, &path).map_err(file("write", &path))?;
        let megabytes = packed.bytes.len() / 1_000_000;
        println!(
            "{}  {}  {}  {megabytes} MB",
            path.display(),
            image.name,
            packed.id
        );
    }
    Ok(())
}

/// Where `cargo xtask images` has them written when it isn't told otherwise.
pub(crate) fn archives(workspace: &Workspace) -> impl Iterator<Item = PathBuf> {
    let folder = folder(workspace);
    PROGRAMS
        .iter()
        .map(move |program| folder.join(program.file()))
}

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target().join("images")
}

impl Program {
    fn file(self) -> String {
        format!("{}.tar", self.name)
    }

    fn image(self, programs: &Path, tag: &str, created: u64) -> Result<Image, weft_tests::Error> {
        let mut image = Image::new(format!("{}:{tag}", self.repository));
        let path = format!("/usr/local/bin/{}", self.name);
        image.add_program(&programs.join(self.name), &path)?;
        // Key sets of issuers, and services outside that speak TLS, are the world's.
        image.add_certificate_authorities()?;
        image.entrypoint = vec![path];
        image.user = self.user;
        image.created = created;
        image.labels = BTreeMap::from(
            [
                ("org.opencontainers.image.title", self.title),
                ("org.opencontainers.image.version", tag),
                ("org.opencontainers.image.licenses", "Apache-2.0"),
            ]
            .map(|(label, text)| (label.to_owned(), text.to_owned())),
        );
        Ok(image)
    }
}

fn created(epoch: Option<OsString>) -> Result<u64, ImagesError> {
    let Some(epoch) = epoch else {
        return Ok(0);
    };
    let seconds = epoch.to_str().and_then(|text| text.parse().ok());
    seconds.ok_or_else(|| ImagesError::Epoch(epoch.to_string_lossy().into_owned()))
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImagesError {
    let path = path.to_owned();
    move |error| ImagesError::File {
        action,
        path,
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_has_its_program_as_entrypoint_and_packs_the_same_twice() {
        let folder = tempfile::tempdir().unwrap();
        for program in PROGRAMS {
            // Any will do: this is not about building.
            fs::copy("/bin/true", folder.path().join(program.name)).unwrap();
            let pack = || program.image(folder.path(), "1.2", 7).unwrap();
            let image = pack();
            assert_eq!(image.name, format!("{}:1.2", program.repository));
            assert_eq!(
                image.entrypoint,
                [format!("/usr/local/bin/{}", program.name)]
            );
            let packed = image.pack().unwrap();
            let text = String::from_utf8_lossy(&packed.bytes);
            assert!(text.contains("etc/ssl/certs/ca-certificates.crt"));
            assert_eq!(packed, pack().pack().unwrap());
        }
    }

    #[test]
    fn what_is_deployed_is_this_version() {
        let version = env!("CARGO_PKG_VERSION");
        let workspace = Workspace::find();
        let read = |path: &str| fs::read_to_string(workspace.root().join(path)).unwrap();
        let kustomization = read("deploy/base/kustomization.yaml");
        for program in PROGRAMS {
            let image = format!("name: {}\n    newTag: {version}\n", program.repository);
            assert!(kustomization.contains(&image), "{image}");
        }
        assert!(
            read("deploy/uninstall/kustomization.yaml").contains(&format!("newTag: {version}\n"))
        );
        let label = format!("app.kubernetes.io/version: {version}\n");
        assert!(kustomization.contains(&label), "{label}");
        let chart = read("deploy/helm/weft/Chart.yaml");
        assert!(chart.contains(&format!("appVersion: {version}\n")));
        let control_plane = read("deploy/base/control-plane.yaml");
        let injected = format!("--sidecar-image=weft/sidecar:{version}\n");
        assert!(control_plane.contains(&injected), "{injected}");
    }

    #[test]
    fn the_time_is_the_variables_or_1970() {
        assert_eq!(created(None).unwrap(), 0);
        assert_eq!(created(Some("1700000000".into())).unwrap(), 1_700_000_000);
        let error = created(Some("yesterday".into())).unwrap_err();
        assert!(error.to_string().contains("`yesterday`"), "{error}");
    }
}
