//! Programs that are built from Go modules: Kubernetes, what tests it, what tests gRPC.
//!
//! The modules are in `tests/kube`, each a `go.mod` with a `tool` directive. What is built
//! from them is kept outside the tree ([`crate::folders::cache`]), by a digest of the
//! module: another version is built beside the old one.

mod module;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::ProvisionError;
use crate::packages::ensure_programs;
use module::Module;

type Result<T> = std::result::Result<T, ProvisionError>;

/// What an API server alone needs, and the name of each in KUBEBUILDER_ASSETS.
const API_SERVER: [(&str, &str); 3] = [
    ("etcd/server", "etcd"),
    ("kubernetes/kube-apiserver", "kube-apiserver"),
    ("kubernetes/kubectl", "kubectl"),
];
const CONTROLLER_MANAGER: &str = "kubernetes/kube-controller-manager";
/// The modules that a whole cluster needs; the largest first, because it is waited for.
const CLUSTER: [&str; 5] = ["kubernetes", "containerd", "coredns", "etcd", "pause"];
/// The modules of the Gateway API's conformance suite.
const CONFORMANCE: [&str; 2] = ["gateway-api", "echo"];
const GATEWAY_API: &str = "gateway-api";

/// What some tests need.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kit {
    /// Every program of a cluster. Before those that are a part of it: one command then
    /// builds them all, with what they share, and links them side by side.
    Cluster,
    /// etcd, kube-apiserver and kubectl: from the directory that KUBEBUILDER_ASSETS
    /// names, where it is set, else built.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// The Gateway API's conformance suite.
    Conformance,
    /// Helm.
    Helm,
    /// gRPC's own client and server for interoperability tests.
    GrpcInterop,
    /// The conformance tests of servers of HTTP/2.
    H2spec,
}

/// Programs that are there, by module and name, such as `kubernetes/kubelet`.
#[derive(Clone, Debug, Default)]
pub struct Binaries(BTreeMap<String, PathBuf>);

impl Binaries {
    /// Everything that a cluster needs.
    ///
    /// # Errors
    /// When Go is missing and can't be installed, or something doesn't build.
    pub fn ensure(workspace: &Path) -> Result<Self> {
        let mut found = Self::default();
        found.add_kit(workspace, Kit::Cluster)?;
        Ok(found)
    }

    /// etcd, kube-apiserver and kubectl.
    ///
    /// # Errors
    /// When Go is missing and can't be installed, or something doesn't build.
    pub fn api_server(workspace: &Path) -> Result<Self> {
        let mut found = Self::default();
        found.add_kit(workspace, Kit::ApiServer)?;
        Ok(found)
    }

    /// Adds what a kit has; what is there already stays.
    ///
    /// # Errors
    /// When Go is missing and can't be installed, or something doesn't build.
    pub fn add_kit(&mut self, workspace: &Path, kit: Kit) -> Result<()> {
        match kit {
            Kit::ApiServer => self.add_api_server(workspace),
            Kit::ControllerManager => {
                let path = Self::program(workspace, CONTROLLER_MANAGER)?;
                self.0.insert(CONTROLLER_MANAGER.to_owned(), path);
                Ok(())
            }
            Kit::Cluster => {
                self.add_assets();
                self.add_modules(workspace, &CLUSTER)
            }
            Kit::Conformance => self.add_modules(workspace, &CONFORMANCE),
            Kit::Helm => self.add_modules(workspace, &["helm"]),
            Kit::GrpcInterop => self.add_modules(workspace, &["grpc-interop"]),
            Kit::H2spec => self.add_modules(workspace, &["h2spec"]),
        }
    }

    fn add_api_server(&mut self, workspace: &Path) -> Result<()> {
        self.add_assets();
        let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (program, _) in API_SERVER
            .iter()
            .filter(|(program, _)| !self.0.contains_key(*program))
        {
            let module = program.split('/').next().unwrap_or(program);
            missing.entry(module).or_default().push(program);
        }
        for (module, programs) in missing {
            let built = Module::open(workspace, module)?.ensure(&programs)?;
            self.0.extend(built);
        }
        Ok(())
    }

    /// What the directory has that KUBEBUILDER_ASSETS names.
    fn add_assets(&mut self) {
        let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) else {
            return;
        };
        for (program, asset) in API_SERVER {
            let path = assets.join(asset);
            if path.is_file() {
                self.0.insert(program.to_owned(), path);
            }
        }
    }

    fn add_modules(&mut self, workspace: &Path, modules: &[&str]) -> Result<()> {
        for name in modules {
            let module = Module::open(workspace, name)?;
            let programs = module.programs();
            let missing: Vec<_> = programs
                .iter()
                .map(String::as_str)
                .filter(|program| !self.0.contains_key(*program))
                .collect();
            self.0.extend(module.ensure(&missing)?);
        }
        Ok(())
    }

    /// One program alone, such as a client for tests.
    ///
    /// # Errors
    /// When Go is missing and can't be installed, or it doesn't build.
    pub fn program(workspace: &Path, program: &str) -> Result<PathBuf> {
        let module = program.split('/').next().unwrap_or(program);
        let built = Module::open(workspace, module)?.ensure(&[program])?;
        let path = built.into_iter().find(|(name, _)| name == program);
        path.map(|(_, path)| path).ok_or_else(|| not_built(program))
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
        go_output(&module, &["mod", "download", required])?;
        let folder = go_output(&module, &["list", "-m", "-f", "{{.Dir}}", required])?;
        Ok(PathBuf::from(folder.trim()))
    }

    /// Where a program is.
    ///
    /// # Errors
    /// When it wasn't asked for.
    pub fn path(&self, program: &str) -> Result<&Path> {
        let path = self.0.get(program).map(PathBuf::as_path);
        path.ok_or_else(|| not_built(program))
    }

    /// The same as text, for a command line.
    ///
    /// # Errors
    /// When it wasn't asked for, or its path isn't text.
    pub fn text(&self, program: &str) -> Result<String> {
        let path = self.path(program)?;
        let text = path.to_str().map(str::to_owned);
        text.ok_or_else(|| ProvisionError::Missing(format!("{} is not UTF-8", path.display())))
    }
}

/// Whether all of a kit is built, or given; says nothing about whether it works.
///
/// # Errors
/// When a `go.mod` can't be read.
pub fn is_built(workspace: &Path, kit: Kit) -> Result<bool> {
    let modules: &[&str] = match kit {
        Kit::ApiServer => {
            let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
            let is_given = |asset| {
                assets
                    .as_ref()
                    .is_some_and(|path| path.join(asset).is_file())
            };
            for (program, asset) in API_SERVER {
                let module = program.split('/').next().unwrap_or(program);
                if !is_given(asset) && !Module::open(workspace, module)?.has(program) {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        Kit::ControllerManager => {
            return Ok(Module::open(workspace, "kubernetes")?.has(CONTROLLER_MANAGER));
        }
        Kit::Cluster => &CLUSTER,
        Kit::Conformance => &CONFORMANCE,
        Kit::Helm => &["helm"],
        Kit::GrpcInterop => &["grpc-interop"],
        Kit::H2spec => &["h2spec"],
    };
    for module in modules {
        let module = Module::open(workspace, module)?;
        if !module.programs().iter().all(|program| module.has(program)) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn go_output(module: &Module, arguments: &[&str]) -> Result<String> {
    let output = Command::new("go")
        .current_dir(module.folder())
        .env("GOTOOLCHAIN", "auto")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(ProvisionError::system("run go"))?;
    if !output.status.success() {
        return Err(ProvisionError::Program {
            command: format!("go {}", arguments.join(" ")),
            status: output.status.to_string(),
            hint: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn not_built(program: &str) -> ProvisionError {
    ProvisionError::Missing(format!("{program} was not built"))
}
