//! One Go module with the programs that are built from it.

// It says what it is doing: the first build takes minutes.
#![allow(clippy::print_stderr)]

use std::fmt::Write;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::ProvisionError;
use crate::folders;
use crate::packages::{ensure_files, ensure_programs};

type Result<T> = std::result::Result<T, ProvisionError>;

/// Calls C: needs a compiler, a library, and says at run time what it lacks.
const RUNC: &str = "github.com/opencontainers/runc";
/// The one that is a test of Go's: `gateway-api/conformance`.
const CONFORMANCE_TEST: &str = "conformance_test.go";
/// Where the version of Kubernetes is put in, or all of it calls itself v0.0.0.
const VERSION_VARIABLES: &str = "k8s.io/component-base/version.git";

/// A folder below `tests/kube` with its place in the cache.
pub(super) struct Module {
    name: String,
    folder: PathBuf,
    cache: PathBuf,
    definition: String,
}

impl Module {
    pub(super) fn open(workspace: &Path, name: &str) -> Result<Self> {
        let folder = workspace.join("tests/kube").join(name);
        let definition = folder.join("go.mod");
        let definition = fs::read_to_string(&definition).map_err(ProvisionError::system(
            format!("read {}", definition.display()),
        ))?;
        // What is built elsewhere by another compiler is no reason to build again, so this
        // need not be the same for ever.
        let mut digest = DefaultHasher::new();
        definition.hash(&mut digest);
        // Some have no dependencies, and only one has code of its own.
        for file in ["go.sum", "main.go", CONFORMANCE_TEST] {
            fs::read_to_string(folder.join(file))
                .unwrap_or_default()
                .hash(&mut digest);
        }
        let cache = folders::cache().ok_or_else(|| {
            ProvisionError::Missing("HOME is not set: there is no place for a cache".to_owned())
        })?;
        let cache = cache.join(format!("kube/{name}-{:016x}", digest.finish()));
        Ok(Self {
            name: name.to_owned(),
            folder,
            cache,
            definition,
        })
    }

    /// The folder with its `go.mod`.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The packages of go.mod's `tool` directive.
    fn packages(&self) -> Vec<&str> {
        let mut packages = Vec::new();
        let mut in_block = false;
        for line in self.definition.lines().map(str::trim) {
            match line {
                "tool (" => in_block = true,
                ")" => in_block = false,
                _ if in_block => packages.push(line),
                _ => packages.extend(line.strip_prefix("tool ")),
            }
        }
        if self.folder.join(CONFORMANCE_TEST).is_file() {
            packages.push(CONFORMANCE_TEST);
        }
        packages
    }

    /// Every program that it has.
    pub(super) fn programs(&self) -> Vec<String> {
        self.packages()
            .into_iter()
            .map(|package| self.program_of(package))
            .collect()
    }

    /// Whether a program is built.
    pub(super) fn has(&self, program: &str) -> bool {
        let name = program.rsplit('/').next().unwrap_or(program);
        self.cache.join(name).is_file()
    }

    fn program_of(&self, package: &str) -> String {
        format!("{}/{}", self.name, program_name(package))
    }

    /// Programs with their paths; builds first what isn't there.
    pub(super) fn ensure(&self, programs: &[&str]) -> Result<Vec<(String, PathBuf)>> {
        let mut packages = Vec::new();
        for program in programs {
            let is_of = |package: &&str| self.program_of(package) == *program;
            packages.push(self.packages().into_iter().find(is_of).ok_or_else(|| {
                let folder = self.folder.display();
                ProvisionError::Missing(format!("{folder}/go.mod names no tool for {program}"))
            })?);
        }
        let path = |package: &str| self.cache.join(program_name(package));
        if !packages.iter().all(|package| path(package).is_file()) {
            ensure_programs(&[("go", "golang-go")])?;
            let cache = self.cache.display();
            let system = |what| ProvisionError::system(format!("{what} {cache}"));
            fs::create_dir_all(&self.cache).map_err(system("create"))?;
            let lock = File::create(self.cache.join("lock")).map_err(system("open a lock in"))?;
            lock.lock().map_err(system("take the lock of"))?;
            // Whoever had the lock may have built some.
            let missing = packages.iter().filter(|package| !path(package).is_file());
            self.build(&missing.copied().collect::<Vec<_>>())?;
        }
        let built = packages.into_iter();
        Ok(built
            .map(|package| (self.program_of(package), path(package)))
            .collect())
    }

    /// All that one command can build at once, for the sake of what they share and of
    /// linkers that use one core; then those that need flags of their own.
    fn build(&self, packages: &[&str]) -> Result<()> {
        let (special, plain): (Vec<&str>, Vec<&str>) = packages
            .iter()
            .partition(|package| [RUNC, CONFORMANCE_TEST].contains(package));
        if !plain.is_empty() {
            self.build_at_once(&plain, &["build"], &[])?;
        }
        for package in special {
            if package == RUNC {
                ensure_programs(&[("gcc", "gcc"), ("pkg-config", "pkg-config")])?;
                ensure_files(&[("/usr/include/seccomp.h", "libseccomp-dev")])?;
                self.build_at_once(&[RUNC], &["build"], &["-tags", "seccomp"])?;
            } else {
                self.build_at_once(&[package], &["test", "-c"], &[])?;
            }
        }
        Ok(())
    }

    fn build_at_once(&self, packages: &[&str], action: &[&str], flags: &[&str]) -> Result<()> {
        let names: Vec<_> = packages
            .iter()
            .map(|package| program_name(package))
            .collect();
        eprintln!(
            "building {} from {} (once; with Kubernetes it takes minutes)",
            names.join(", "),
            self.folder.display()
        );
        let unfinished = self.cache.join("unfinished");
        let log = self.cache.join("log");
        let system = |what: &str| ProvisionError::system(format!("{what} {}", log.display()));
        fs::create_dir_all(&unfinished).map_err(system("make a folder beside"))?;
        let output = File::create(&log).map_err(system("create"))?;
        let is_c = packages == [RUNC];
        let is_test = packages == [CONFORMANCE_TEST];
        let target = if is_test {
            unfinished.join(names[0])
        } else {
            unfinished.clone()
        };
        let status = Command::new("go")
            .current_dir(&self.folder)
            .env("GOTOOLCHAIN", "auto")
            .env("CGO_ENABLED", if is_c { "1" } else { "0" })
            .args(action)
            .args(["-buildvcs=false", "-trimpath", "-ldflags"])
            .arg(self.linker_flags())
            .args(flags)
            .arg("-o")
            .arg(target)
            .args(if is_test { &["."] } else { packages })
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(system("open again"))?)
            .stderr(output)
            .status()
            .map_err(ProvisionError::system("run go"))?;
        if !status.success() {
            return Err(ProvisionError::Program {
                command: format!("go {} {}", action.join(" "), packages.join(" ")),
                status: status.to_string(),
                hint: format!(
                    "it takes Go 1.21 or newer, which fetches the version that go.mod names. Its \
                     log is {}, which ends with:\n{}",
                    log.display(),
                    end_of(&log)
                ),
            });
        }
        for name in names {
            let path = self.cache.join(name);
            fs::rename(unfinished.join(name), &path)
                .map_err(ProvisionError::system(format!("name {}", path.display())))?;
        }
        Ok(())
    }

    fn linker_flags(&self) -> String {
        let mut flags = "-s -w".to_owned();
        let required = self.definition.lines().find_map(|line| {
            line.trim_start_matches("require ")
                .trim()
                .strip_prefix("k8s.io/kubernetes v")
        });
        if let Some(version) = required {
            let version = version.split_whitespace().next().unwrap_or(version);
            let mut parts = version.split('.');
            let values = [
                ("Version", Some(format!("v{version}"))),
                ("Major", parts.next().map(str::to_owned)),
                ("Minor", parts.next().map(str::to_owned)),
            ];
            for (variable, value) in values {
                // Writing to a text can't fail.
                let value = value.unwrap_or_default();
                let _ = write!(flags, " -X {VERSION_VARIABLES}{variable}={value}");
            }
        }
        flags
    }
}

fn end_of(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// As `go build` names it: the last part of the path that isn't a major version.
fn program_name(package: &str) -> &str {
    let is_version = |part: &&str| {
        let digits = part.strip_prefix('v');
        digits.is_some_and(|digits| digits.chars().all(|digit| digit.is_ascii_digit()))
    };
    let mut parts = package.rsplit('/').skip_while(is_version);
    let name = parts.next().unwrap_or(package);
    name.strip_suffix("_test.go").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str) -> Module {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        Module::open(package.ancestors().nth(2).unwrap(), name).unwrap()
    }

    #[test]
    fn the_tools_of_a_module_are_its_programs() {
        assert_eq!(module("etcd").programs(), ["etcd/server"]);
        assert_eq!(
            module("gateway-api").programs(),
            ["gateway-api/conformance"]
        );
        assert!(
            module("kubernetes")
                .programs()
                .contains(&"kubernetes/kubelet".to_owned())
        );
        assert!(
            module("containerd")
                .programs()
                .contains(&"containerd/runc".to_owned())
        );
    }

    #[test]
    fn kubernetes_is_told_its_version_and_others_are_not() {
        let flags = module("kubernetes").linker_flags();
        assert!(flags.contains("version.gitVersion=v1."), "{flags}");
        assert!(flags.contains("version.gitMajor=1 "), "{flags}");
        assert_eq!(module("pause").linker_flags(), "-s -w");
    }
}
