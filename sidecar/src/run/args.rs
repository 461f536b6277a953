//! The command line. Scripts depend on it: change it only by adding.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use weft_admin::{TimeLimit, duration, time_limit};
use weft_model::AddressBlock;

use crate::redirect::Capture;

/// The user that the proxy runs as, and nobody else in the pod.
const PROXY_UID: u32 = 1337;

/// Weft's sidecar: the proxy of one pod, in that pod.
#[derive(Debug, Parser)]
#[command(name = "weft-sidecar", version, about, args_override_self = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Redirects the pod's connections to the proxy, by nf_tables. Needs root and NET_ADMIN;
    /// doing it again replaces what was there.
    Init(InitArguments),
    /// Undoes what `init` did.
    Cleanup(CleanupArguments),
    /// Serves the pod until it is told to stop, as the proxy's user and without capabilities.
    ///
    /// At SIGTERM or SIGINT it goes on as long as others in the pod have sockets, lets
    /// connections end, and exits; at a second one it exits at once.
    Run(Box<RunArguments>),
    /// Waits until the proxy of this pod is ready.
    Wait(WaitArguments),
    /// Tells the proxy of this pod to drain, and waits until it has: for a preStop hook.
    Drain(DrainArguments),
}

#[derive(Debug, Args)]
pub(crate) struct InitArguments {
    /// User of the proxy, whose connections are left alone.
    #[arg(long, env = "WEFT_PROXY_UID", value_name = "UID", default_value_t = PROXY_UID)]
    pub(crate) proxy_uid: u32,
    /// Ports of the pod that are reached past the proxy, separated by commas.
    #[arg(
        long,
        env = "WEFT_EXCLUDE_INBOUND_PORTS",
        value_name = "PORTS",
        value_delimiter = ','
    )]
    pub(crate) exclude_inbound_ports: Vec<u16>,
    /// Addresses of clients that reach the pod past the proxy, such as 10.0.0.0/8,fd00::/8.
    #[arg(
        long,
        env = "WEFT_EXCLUDE_INBOUND_CIDRS",
        value_name = "BLOCKS",
        value_delimiter = ','
    )]
    pub(crate) exclude_inbound_cidrs: Vec<AddressBlock>,
    /// Ports of destinations that the pod connects to past the proxy, separated by commas.
    #[arg(
        long,
        env = "WEFT_EXCLUDE_OUTBOUND_PORTS",
        value_name = "PORTS",
        value_delimiter = ','
    )]
    pub(crate) exclude_outbound_ports: Vec<u16>,
    /// Addresses of destinations that the pod connects to past the proxy, such as
    /// 10.0.0.0/8,fd00::/8.
    #[arg(
        long,
        env = "WEFT_EXCLUDE_OUTBOUND_CIDRS",
        value_name = "BLOCKS",
        value_delimiter = ','
    )]
    pub(crate) exclude_outbound_cidrs: Vec<AddressBlock>,
    /// Ports of the proxy's own pages, which are reached directly.
    #[arg(
        long,
        value_name = "PORTS",
        value_delimiter = ',',
        default_value = "15020,15021"
    )]
    pub(crate) pages: Vec<u16>,
    /// The way in which connections that arrive are captured; the same as that of `run`.
    #[arg(long, env = "WEFT_CAPTURE", value_enum, default_value_t = CaptureArgument::Redirect)]
    pub(crate) capture: CaptureArgument,
    /// The network namespace to do it in, such as /run/netns/web; its own when left out.
    #[arg(long, value_name = "FILE")]
    pub(crate) netns: Option<PathBuf>,
}

/// The way in which connections that arrive are captured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum CaptureArgument {
    /// Destinations are rewritten; the application sees the pod itself as its client.
    Redirect,
    /// Nothing is rewritten; the application sees its client's address. The proxy needs the
    /// capability NET_RAW.
    Tproxy,
}

impl From<CaptureArgument> for Capture {
    fn from(capture: CaptureArgument) -> Self {
        match capture {
            CaptureArgument::Redirect => Self::Redirect,
            CaptureArgument::Tproxy => Self::Tproxy,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct CleanupArguments {
    /// The network namespace to do it in, such as /run/netns/web; its own when left out.
    #[arg(long, value_name = "FILE")]
    pub(crate) netns: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Name of the node that the pod is on.
    #[arg(long, env = "WEFT_NODE", value_name = "NAME")]
    pub(crate) node: String,
    /// Name of the pod.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub(crate) pod_name: String,
    /// Namespace of the pod.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    pub(crate) pod_namespace: String,
    /// UID of the pod; without Kubernetes it is its namespace and name.
    #[arg(long, env = "POD_UID", value_name = "UID")]
    pub(crate) pod_uid: Option<String>,
    /// Addresses of the pod, separated by commas; those of its interfaces when left out.
    #[arg(long, env = "POD_IPS", value_name = "ADDRESSES", value_delimiter = ',')]
    pub(crate) pod_ips: Vec<IpAddr>,
    /// Addresses of the pod's node, separated by commas, beside those that the control plane
    /// knows: a strict pod takes the probes that it declares from there.
    #[arg(
        long,
        env = "HOST_IPS",
        value_name = "ADDRESSES",
        value_delimiter = ','
    )]
    pub(crate) host_ips: Vec<IpAddr>,
    /// Address of the control plane, such as https://10.0.0.1:15010.
    #[arg(long, env = "WEFT_CONTROL_PLANE", value_name = "URL")]
    pub(crate) control_plane: String,
    /// Name that the control plane's certificate must have.
    #[arg(
        long,
        env = "WEFT_CONTROL_PLANE_NAME",
        value_name = "NAME",
        default_value = "weft-control-plane"
    )]
    pub(crate) control_plane_name: String,
    /// PEM file with the root certificates of the control plane. Read again at each connect.
    #[arg(long, env = "WEFT_ROOT_CERTIFICATES", value_name = "FILE")]
    pub(crate) root_certificates: PathBuf,
    /// File with this pod's token: that of its ServiceAccount for the control plane's audience,
    /// or the output of `weft-control-plane token --pod NAMESPACE/NAME`. Read again at each connect.
    #[arg(long, env = "WEFT_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: PathBuf,
    /// User of the proxy: who else starts it as root, it becomes that one.
    #[arg(long, env = "WEFT_PROXY_UID", value_name = "UID", default_value_t = PROXY_UID)]
    pub(crate) proxy_uid: u32,
    /// The way in which connections that arrive are captured; the same as that of `init`.
    #[arg(long, env = "WEFT_CAPTURE", value_enum, default_value_t = CaptureArgument::Redirect)]
    pub(crate) capture: CaptureArgument,
    /// The network namespace of the pod, such as /run/netns/web; its own when left out.
    #[arg(long, value_name = "FILE")]
    pub(crate) netns: Option<PathBuf>,
    /// Where to serve all pages, in the pod.
    #[arg(
        long,
        env = "WEFT_ADMIN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:15000"
    )]
    pub(crate) admin: SocketAddr,
    /// Where to serve /metrics to Prometheus, also /healthz and /readyz.
    #[arg(
        long,
        env = "WEFT_MONITORING",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:15020"
    )]
    pub(crate) monitoring: SocketAddr,
    /// Where to serve /healthz and /readyz to kubelet.
    #[arg(
        long,
        env = "WEFT_PROBES",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:15021"
    )]
    pub(crate) probes: SocketAddr,
    /// Series of metrics that the pod may have for what it connects to, and as many for who
    /// connects to it; what is over counts in one of the value `overflow`.
    #[arg(long, env = "WEFT_METRICS_SERIES_PER_POD", value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub(crate) metrics_series_per_pod: u32,
    /// Threads that serve connections.
    #[arg(long, env = "WEFT_WORKERS", value_name = "N", default_value = "1")]
    pub(crate) workers: NonZeroUsize,
    /// How long connections may take to end once it is told to stop, and how long it waits for
    /// the others in the pod, such as 30s or 2m. What is left is cut.
    #[arg(long, env = "WEFT_DRAIN_DEADLINE", value_name = "TIME", default_value = "25s",
          value_parser = duration)]
    pub(crate) drain_deadline: Duration,
    /// Connections that the pod may have through the proxy, both directions together. One that
    /// comes then is reset, with the flag LIMIT.
    #[arg(long, env = "WEFT_CONNECTIONS_PER_POD", value_name = "N", default_value_t = 32_768,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections_per_pod: u32,
    /// Bytes that all connections may hold together, on their way to somebody who doesn't read.
    /// A third of what the container may have of memory when left out.
    #[arg(long, env = "WEFT_BUFFER_BYTES", value_name = "BYTES")]
    pub(crate) buffer_bytes: Option<usize>,
    /// How long the head of an HTTP request or response may take, from its first byte to its
    /// last, and the first bytes of a connection on a port of HTTP: `off` for no limit. A
    /// request that takes longer is answered with 408 where it is of HTTP/1; in any other case
    /// its connection is ended.
    #[arg(long, env = "WEFT_HTTP_HEAD_TIME", value_name = "TIME", default_value = "60s",
          value_parser = time_limit)]
    pub(crate) http_head_time: TimeLimit,
    /// Form of the log on standard error. The environment variable WEFT_LOG filters
    /// it, such as `info,access=off` or `debug`.
    #[arg(long, env = "WEFT_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArguments {
    /// Where the proxy serves /readyz.
    #[arg(
        long,
        env = "WEFT_PROBES",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:15021"
    )]
    pub(crate) probes: SocketAddr,
    /// How long to wait, such as 30s or 2m.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArguments {
    /// Where the proxy serves all its pages.
    #[arg(
        long,
        env = "WEFT_ADMIN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:15000"
    )]
    pub(crate) admin: SocketAddr,
    /// How long to wait, such as 30s or 2m.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(crate) timeout: Duration,
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

    #[test]
    fn lists_are_separated_by_commas_and_may_be_empty() {
        let init = |line: &str| {
            let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
            let Command::Init(init) = arguments.command else {
                panic!("not init");
            };
            init
        };
        let listed = init(
            "weft-sidecar init --exclude-inbound-ports 9100,9101 \
             --exclude-outbound-cidrs 10.0.0.0/8,fd00::/8",
        );
        assert_eq!(listed.exclude_inbound_ports, [9100, 9101]);
        assert_eq!(listed.exclude_outbound_cidrs.len(), 2);
        assert!(init("weft-sidecar init").exclude_inbound_ports.is_empty());
        for wrong in [
            "--exclude-inbound-ports 0x1",
            "--exclude-outbound-cidrs 10.0.0.1/8",
            "--exclude-inbound-cidrs 10.0.0.1/8",
        ] {
            let line = format!("weft-sidecar init {wrong}");
            assert!(
                Arguments::try_parse_from(line.split(' ')).is_err(),
                "{wrong}"
            );
        }
    }
}
