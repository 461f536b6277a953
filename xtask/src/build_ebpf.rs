//! `cargo xtask build-ebpf`: builds the kernel programs, with whatever compiler for
//! them this machine has, or can get.
//!
//! 1. find a compiler with a `core` for BPF ([`toolchain`]), install one where that may
//!    be done ([`packages`]), else say what to install
//! 2. find or build a linker that reads the compiler's LLVM bitcode ([`linker`])
//! 3. build, and put the object where the node agent's build script looks for it

mod command;
mod error;
mod linker;
mod packages;
mod toolchain;
mod versions;

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use xtask::options::BuildEbpf as Options;
use xtask::workspace::{REMAP_RUST, remap_paths};

use command::{execute, say};
pub(crate) use error::BuildEbpfError;
use error::file;
use toolchain::Toolchain;
use versions::TARGET;

const OBJECT: &str = "weft-ebpf";
/// Crates that use unstable features; only a nightly compiler allows them unasked.
const UNSTABLE_CRATES: &str = "aya_ebpf,aya_ebpf_cty,aya_log_ebpf,weft_ebpf";

/// Where everything is.
#[derive(Clone, Debug)]
struct Folders {
    workspace: PathBuf,
    target: PathBuf,
}

impl Folders {
    fn find() -> Self {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let workspace = package.parent().unwrap_or(package).to_owned();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(directory) => workspace.join(directory),
            None => workspace.join("target"),
        };
        Self { workspace, target }
    }

    /// The object, as the node agent's build script expects it.
    fn object(&self) -> PathBuf {
        self.target.join("ebpf").join(OBJECT)
    }

    /// What the object was built from.
    fn stamp(&self) -> PathBuf {
        self.target.join("ebpf").join("weft-ebpf.stamp")
    }
}

/// Builds the kernel programs unless they are up to date; returns the object's path.
///
/// # Errors
/// When no compiler can be found or installed, or the build fails.
pub(crate) fn run(options: &Options) -> Result<PathBuf, BuildEbpfError> {
    let folders = Folders::find();
    let object = folders.object();
    let inputs = hash_inputs(&folders.workspace)?;
    if !options.force && object.is_file() && is_stamped(&folders.stamp(), &inputs) {
        say(&format!(
            "eBPF programs are up to date: {}",
            object.display()
        ));
        return Ok(object);
    }
    let start = Instant::now();
    let toolchain = find_toolchain(&folders)?;
    say(&format!("building the eBPF programs with {toolchain}"));
    let linker = linker::find(&toolchain, &folders.target)?;
    let built = build(&folders, &toolchain, &linker)?;
    publish(&built, &object)?;
    let stamp = folders.stamp();
    fs::write(&stamp, inputs).map_err(file("write", &stamp))?;
    let seconds = start.elapsed().as_secs_f32();
    say(&format!(
        "eBPF programs are ready after {seconds:.1} s: {}",
        object.display()
    ));
    Ok(object)
}

/// What is on the machine, or what can be put there.
fn find_toolchain(folders: &Folders) -> Result<Toolchain, BuildEbpfError> {
    let unusable = match toolchain::find() {
        Ok(toolchain) => return Ok(toolchain),
        Err(unusable) => unusable,
    };
    if !packages::may_install() {
        return Err(BuildEbpfError::NoToolchain(unusable));
    }
    packages::install(&folders.target.join("tools"))?;
    toolchain::find().map_err(BuildEbpfError::NoToolchain)
}

fn build(
    folders: &Folders,
    toolchain: &Toolchain,
    linker: &Path,
) -> Result<PathBuf, BuildEbpfError> {
    let target = folders.target.join("ebpf-build");
    let mut command = toolchain.cargo();
    command
        .current_dir(folders.workspace.join("ebpf/programs"))
        .args(["build", "--release", "--locked", "--target", TARGET])
        .args(toolchain.build_arguments())
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", {
            let mut flags = flags(linker);
            flags.push("\x1f");
            flags.push(remap_paths(REMAP_RUST, "\x1f", &folders.workspace));
            flags
        });
    if toolchain.needs_bootstrap() {
        command.env("RUSTC_BOOTSTRAP", UNSTABLE_CRATES);
    }
    execute(&mut command, "building the eBPF programs")?;
    Ok(target.join(TARGET).join("release").join(OBJECT))
}

/// Flags of the compiler, in cargo's encoding.
fn flags(linker: &Path) -> OsString {
    let mut flags = OsString::from(format!(
        "--cfg=bpf_target_arch=\"{}\"\x1f-Cdebuginfo=2\x1f-Clink-arg=--btf\x1f-Clinker=",
        env::consts::ARCH
    ));
    flags.push(linker);
    flags
}

/// Puts the object in its place, at once and only when it is another: the node agent is
/// rebuilt when the file changes.
fn publish(built: &Path, object: &Path) -> Result<(), BuildEbpfError> {
    let new = fs::read(built).map_err(file("read", built))?;
    if fs::read(object).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let folder = object.parent().unwrap_or(object);
    fs::create_dir_all(folder).map_err(file("make the folder", folder))?;
    let unfinished = object.with_extension("new");
    fs::write(&unfinished, new).map_err(file("write", &unfinished))?;
    fs::rename(&unfinished, object).map_err(file("write", object))
}

fn is_stamped(stamp: &Path, inputs: &str) -> bool {
    fs::read_to_string(stamp).is_ok_and(|text| text == inputs)
}

/// A digest of every source that goes into the object.
fn hash_inputs(workspace: &Path) -> Result<String, BuildEbpfError> {
    let mut hasher = DefaultHasher::new();
    for folder in ["ebpf/common", "ebpf/programs"] {
        hash_folder(&workspace.join(folder), &mut hasher)?;
    }
    UNSTABLE_CRATES.hash(&mut hasher);
    flags(Path::new(versions::LINKER)).hash(&mut hasher);
    // Not the paths: what is built doesn't depend on them.
    REMAP_RUST.hash(&mut hasher);
    Ok(format!("{:016x}\n", hasher.finish()))
}

fn hash_folder(folder: &Path, hasher: &mut DefaultHasher) -> Result<(), BuildEbpfError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    };
    let mut paths = list().map_err(file("list", folder))?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                hash_folder(&path, hasher)?;
            }
        } else if path
            .extension()
            .is_some_and(|kind| kind == "rs" || kind == "toml" || kind == "lock")
        {
            path.file_name().hash(hasher);
            fs::read(&path).map_err(file("read", &path))?.hash(hasher);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace with just the folders that are hashed.
    fn sources() -> tempfile::TempDir {
        let workspace = tempfile::tempdir().unwrap();
        for folder in [
            "ebpf/common/src",
            "ebpf/programs/src",
            "ebpf/programs/target/release",
        ] {
            fs::create_dir_all(workspace.path().join(folder)).unwrap();
        }
        workspace
    }

    #[test]
    fn a_changed_source_or_lockfile_asks_for_a_build_and_a_built_file_does_not() {
        let workspace = sources();
        let hash = || hash_inputs(workspace.path()).unwrap();
        let write = |path: &str| fs::write(workspace.path().join(path), path).unwrap();
        let mut earlier = hash();
        for path in [
            "ebpf/common/src/lib.rs",
            "ebpf/programs/Cargo.lock",
            "ebpf/programs/src/a.rs",
        ] {
            write(path);
            assert_ne!(hash(), earlier, "{path}");
            earlier = hash();
        }
        write("ebpf/programs/target/release/built.rs");
        write("ebpf/programs/LICENSE-MIT");
        assert_eq!(hash(), earlier);
    }

    #[test]
    fn an_unchanged_object_keeps_its_time_so_that_the_agent_is_not_built_again() {
        let folder = tempfile::tempdir().unwrap();
        let (built, object) = (
            folder.path().join("built"),
            folder.path().join("ebpf/object"),
        );
        fs::write(&built, "one").unwrap();
        publish(&built, &object).unwrap();
        let time = || fs::metadata(&object).unwrap().modified().unwrap();
        let first = time();
        publish(&built, &object).unwrap();
        assert_eq!(time(), first);
        fs::write(&built, "another").unwrap();
        publish(&built, &object).unwrap();
        assert_eq!(fs::read_to_string(&object).unwrap(), "another");
    }
}
