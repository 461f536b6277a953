//! What each command can be told. `xtask` reads it to know what to build, and hands it on
//! as it is to `weft-lab`, which reads it again.

use std::path::PathBuf;

/// What `build-ebpf` can be told.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct BuildEbpf {
    /// Build even when nothing has changed.
    #[arg(long)]
    pub force: bool,
}

/// What `demo` can be told.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Demo {
    /// Leave the mesh up afterwards, until Ctrl-C, and say how to play with it.
    #[arg(long)]
    pub keep: bool,
    /// Print one JSON array on standard output, a row per call, instead of the table.
    #[arg(long)]
    pub json: bool,
}

/// What `bench` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Bench {
    /// Which benchmark.
    #[arg(value_enum, default_value = "l4")]
    pub name: Benchmark,
    /// Whose proxies carry the load: of `l4` and `http`.
    #[arg(long, value_enum, default_value_t = BenchMode::Node)]
    pub mode: BenchMode,
    /// One JSON array of rows `measure`, `mode`, `median`, `spread`, `unit` on standard
    /// output instead of the table.
    #[arg(long)]
    pub json: bool,
    /// Samples of each measure and mode.
    #[arg(long, default_value_t = 5)]
    pub repetitions: usize,
    /// Seconds that one sample takes.
    #[arg(long, default_value_t = 2)]
    pub seconds: u32,
    /// A folder with optimised programs of another build, which carry the same load in the
    /// same run, as the mode `baseline`.
    #[arg(long, value_name = "FOLDER")]
    pub baseline: Option<PathBuf>,
}

/// The benchmarks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Benchmark {
    /// TCP across nodes: direct, through a pair of Envoys with mutual TLS, through Weft.
    L4,
    /// HTTP across nodes by a route that splits requests 80/20: direct (no split), through
    /// Envoys with mutual TLS, through Weft.
    Http,
    /// The control plane under simulated agents: how long a change takes to reach the
    /// last of a thousand, and how that grows with the mesh.
    ControlPlane,
    /// The admission webhooks at 50 new pods a second: what a pod waits for its three reviews, beside
    /// reviews that ask nothing of the mesh.
    Webhook,
}

/// The shapes of Weft that benchmarks of the data path compare.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum BenchMode {
    /// The agents of the nodes.
    Node,
    /// The agents, and beside them, as the mode `sidecar`, sidecars in the pods.
    Sidecar,
}

/// What `images` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Images {
    /// Where the files go; target/images when left out.
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Optimised programs, as they are published. The default.
    #[arg(long, conflicts_with = "dev")]
    pub release: bool,
    /// Programs of the development profile: quicker to build, for tests.
    #[arg(long)]
    pub dev: bool,
    /// Tag of both; Weft's version when left out, which is what deploy/ asks for.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    pub tag: String,
}

/// What `cluster` can be told.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Cluster {
    /// Starts a cluster, leaves it running, and prints the path of its kubeconfig.
    /// Needs root; the first time builds Kubernetes, which takes minutes.
    Up(ClusterUp),
    /// Removes it with everything in it.
    Down,
    /// Says what runs.
    Status,
    /// Gives images, files of `cargo xtask images` or `docker save`, to all its nodes.
    Load {
        /// The files.
        #[arg(required = true, value_name = "FILE")]
        archives: Vec<PathBuf>,
    },
    /// Runs the tests that need a cluster: on clusters of their own, or on any that has
    /// pods from outside the project, such as one of kind.
    Test(ClusterTest),
    /// Runs the Gateway API's conformance suite, profiles MESH-HTTP and MESH-GRPC, and
    /// prints how each test ended.
    Conformance(Conformance),
    /// Is the process that holds a cluster: what `up` starts.
    #[command(hide = true)]
    Hold(ClusterUp),
}

/// What `cluster up` can be told.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ClusterUp {
    /// How many nodes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub nodes: u8,
    /// How kube-proxy does its work.
    #[arg(long, value_enum, default_value_t = KubeProxyMode::Iptables)]
    pub kube_proxy: KubeProxyMode,
}

impl Default for ClusterUp {
    fn default() -> Self {
        Self {
            nodes: 2,
            kube_proxy: KubeProxyMode::Iptables,
        }
    }
}

/// Modes of kube-proxy.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum KubeProxyMode {
    /// Rules of iptables.
    Iptables,
    /// Rules of nftables.
    Nftables,
}

/// What `cluster test` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct ClusterTest {
    /// A cluster of somebody else's, where Weft is or will be installed: nothing of it
    /// is crashed, and Weft stays. When left out, the tests make their own.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The command that gives an image to the nodes of that cluster, such as
    /// `kind load image-archive`; the file follows it.
    #[arg(long, value_name = "COMMAND", requires = "kubeconfig")]
    pub load_image: Option<String>,
    /// Only tests with this in their name.
    pub filter: Option<String>,
}

/// What `cluster conformance` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Conformance {
    /// Leave Weft out: the control, which shows what the tests prove of it. Succeeds
    /// when those fail that only a mesh can pass.
    #[arg(long)]
    pub without_mesh: bool,
    /// Where the suite's report goes; the list of tests goes beside it, with the
    /// extension `txt`. Without Weft there is only the list.
    #[arg(long, value_name = "FILE", conflicts_with = "test")]
    pub report: Option<PathBuf>,
    /// Only tests with this in their name.
    #[arg(long, value_name = "NAME")]
    pub test: Option<String>,
    /// Leave the cluster and the suite's applications running.
    #[arg(long)]
    pub keep: bool,
    /// A cluster of somebody else's: gets the Gateway API's CRDs, and Weft, and keeps
    /// both. When left out, the one of `cluster up` is taken, or one is started.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The command that gives an image to the nodes of that cluster, such as
    /// `kind load image-archive`; the file follows it.
    #[arg(long, value_name = "COMMAND", requires = "kubeconfig")]
    pub load_image: Option<String>,
}
