//! The command line. Scripts depend on it: change it only by adding.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use weft_admin::{TimeLimit, duration, time_limit};

/// Weft's node agent: takes the opted-in pods of this node into the mesh.
#[derive(Debug, Parser)]
#[command(name = "weft-node-agent", version, about, args_override_self = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Captures and serves the pods of this node until it is told to stop.
    ///
    /// Runs as root in the node's own network namespace. SIGTERM or SIGINT releases
    /// the pods and lets their connections end; a second one exits at once.
    Run(Box<RunArguments>),
    /// Removes what a previous agent left pinned in the kernel.
    Uninstall(UninstallArguments),
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Name of this node: pods whose spec.nodeName is this are served.
    #[arg(long, env = "WEFT_NODE", value_name = "NAME")]
    pub(crate) node: String,
    /// Address of the control plane, such as https://10.0.0.1:15010.
    #[arg(long, value_name = "URL")]
    pub(crate) control_plane: String,
    /// Name that the control plane's certificate must have.
    #[arg(long, value_name = "NAME", default_value = "weft-control-plane")]
    pub(crate) control_plane_name: String,
    /// PEM file with the root certificates of the control plane: ca/root.pem of its
    /// state directory. Read again at each connect.
    #[arg(long, value_name = "FILE")]
    pub(crate) root_certificates: PathBuf,
    /// File with this node's token, as `weft-control-plane token` prints it. Read
    /// again at each connect.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: PathBuf,
    /// The cgroup2 directory whose processes' connections are looked at: the root of
    /// the hierarchy when left out. Give each agent its own where several run on one
    /// machine; agent and pods must be below it.
    #[arg(long, value_name = "DIR")]
    pub(crate) cgroup: Option<PathBuf>,
    /// The cgroup2 directory below which the pods' processes are, such as
    /// /sys/fs/cgroup/kubepods. Processes outside it count as the node's own.
    #[arg(long, value_name = "DIR")]
    pub(crate) pods_cgroup: Option<PathBuf>,
    /// The cgroup2 directory of kubelet, such as
    /// /sys/fs/cgroup/system.slice/kubelet.service: strict pods accept their probes from
    /// its processes, not from those below it. Kubelet is looked for when left out; where
    /// none is found, they accept them from any process of the node.
    #[arg(long, value_name = "DIR")]
    pub(crate) kubelet_cgroup: Option<PathBuf>,
    /// What happens to connections of pods that the agent has not been told about
    /// yet: `allow` lets them pass uncaptured; with `refuse` those that the pod opens get
    /// "connection refused", and those to it no answer, until the pod is known, also while no
    /// agent runs.
    #[arg(long, value_enum, default_value_t = UnknownPodsArgument::Allow)]
    pub(crate) unknown_pods: UnknownPodsArgument,
    /// What happens to connections that a pod has when it is captured: `keep` lets them go on
    /// past the proxy, `end` resets them. Those of strict pods, those that pods with egress
    /// mode RegisteredOnly have opened, and those that pods with AuthorizationPolicies have
    /// accepted, are ended in any case.
    #[arg(long, value_enum, default_value_t = EarlierConnectionsArgument::Keep)]
    pub(crate) earlier_connections: EarlierConnectionsArgument,
    /// Where to serve /healthz, /readyz, /metrics, /config, /connections and /explain.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:15000")]
    pub(crate) admin: SocketAddr,
    /// Where to serve /metrics to Prometheus, also /healthz and /readyz, such as
    /// 0.0.0.0:15020. Nowhere when left out.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) monitoring: Option<SocketAddr>,
    /// Where to serve /healthz and /readyz to kubelet, such as 127.0.0.1:15021, which no
    /// pod reaches. Nowhere when left out.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) probes: Option<SocketAddr>,
    /// Series of metrics that one pod may have for what it connects to, and as many for who
    /// connects to it; what is over counts in one of the value `overflow`.
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub(crate) metrics_series_per_pod: u32,
    /// Series of metrics that all pods of the node may have together. One pod may have as many
    /// as are left, and then counts in those of the value `overflow`.
    #[arg(long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub(crate) metrics_series_per_node: u32,
    /// Threads that serve connections; as many as cores when left out.
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<NonZeroUsize>,
    /// How long connections may take to end once a pod leaves the mesh or the agent
    /// stops, such as 30s or 2m. What is left is cut.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) drain_deadline: Duration,
    /// Connections that one pod may have through the proxy, both directions together. One that
    /// comes then is reset, with the flag LIMIT.
    #[arg(long, value_name = "N", default_value_t = 32_768,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections_per_pod: u32,
    /// Tunnel connections of one pod whose clients may be in their TLS handshake at the same
    /// time; they are none of its connections yet.
    #[arg(long, value_name = "N", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) handshakes_per_pod: u32,
    /// Bytes that all connections may hold together, on their way to somebody who doesn't read.
    /// A third of what the container may have of memory when left out.
    #[arg(long, value_name = "BYTES")]
    pub(crate) buffer_bytes: Option<usize>,
    /// Bytes that the head of an HTTP request or response may have, 1048576 at most. A
    /// request with a larger one is answered with 414 or 431, a response becomes a 502.
    #[arg(long, value_name = "BYTES", default_value_t = 131_072,
          value_parser = clap::value_parser!(u32).range(8192..=1_048_576))]
    pub(crate) http_head_bytes: u32,
    /// Fields that the head of an HTTP/1 request or response may have, 10000 at most.
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u16).range(100..=10_000))]
    pub(crate) http_head_fields: u16,
    /// How long the head of an HTTP request or response may take, from its first byte to its
    /// last, and the first bytes of a connection on a port of HTTP: `off` for no limit. A
    /// request that takes longer is answered with 408 where it is of HTTP/1; in any other case
    /// its connection is ended.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time_limit)]
    pub(crate) http_head_time: TimeLimit,
    /// Directory in a bpffs where programs and maps are pinned, such as
    /// /sys/fs/bpf/weft, so that capture stays enforced if the agent dies. Not
    /// pinned when left out.
    #[arg(long, value_name = "DIR")]
    pub(crate) pin_directory: Option<PathBuf>,
    /// Form of the log on standard error. The environment variable WEFT_LOG filters
    /// it, such as `info,access=off` or `debug`.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Args)]
pub(crate) struct UninstallArguments {
    /// The directory that `run` was given.
    #[arg(long, value_name = "DIR")]
    pub(crate) pin_directory: PathBuf,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum UnknownPodsArgument {
    Allow,
    Refuse,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum EarlierConnectionsArgument {
    Keep,
    End,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound_and_every_flag_is_explained() {
        Arguments::command().debug_assert();
        for command in Arguments::command().get_subcommands() {
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{}", argument.get_id());
            }
        }
    }

    /// Overlays add flags behind those that the manifests have.
    #[test]
    fn the_last_of_several_counts() {
        let line = "weft-node-agent run --node node-1 --control-plane https://10.99.0.1:15010 \
                    --root-certificates root.pem --token-file token --drain-deadline=5s \
                    --drain-deadline=6s";
        let words = line.split_whitespace();
        let Command::Run(run) = Arguments::try_parse_from(words).unwrap().command else {
            panic!("it runs");
        };
        assert_eq!(run.drain_deadline, Duration::from_secs(6));
    }

    #[test]
    fn the_documented_line_parses() {
        let line = "weft-node-agent run --node node-1 --control-plane https://10.99.0.1:15010 \
                    --root-certificates root.pem --token-file token --drain-deadline 5s";
        let Command::Run(run) = Arguments::try_parse_from(line.split_whitespace())
            .unwrap()
            .command
        else {
            panic!("not run");
        };
        assert_eq!(run.drain_deadline, Duration::from_secs(5));
        assert_eq!(run.admin, "127.0.0.1:15000".parse().unwrap());
        assert_eq!(run.unknown_pods, UnknownPodsArgument::Allow);
    }
}
