//! etcd and kube-apiserver, and what controls the objects in it where asked for.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::Binaries;
use super::certificates::Authority;
use super::kubeconfig::{Endpoint, Identity};
use super::kubectl::Kubectl;
use crate::error::{Error, Result};
use crate::process::{Place, Process};
use crate::run::RunId;
use crate::wait::wait_for;

/// How long an API server may take to be ready on a loaded machine.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// Where an API server with a network of its own listens.
pub(super) const API_SERVER_PORT: u16 = 6443;
/// Who issues the tokens of service accounts.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// First address of the services: the API server's own.
const KUBERNETES_SERVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1));
/// Where the addresses of services come from.
const SERVICES: &str = "10.96.0.0/16";

/// What an [`ApiServer`] shall be.
#[derive(Clone, Debug, Default)]
pub struct ApiServerOptions {
    /// Run kube-controller-manager too: service accounts of new namespaces, endpoint
    /// slices, the ends of deleted namespaces.
    pub controllers: bool,
    /// Further flags of kube-apiserver.
    pub flags: Vec<String>,
}

/// A network namespace for the control plane, with nodes around it.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub(super) place: Place,
    pub(super) address: IpAddr,
}

/// A running API server, gone when dropped or when this process ends.
#[derive(Debug)]
pub struct ApiServer {
    // In this order: who uses it before it, files last.
    controllers: Vec<Process>,
    api_server: Process,
    etcd: Process,
    admin: Kubectl,
    authority: Authority,
    endpoint: Endpoint,
    directory: TempDir,
}

impl ApiServer {
    /// Starts one on free ports of the loopback interface, with RBAC, and waits until it
    /// is ready. Needs no root.
    ///
    /// # Errors
    /// When it doesn't get ready, with the end of its log.
    pub fn start(binaries: &Binaries) -> Result<Self> {
        Self::start_with(binaries, &ApiServerOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// When it doesn't get ready, with the end of its log.
    pub fn start_with(binaries: &Binaries, options: &ApiServerOptions) -> Result<Self> {
        Self::start_at(binaries, options, None)
    }

    /// The same in a namespace of its own, with a scheduler: the control plane of a
    /// cluster.
    pub(super) fn start_at(
        binaries: &Binaries,
        options: &ApiServerOptions,
        home: Option<&Home>,
    ) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix(&RunId::new()?.name("api-server"))
            .rand_bytes(0)
            .tempdir()
            .map_err(Error::system("make a directory for an API server"))?;
        let address = home.map_or(Ipv4Addr::LOCALHOST.into(), |home| home.address);
        let authority = Authority::new()?;
        write_credentials(&authority, directory.path(), address)?;
        let [port, etcd, etcd_peers] = match home {
            Some(_) => [API_SERVER_PORT, 2379, 2380],
            None => free_ports()?,
        };
        let start = Start {
            binaries,
            options,
            home,
            directory: directory.path().to_owned(),
        };
        let etcd_url = format!("http://127.0.0.1:{etcd}");
        let etcd = start.etcd(&etcd_url, etcd_peers)?;
        let api_server = start.api_server(&etcd_url, address, port)?;
        let endpoint = Endpoint {
            url: format!("https://{address}:{port}"),
            authority: authority.certificate(),
        };
        let kubeconfig = directory.path().join("admin.kubeconfig");
        let admin = authority.client("admin", &["system:masters"])?;
        endpoint.write_kubeconfig(&kubeconfig, Identity::Certificate(&admin))?;
        let mut server = Self {
            controllers: Vec::new(),
            api_server,
            etcd,
            admin: Kubectl::new(binaries.path("kubernetes/kubectl")?, &kubeconfig),
            authority,
            endpoint,
            directory,
        };
        server.wait_until_ready(&start)?;
        if options.controllers {
            let user = "system:kube-controller-manager";
            server.start_controller(&start, "kube-controller-manager", user)?;
        }
        if home.is_some() {
            server.start_controller(&start, "kube-scheduler", "system:kube-scheduler")?;
        }
        Ok(server)
    }

    /// kubectl as a member of `system:masters`.
    pub fn kubectl(&self) -> &Kubectl {
        &self.admin
    }

    /// The kubeconfig of a member of `system:masters`.
    pub fn kubeconfig(&self) -> &Path {
        self.admin.kubeconfig()
    }

    /// Where it is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What signs its clients and servers.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Its files and logs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// kubectl as somebody else, by a client certificate.
    ///
    /// # Errors
    /// When the kubeconfig can't be written.
    pub fn kubectl_as(&self, user: &str, groups: &[&str]) -> Result<Kubectl> {
        let credential = self.authority.client(user, groups)?;
        self.kubectl_of(user, Identity::Certificate(&credential))
    }

    /// kubectl with a bearer token; `name` tells its kubeconfig from others.
    ///
    /// # Errors
    /// When the kubeconfig can't be written.
    pub fn kubectl_with_token(&self, name: &str, token: &str) -> Result<Kubectl> {
        self.kubectl_of(name, Identity::Token(token))
    }

    fn kubectl_of(&self, name: &str, identity: Identity<'_>) -> Result<Kubectl> {
        let file = format!("{}.kubeconfig", name.replace(['/', ':'], "-"));
        let path = self.directory.path().join(file);
        self.endpoint.write_kubeconfig(&path, identity)?;
        Ok(Kubectl::new(self.admin.program(), &path))
    }

    /// Every process of it, by its name.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        [&self.etcd, &self.api_server]
            .into_iter()
            .chain(&self.controllers)
    }

    fn wait_until_ready(&mut self, start: &Start<'_>) -> Result<()> {
        let kubectl = start.binaries.text("kubernetes/kubectl")?;
        let kubeconfig = self.admin.kubeconfig().display().to_string();
        let api_server = &mut self.api_server;
        let ended = wait_for("kube-apiserver to be ready", READY_WITHIN, || {
            if !api_server.is_running() {
                return Ok(Some(api_server.stderr()));
            }
            let line = [
                &kubectl,
                "--kubeconfig",
                &kubeconfig,
                "get",
                "--raw=/readyz",
            ];
            let mut command = start.command(line[0]).map_err(|error| error.to_string())?;
            let output = command.args(&line[1..]).output();
            match output {
                Ok(output) if output.status.success() => Ok(None),
                Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
                Err(error) => Err(error.to_string()),
            }
        })?;
        ended.map_or(Ok(()), |log| {
            Err(Error::Program {
                command: "kube-apiserver".to_owned(),
                status: "ended".to_owned(),
                output: tail(&log),
            })
        })
    }

    fn start_controller(&mut self, start: &Start<'_>, name: &str, user: &str) -> Result<()> {
        let path = self.directory.path().join(format!("{name}.kubeconfig"));
        let credential = self.authority.client(user, &[])?;
        self.endpoint
            .write_kubeconfig(&path, Identity::Certificate(&credential))?;
        let process = start.controller(name, &path)?;
        self.controllers.push(process);
        Ok(())
    }
}

fn write_credentials(authority: &Authority, directory: &Path, address: IpAddr) -> Result<()> {
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
    ];
    let addresses = [address, Ipv4Addr::LOCALHOST.into(), KUBERNETES_SERVICE];
    authority.credential().write(directory, "ca")?;
    authority
        .server(&names, &addresses)?
        .write(directory, "server")?;
    // Signs the tokens of service accounts; who checks them takes the key from its
    // certificate.
    authority
        .client("service-accounts", &[])?
        .write(directory, "service-accounts")?;
    authority
        .client("kube-apiserver-kubelet-client", &["system:masters"])?
        .write(directory, "kubelet-client")
}

/// The kernel gives them in turn, so that they stay free for a while.
fn free_ports() -> Result<[u16; 3]> {
    let failed = || Error::system("find a free port");
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed());
    // All at once, or they would be the same.
    let listeners = [listen()?, listen()?, listen()?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr().map_err(failed())?.port();
    }
    Ok(ports)
}

/// What starting each of the programs needs.
struct Start<'a> {
    binaries: &'a Binaries,
    options: &'a ApiServerOptions,
    home: Option<&'a Home>,
    directory: PathBuf,
}

impl Start<'_> {
    fn command(&self, program: &str) -> Result<Command> {
        match self.home {
            Some(home) => home.place.command(program),
            None => Ok(Command::new(program)),
        }
    }

    fn spawn(&self, program: &str, name: &str, arguments: &[String]) -> Result<Process> {
        let mut command = self.command(&self.binaries.text(program)?)?;
        command.args(arguments);
        Process::spawn_bound(command, name, &self.directory)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn etcd(&self, url: &str, peers: u16) -> Result<Process> {
        let peers = format!("http://127.0.0.1:{peers}");
        let data = self.file("etcd");
        self.spawn(
            "etcd/server",
            "etcd",
            &[
                "--name=default".to_owned(),
                format!("--data-dir={}", data.display()),
                format!("--listen-client-urls={url}"),
                format!("--advertise-client-urls={url}"),
                format!("--listen-peer-urls={peers}"),
                format!("--initial-advertise-peer-urls={peers}"),
                format!("--initial-cluster=default={peers}"),
                // Nothing of it is to survive this machine.
                "--unsafe-no-fsync".to_owned(),
                "--log-level=warn".to_owned(),
            ],
        )
    }

    fn api_server(&self, etcd: &str, address: IpAddr, port: u16) -> Result<Process> {
        let file = |name: &str| self.file(name).display().to_string();
        let bind = match self.home {
            Some(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            None => address,
        };
        let mut arguments = vec![
            format!("--etcd-servers={etcd}"),
            format!("--bind-address={bind}"),
            format!("--advertise-address={address}"),
            format!("--secure-port={port}"),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--service-account-issuer={ISSUER}"),
            format!(
                "--service-account-key-file={}",
                file("service-accounts.crt")
            ),
            format!(
                "--service-account-signing-key-file={}",
                file("service-accounts.key")
            ),
            format!("--service-cluster-ip-range={SERVICES}"),
            format!(
                "--kubelet-client-certificate={}",
                file("kubelet-client.crt")
            ),
            format!("--kubelet-client-key={}", file("kubelet-client.key")),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            // Webhooks behind a Service are reached at their endpoints: there is no
            // kube-proxy where the API server runs.
            "--enable-aggregator-routing=true".to_owned(),
        ];
        if self.home.is_none() {
            // No endpoint may be on a loopback address.
            arguments.push("--endpoint-reconciler-type=none".to_owned());
        }
        arguments.extend(self.options.flags.iter().cloned());
        self.spawn("kubernetes/kube-apiserver", "kube-apiserver", &arguments)
    }

    fn controller(&self, name: &str, kubeconfig: &Path) -> Result<Process> {
        let file = |name: &str| self.file(name).display().to_string();
        let mut arguments = vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            "--leader-elect=false".to_owned(),
            // It serves nothing that anybody asks for.
            "--secure-port=0".to_owned(),
        ];
        if name == "kube-controller-manager" {
            arguments.extend([
                format!(
                    "--service-account-private-key-file={}",
                    file("service-accounts.key")
                ),
                format!("--root-ca-file={}", file("ca.crt")),
                format!("--cluster-signing-cert-file={}", file("ca.crt")),
                format!("--cluster-signing-key-file={}", file("ca.key")),
                "--use-service-account-credentials=true".to_owned(),
                // A crashed node is to be seen within seconds.
                "--node-monitor-period=2s".to_owned(),
                "--node-monitor-grace-period=16s".to_owned(),
            ]);
        }
        self.spawn(&format!("kubernetes/{name}"), name, &arguments)
    }
}

/// The end of a log: the reason stands there.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
