//! The command line. Scripts depend on it: change it only by adding.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Weft's node agent: takes the opted-in pods of this node into the mesh.
#[derive(Debug, Parser)]
#[command(name = "weft-node-agent", version, about)]
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
    /// /sys/fs/cgroup/kubepods. Processes outside it count as the node's own, which
    /// strict pods accept plaintext from (kubelet probes).
    #[arg(long, value_name = "DIR")]
    pub(crate) pods_cgroup: Option<PathBuf>,
    /// What happens to connections of pods that the agent has not been told about
    /// yet: `allow` lets them pass uncaptured, `refuse` gives them "connection
    /// refused" until the pod is known.
    #[arg(long, value_enum, default_value_t = UnknownPodsArgument::Allow)]
    pub(crate) unknown_pods: UnknownPodsArgument,
    /// Where to serve /healthz, /readyz, /metrics, /config and /connections.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:15000")]
    pub(crate) admin: SocketAddr,
    /// Where to serve /healthz, /readyz and /metrics to kubelet and Prometheus, such as
    /// 0.0.0.0:15020. Nowhere when left out.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) monitoring: Option<SocketAddr>,
    /// Threads that serve connections; as many as cores when left out.
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<NonZeroUsize>,
    /// How long connections may take to end once a pod leaves the mesh or the agent
    /// stops, such as 30s or 2m. What is left is cut.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) drain_deadline: Duration,
    /// Bytes that the head of an HTTP request or response may have, 1048576 at most. A
    /// request with a larger one is answered with 414 or 431, a response becomes a 502.
    #[arg(long, value_name = "BYTES", default_value_t = 131_072,
          value_parser = clap::value_parser!(u32).range(8192..=1_048_576))]
    pub(crate) http_head_bytes: u32,
    /// Fields that the head of an HTTP/1 request or response may have, 10000 at most.
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u16).range(100..=10_000))]
    pub(crate) http_head_fields: u16,
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
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// A time such as `500ms`, `30s`, `2m` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("use a whole number and a unit: 500ms, 30s, 2m or 1h".into()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(milliseconds))
        .map(Duration::from_millis)
        .ok_or_else(|| "use a whole number and a unit: 500ms, 30s, 2m or 1h".into())
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

    #[test]
    fn times_need_a_number_and_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "30", "s", "-1s", "1.5s", "1d", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
