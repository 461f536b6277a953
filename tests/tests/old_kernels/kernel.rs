//! Kernels of Debian's releases, from the mirrors that this machine's apt uses, kept beside the
//! programs of Go in the user's cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use weft_provision::folders;
use weft_provision::packages::ensure_programs;

/// What a machine is made with, and Debian's packages that have it.
const PROGRAMS: [(&str, &str); 4] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
];
/// Folders of modules that a machine may need.
const MODULES: [&str; 9] = [
    "kernel/net",
    "kernel/lib",
    "kernel/crypto",
    "kernel/fs/9p",
    "kernel/fs/fscache",
    // netfs, where there is one.
    "kernel/fs/n",
    "kernel/fs/overlayfs",
    "kernel/drivers/virtio",
    "kernel/drivers/net/veth.ko",
];
/// What depmod writes at last.
const INDEX: &str = "modules.symbols.bin";
/// Who signs Debian's releases.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The package that depends on a release's kernel.
const NEWEST: &str = "linux-image-amd64";

/// A kernel with its modules, unpacked.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    folder: PathBuf,
    version: String,
}

impl Kernel {
    /// The kernel of a release of Debian's, such as `bookworm`.
    pub(crate) fn ensure(suite: &str) -> Result<Self, String> {
        ensure_programs(&PROGRAMS).map_err(|error| error.to_string())?;
        let cache = folders::cache().ok_or("set HOME or XDG_CACHE_HOME")?;
        let folder = cache.join("old-kernels").join(suite);
        let unpacked = folder.join("unpacked");
        let version = version_in(&unpacked).filter(|version| {
            let modules = unpacked.join("lib/modules").join(version);
            modules.join(INDEX).is_file()
        });
        if let Some(version) = version {
            return Ok(Self {
                folder: unpacked,
                version,
            });
        }
        let package = download(suite, &folder)?;
        let _ = fs::remove_dir_all(&unpacked);
        fs::create_dir_all(&unpacked).map_err(|error| error.to_string())?;
        unpack(&package, &unpacked)?;
        let version = version_in(&unpacked).ok_or("the package has no kernel")?;
        run("depmod", &["-b", &text(&unpacked), &version], &folder)?;
        let _ = fs::remove_file(package);
        Ok(Self {
            folder: unpacked,
            version,
        })
    }

    /// Its version, such as `6.1.0-56-amd64`.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.folder.join(format!("boot/vmlinuz-{}", self.version))
    }

    pub(crate) fn modules(&self) -> PathBuf {
        self.folder.join("lib/modules").join(&self.version)
    }
}

fn version_in(unpacked: &Path) -> Option<String> {
    let modules = fs::read_dir(unpacked.join("lib/modules")).ok()?;
    let folder = modules.flatten().map(|entry| entry.path()).next()?;
    Some(folder.file_name()?.to_str()?.to_owned())
}

/// The package's file. Its lists are this folder's own: the machine's stay as they are.
fn download(suite: &str, folder: &Path) -> Result<PathBuf, String> {
    let lists = folder.join("lists");
    fs::create_dir_all(lists.join("partial")).map_err(|error| error.to_string())?;
    let sources = folder.join("sources.list");
    fs::write(&sources, sources_of(suite)?).map_err(|error| error.to_string())?;
    let options = [
        format!("-oDir::Etc::SourceList={}", text(&sources)),
        "-oDir::Etc::SourceParts=-".to_owned(),
        format!("-oDir::State::Lists={}", text(&lists)),
        format!("-oDir::Cache={}", text(folder)),
        "-oAPT::Sandbox::User=root".to_owned(),
    ];
    let apt = |program: &str, line: &[&str]| {
        let options = options.iter().map(String::as_str);
        let line: Vec<_> = options.chain(line.iter().copied()).collect();
        run(program, &line, folder)
    };
    apt("apt-get", &["update"])?;
    let depends = apt("apt-cache", &["depends", NEWEST])?;
    let mut lines = depends.lines().map(str::trim);
    let package = lines.find_map(|line| line.strip_prefix("Depends: "));
    let package = package.ok_or_else(|| format!("{suite} has no {NEWEST}: {depends}"))?;
    apt("apt-get", &["download", package])?;
    let files = fs::read_dir(folder).map_err(|error| error.to_string())?;
    let mut files = files.flatten().map(|entry| entry.path());
    let file = files.find(|file| file.extension().is_some_and(|ending| ending == "deb"));
    file.ok_or_else(|| format!("{package} was not downloaded"))
}

/// The mirrors of this machine, for that release.
fn sources_of(suite: &str) -> Result<String, String> {
    let line = [
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ];
    let mirrors = run("apt-get", &line, Path::new("/"))?;
    let mut mirrors: Vec<_> = mirrors
        .lines()
        .filter(|line| line.contains("debian"))
        .collect();
    mirrors.sort_unstable();
    mirrors.dedup();
    let source = |mirror: &&str| {
        let suite = match mirror.contains("security") {
            true => format!("{suite}-security"),
            false => suite.to_owned(),
        };
        format!("deb [signed-by={KEYS}] {mirror} {suite} main\n")
    };
    match mirrors.is_empty() {
        false => Ok(mirrors.iter().map(source).collect()),
        true => Err("apt of this machine has no mirror of Debian's".to_owned()),
    }
}

/// The kernel and the modules that a machine may need, not all of the hundreds of megabytes.
fn unpack(package: &Path, to: &Path) -> Result<(), String> {
    let modules = MODULES.map(|folder| format!("'./lib/modules/*/{folder}*'"));
    let script = format!(
        "dpkg-deb --fsys-tarfile {} | tar -x -C {} --wildcards './boot/vmlinuz*' \
         './lib/modules/*/modules.*' {}",
        text(package),
        text(to),
        modules.join(" ")
    );
    run("sh", &["-c", &script], to).map(drop)
}

/// Runs a program to its end and gives back what it wrote.
pub(crate) fn run(program: &str, line: &[&str], folder: &Path) -> Result<String, String> {
    let output = Command::new(program)
        .args(line)
        .current_dir(folder)
        .output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!(
            "{program} {}: {}",
            line.join(" "),
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}
