//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Weft's control plane.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Command {
    #[command(subcommand)]
    pub(crate) action: Action,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Serve configuration and certificates to agents.
    Serve(Serve),
    /// Print a token with which the agent of one node may join.
    Token(Token),
}

#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// Directory of Kubernetes manifests (*.yaml, *.yml, *.json); changes are followed.
    #[arg(long)]
    pub(crate) config_directory: PathBuf,
    /// Directory for the root certificate, the join key and what must outlive a
    /// restart. Made when absent; keep it private.
    #[arg(long)]
    pub(crate) state_directory: PathBuf,
    /// Where agents connect to.
    #[arg(long, default_value = "0.0.0.0:15010")]
    pub(crate) listen: SocketAddr,
    /// Where the admin endpoint answers; keep it on loopback.
    #[arg(long, default_value = "127.0.0.1:15011")]
    pub(crate) admin: SocketAddr,
    /// Where to serve /healthz, /readyz and /metrics to kubelet and Prometheus, such as
    /// 0.0.0.0:15014. Nowhere when left out.
    #[arg(long)]
    pub(crate) monitoring: Option<SocketAddr>,
    /// How long workloads' certificates live, such as 24h or 30m.
    #[arg(long, default_value = "24h", value_parser = duration)]
    pub(crate) leaf_lifetime: Duration,
    /// Names in the control plane's own certificate; agents check for one of them.
    #[arg(long = "server-name", default_value = "weft-control-plane")]
    pub(crate) server_names: Vec<String>,
    /// How log lines look.
    #[arg(long, default_value = "text")]
    pub(crate) log_format: LogFormat,
}

#[derive(Args, Debug)]
pub(crate) struct Token {
    /// The state directory of the control plane that the agent will join.
    #[arg(long)]
    pub(crate) state_directory: PathBuf,
    /// The node that the agent runs on.
    #[arg(long)]
    pub(crate) node: String,
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

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("90m"), Ok(Duration::from_secs(5400)));
        for odd in ["", "90", "h", "-1h", "0s", "1.5h", "99999999999999999d"] {
            assert!(duration(odd).is_err(), "{odd}");
        }
    }
}
