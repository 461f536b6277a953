//! The command line.

mod sidecars;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::sidecars::Inject;
use self::sidecars::{SidecarArgs, SidecarMesh};
use crate::ca::join_token::PodName;
use crate::inject::{InjectedShape, InjectionOptions};
use crate::kinds::ProxyMode;

/// Weft's control plane.
#[derive(Debug, Parser)]
#[command(version, about, args_override_self = true)]
pub(crate) struct Command {
    #[command(subcommand)]
    pub(crate) action: Action,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Serve configuration and certificates to agents.
    Serve(Box<Serve>),
    /// Print a token with which the agent of one node may join.
    Token(Token),
    /// Replace the mesh's root certificate while everything runs: `start`, then `switch`,
    /// then `finish`. Each has to wait until every certificate was renewed since the one
    /// before; `status` says until when.
    RotateRoot(RotateRoot),
    /// Put sidecars into the pods of manifests, as the webhook does it, without an API server.
    Inject(Inject),
    /// Print the definitions of Weft's own kinds, for `kubectl apply --server-side -f -`.
    Crds,
}

#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// Where objects come from, and what else is kept there.
    #[arg(long, value_enum, default_value = "directory")]
    pub(crate) source: SourceKind,
    #[command(flatten)]
    pub(crate) directory: DirectoryArgs,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Where agents connect to.
    #[arg(long, default_value = "0.0.0.0:15010")]
    pub(crate) listen: SocketAddr,
    /// Where the admin endpoint answers; keep it on loopback.
    #[arg(long, default_value = "127.0.0.1:15011")]
    pub(crate) admin: SocketAddr,
    /// Where to serve /metrics to Prometheus, also /healthz and /readyz, such as
    /// 0.0.0.0:15014. Nowhere when left out.
    #[arg(long)]
    pub(crate) monitoring: Option<SocketAddr>,
    /// Where to serve /healthz and /readyz to kubelet, such as 0.0.0.0:15021. Nowhere when
    /// left out.
    #[arg(long)]
    pub(crate) probes: Option<SocketAddr>,
    /// How long workloads' certificates live, such as 24h or 30m.
    #[arg(long, default_value = "24h", value_parser = duration)]
    pub(crate) leaf_lifetime: Duration,
    /// Names in the control plane's own certificate; agents check for one of them.
    #[arg(long = "server-name", default_value = "weft-control-plane")]
    pub(crate) server_names: Vec<String>,
    /// Where the API server reaches the admission webhook, such as 0.0.0.0:15017. There
    /// is none when left out.
    #[arg(long)]
    pub(crate) webhook: Option<SocketAddr>,
    /// Mode of pods that say none, nor their namespaces: `sidecar`, `node`, or `auto`, which is a
    /// sidecar where nodes can't capture.
    #[arg(long, default_value = "auto")]
    pub(crate) mode: ProxyMode,
    #[command(flatten)]
    pub(crate) sidecars: SidecarArgs,
    #[command(flatten)]
    pub(crate) rate_limits: RateLimitArgs,
    /// How log lines look.
    #[arg(long, default_value = "text")]
    pub(crate) log_format: LogFormat,
}

impl Serve {
    /// All that is to know about sidecars, in that shape where nobody says another.
    pub(crate) fn injection(&self, shape: InjectedShape) -> InjectionOptions {
        let PlaceArgs {
            namespace,
            root_config_map,
            ..
        } = &self.cluster.place;
        let server_name = self.server_names.first().map(String::as_str);
        let mesh = SidecarMesh {
            namespace,
            server_name: server_name.unwrap_or_default(),
            token_audience: &self.cluster.token_audience,
            root_config_map,
        };
        self.sidecars.options(mesh, self.mode, shape)
    }
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Rate limit service")]
pub(crate) struct RateLimitArgs {
    /// File with limits, in the format of Envoy's rate limit server, for requests that
    /// bring none along. It may come later; changes are followed.
    #[arg(long, value_name = "FILE")]
    pub(crate) rate_limit_config: Option<PathBuf>,
    /// Redis or Valkey in which all replicas count together, such as
    /// redis://:PASSWORD@HOST:6379/0. Each counts for itself when left out or empty.
    #[arg(long, value_name = "URL", env = "WEFT_REDIS", hide_env_values = true)]
    pub(crate) redis: Option<String>,
}

/// Where objects come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum SourceKind {
    /// A directory of manifests. The rest is in the state directory.
    Directory,
    /// An API server. The rest is there, too: root and lease in Weft's namespace, what
    /// nodes report in the status of pods.
    Kubernetes,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "With --source directory")]
pub(crate) struct DirectoryArgs {
    /// Directory of Kubernetes manifests (*.yaml, *.yml, *.json); changes are followed.
    #[arg(long, required_if_eq("source", "directory"))]
    pub(crate) config_directory: Option<PathBuf>,
    /// Directory for the root certificate, the join key and what must outlive a
    /// restart. Made when absent; keep it private.
    #[arg(long, required_if_eq("source", "directory"))]
    pub(crate) state_directory: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "With --source kubernetes")]
pub(crate) struct ClusterArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Name of this replica, other than that of all others, such as the pod's.
    #[arg(long, env = "WEFT_POD", default_value = "weft-control-plane")]
    pub(crate) replica: String,
    /// The audience that agents' tokens are meant for.
    #[arg(long, default_value = "weft-control-plane")]
    pub(crate) token_audience: String,
    /// Name of the agents' ServiceAccount in Weft's namespace.
    #[arg(long, default_value = "weft-node-agent")]
    pub(crate) agent_service_account: String,
    /// Lease of the replica that writes what only one may.
    #[arg(long, default_value = "weft-control-plane")]
    pub(crate) lease: String,
    /// ValidatingWebhookConfiguration and MutatingWebhookConfiguration that the webhooks' roots are
    /// written into.
    #[arg(long, default_value = "weft")]
    pub(crate) webhook_configuration: String,
}

/// Where an API server is, and what the authority is called there.
#[derive(Args, Clone, Debug)]
pub(crate) struct PlaceArgs {
    /// How to reach the API server; in a pod, its ServiceAccount is used when left out.
    #[arg(long)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Weft's own namespace.
    #[arg(long, env = "WEFT_NAMESPACE", default_value = "weft-system")]
    pub(crate) namespace: String,
    /// Secret with the authority's tls.crt, tls.key and ca.crt. Made when absent.
    #[arg(long, default_value = "weft-ca")]
    pub(crate) root_secret: String,
    /// ConfigMap in which the roots are published.
    #[arg(long, default_value = "weft-root-certificates")]
    pub(crate) root_config_map: String,
}

#[derive(Args, Debug)]
pub(crate) struct RotateRoot {
    /// What to do.
    #[arg(value_enum)]
    pub(crate) action: RotateAction,
    /// The state directory of a control plane with --source directory. When left out, the
    /// authority is the one in the API server.
    #[arg(long)]
    pub(crate) state_directory: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// How long certificates in use live, where that is longer than what the control
    /// plane was started with: it was shortened lately.
    #[arg(long, value_parser = duration)]
    pub(crate) leaf_lifetime: Option<Duration>,
    /// Don't wait until every certificate was renewed. Connections of those that were
    /// not are refused.
    #[arg(long)]
    pub(crate) force: bool,
}

/// Steps of a rotation.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum RotateAction {
    /// Say what is, and what comes next, and when.
    Status,
    /// Make a new root and let everybody trust both. The old one signs on.
    Start,
    /// Sign with the new root.
    Switch,
    /// Trust the new root only.
    Finish,
    /// Go back: to signing with the old root where that was switched, else to trusting
    /// it alone.
    Abort,
}

#[derive(Args, Debug)]
pub(crate) struct Token {
    /// The state directory of the control plane that the agent or sidecar will join.
    #[arg(long)]
    pub(crate) state_directory: PathBuf,
    /// The node that the agent runs on.
    #[arg(long, required_unless_present = "pod", conflicts_with = "pod")]
    pub(crate) node: Option<String>,
    /// The pod that a sidecar serves, as NAMESPACE/NAME.
    #[arg(long)]
    pub(crate) pod: Option<PodName>,
    /// How long the token may be used, such as 24h. An agent reads its token again
    /// whenever it reconnects.
    #[arg(long, default_value = "24h", value_parser = duration)]
    pub(crate) lifetime: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl From<LogFormat> for weft_admin::log::LogFormat {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

/// A whole number with a unit: `30s`, `15m`, `24h`, `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86400)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*seconds).filter(|seconds| *seconds > 0)
    });
    parsed.map(Duration::from_secs).ok_or_else(|| {
        format!("`{text}` is not a duration; write a whole number with s, m, h or d, such as 24h")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Command::command().debug_assert();
    }

    /// Overlays add flags behind those that the manifests have.
    #[test]
    fn the_last_of_several_counts() {
        let line = "weft-control-plane serve --source=kubernetes --mode=auto --mode=node";
        let Action::Serve(serve) = Command::try_parse_from(line.split(' ')).unwrap().action else {
            panic!("it serves");
        };
        assert_eq!(serve.mode, ProxyMode::Node);
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("90m"), Ok(Duration::from_secs(5400)));
        for odd in ["", "90", "h", "-1h", "0s", "1.5h", "99999999999999999d"] {
            assert!(duration(odd).is_err(), "{odd}");
        }
    }
}
