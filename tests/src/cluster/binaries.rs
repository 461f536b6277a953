//! The programs of Kubernetes: built once from the Go modules in `tests/kube`, kept
//! outside the tree.

// It says what it is doing: the first build takes minutes.
#![allow(clippy::print_stderr)]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aws_lc_rs::digest::{SHA256, digest};

use crate::error::{Error, Result};
use crate::packages::{ensure_files, ensure_programs};

/// What an API server alone needs, and the name of each in KUBEBUILDER_ASSETS.
const API_SERVER: [(&str, &str); 3] = [
    ("etcd/server", "etcd"),
    ("kubernetes/kube-apiserver", "kube-apiserver"),
    ("kubernetes/kubectl", "kubectl"),
];
/// The modules that a whole cluster needs.
const CLUSTER: [&str; 5] = ["pause", "etcd", "kubernetes", "containerd", "coredns"];
/// Calls C: needs a compiler, a library, and says at run time what it lacks.
const RUNC: &str = "github.com/opencontainers/runc";
/// The one that is a test of Go's: `gateway-api/conformance`.
const CONFORMANCE: &str = "conformance_test.go";
const GATEWAY_API: &str = "gateway-api";
/// Where the version of Kubernetes is put in, or all of it calls itself v0.0.0.
const VERSION_VARIABLES: &str = "k8s.io/component-base/version.git";

/// Programs that are there, by module and name, such as `kubernetes/kubelet`.
#[derive(Clone, Debug, Default)]
pub struct Binaries(BTreeMap<String, PathBuf>);

impl Binaries {
    /// Everything that a cluster needs.
    ///
    /// # Errors
    /// When Go is missing and can't be installed, or something doesn't build.
    pub fn ensure(workspace: &Path) -> Result<Self> {
        let mut found = Self::api_server(workspace)?;
        found.add_modules(workspace, &CLUSTER)?;
        Ok(found)
    }

    /// etcd, kube-apiserver and kubectl: from the directory that KUBEBUILDER_ASSETS
    /// names, where it is set, else built.
    ///
    /// # Errors
    /// When Go is missing and can't be installed, or something doesn't build.
    pub fn api_server(workspace: &Path) -> Result<Self> {
        let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        let mut found = BTreeMap::new();
        for (program, asset) in API_SERVER {
            let asset = assets.as_ref().map(|assets| assets.join(asset));
            let path = match asset.filter(|path| path.is_file()) {
                Some(path) => path,
                None => Module::of_program(workspace, program)?.ensure(program)?,
            };
            found.insert(program.to_owned(), path);
        }
        Ok(Self(found))
    }

    /// Adds all programs of further modules; what is there already stays.
    ///
    /// # Errors
    /// When something doesn't build.
    pub fn add_modules(&mut self, workspace: &Path, modules: &[&str]) -> Result<()> {
        for name in modules {
            let module = Module::open(workspace, name)?;
            for program in module.programs() {
                if let Entry::Vacant(vacant) = self.0.entry(program) {
                    let path = module.ensure(vacant.key())?;
                    vacant.insert(path);
                }
            }
        }
        Ok(())
    }

    /// Adds one further program.
    ///
    /// # Errors
    /// When it doesn't build.
    pub fn add(&mut self, workspace: &Path, program: &str) -> Result<()> {
        let path = Module::of_program(workspace, program)?.ensure(program)?;
        self.0.insert(program.to_owned(), path);
        Ok(())
    }

    /// One program alone, such as a client for tests.
    ///
    /// # Errors
    /// When Go is missing and can't be installed, or it doesn't build.
    pub fn program(workspace: &Path, program: &str) -> Result<PathBuf> {
        Module::of_program(workspace, program)?.ensure(program)
    }

    /// The folder with the CRDs of the Gateway API, `standard` and `experimental`, for
    /// `kubectl apply --server-side -k` and `-f`.
    ///
    /// # Errors
    /// When Go is missing and can't be installed, or can't get the module.
    pub fn gateway_api_crds(workspace: &Path) -> Result<PathBuf> {
        let module = Self::gateway_api_module(workspace, "sigs.k8s.io/gateway-api")?;
        Ok(module.join("config/crd"))
    }

    /// The folder with the files of a module that the one for the Gateway API requires.
    ///
    /// # Errors
    /// When Go is missing and can't be installed, or can't get the module.
    pub fn gateway_api_module(workspace: &Path, required: &str) -> Result<PathBuf> {
        ensure_programs(&[("go", "golang-go")])?;
        let module = Module::open(workspace, GATEWAY_API)?;
        let line = ["mod", "download", "-json", required];
        let output = Command::new("go")
            .current_dir(&module.folder)
            .env("GOTOOLCHAIN", "auto")
            .args(line)
            .stdin(Stdio::null())
            .output()
            .map_err(Error::system("run go"))?;
        let answer: Option<serde_json::Value> = serde_json::from_slice(&output.stdout).ok();
        let directory = answer.and_then(|answer| answer["Dir"].as_str().map(PathBuf::from));
        directory.ok_or_else(|| Error::Program {
            command: format!("go {}", line.join(" ")),
            status: output.status.to_string(),
            output: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Where a program is.
    ///
    /// # Errors
    /// When it wasn't asked for.
    pub fn path(&self, program: &str) -> Result<&Path> {
        let path = self.0.get(program).map(PathBuf::as_path);
        path.ok_or_else(|| Error::Missing(format!("{program} was not built")))
    }

    /// The same as text, for a command line.
    ///
    /// # Errors
    /// When it wasn't asked for, or its path isn't text.
    pub fn text(&self, program: &str) -> Result<String> {
        let path = self.path(program)?;
        let text = path.to_str().map(str::to_owned);
        text.ok_or_else(|| Error::Unreadable(format!("{} is not UTF-8", path.display())))
    }
}

/// A folder below `tests/kube` with its place in the cache.
struct Module {
    name: String,
    folder: PathBuf,
    cache: PathBuf,
    definition: String,
}

impl Module {
    fn of_program(workspace: &Path, program: &str) -> Result<Self> {
        Self::open(workspace, program.split('/').next().unwrap_or(program))
    }

    fn open(workspace: &Path, name: &str) -> Result<Self> {
        let folder = workspace.join("tests/kube").join(name);
        let definition = folder.join("go.mod");
        let definition = fs::read_to_string(&definition)
            .map_err(Error::system(format!("read {}", definition.display())))?;
        let mut text = definition.clone();
        // Some have no dependencies, and only one has code of its own.
        for file in ["go.sum", "main.go", CONFORMANCE] {
            text += &fs::read_to_string(folder.join(file)).unwrap_or_default();
        }
        let cache = cache_directory()?.join(format!("{name}-{}", short_hash(&text)));
        Ok(Self {
            name: name.to_owned(),
            folder,
            cache,
            definition,
        })
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
        if self.folder.join(CONFORMANCE).is_file() {
            packages.push(CONFORMANCE);
        }
        packages
    }

    fn programs(&self) -> Vec<String> {
        let names = self.packages().into_iter().map(program_name);
        names.map(|name| format!("{}/{name}", self.name)).collect()
    }

    /// Where the program is; builds it first when it isn't there.
    fn ensure(&self, program: &str) -> Result<PathBuf> {
        let package = self
            .packages()
            .into_iter()
            .find(|package| program == format!("{}/{}", self.name, program_name(package)))
            .ok_or_else(|| {
                let folder = self.folder.display();
                Error::Missing(format!("{folder}/go.mod names no tool for {program}"))
            })?;
        let path = self.cache.join(program_name(package));
        if path.is_file() {
            return Ok(path);
        }
        ensure_programs(&[("go", "golang-go")])?;
        let cache = self.cache.display();
        fs::create_dir_all(&self.cache).map_err(Error::system(format!("create {cache}")))?;
        let lock = self.cache.join("lock");
        let lock = File::create(&lock).map_err(Error::system(format!("create {cache}/lock")))?;
        lock.lock()
            .map_err(Error::system(format!("lock {cache}/lock")))?;
        // Whoever had the lock may have built it.
        if !path.is_file() {
            self.build(package, &path)?;
        }
        Ok(path)
    }

    fn build(&self, package: &str, path: &Path) -> Result<()> {
        eprintln!(
            "building {} (the first time takes minutes)",
            program_name(package)
        );
        let unfinished = path.with_extension("unfinished");
        let mut command = Command::new("go");
        command
            .current_dir(&self.folder)
            .env("GOTOOLCHAIN", "auto")
            .env("CGO_ENABLED", if package == RUNC { "1" } else { "0" })
            .args(match package {
                CONFORMANCE => ["test", "-c"].as_slice(),
                _ => ["build"].as_slice(),
            })
            .args(["-buildvcs=false", "-trimpath", "-ldflags"])
            .arg(self.linker_flags())
            .arg("-o")
            .arg(&unfinished);
        if package == RUNC {
            ensure_programs(&[("gcc", "gcc"), ("pkg-config", "pkg-config")])?;
            ensure_files(&[("/usr/include/seccomp.h", "libseccomp-dev")])?;
            command.args(["-tags", "seccomp"]);
        }
        let status = command
            .arg(if package == CONFORMANCE { "." } else { package })
            .stdin(Stdio::null())
            .stdout(std::io::stderr())
            .status()
            .map_err(Error::system("run go"))?;
        if !status.success() {
            return Err(Error::Program {
                command: format!("go build {package}, in {}", self.folder.display()),
                status: status.to_string(),
                output: "see above; it takes Go 1.21 or newer, which fetches the version that \
                         go.mod names"
                    .to_owned(),
            });
        }
        fs::rename(&unfinished, path).map_err(Error::system(format!("name {}", path.display())))
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

fn cache_directory() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let missing = || Error::Missing("HOME is not set: there is no place for a cache".to_owned());
    Ok(cache.or_else(home).ok_or_else(missing)?.join("weft/kube"))
}

fn short_hash(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    hash.as_ref()[..8]
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str) -> Module {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        Module::open(workspace, name).unwrap()
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
