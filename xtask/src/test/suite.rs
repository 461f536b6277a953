//! The suites, and what each needs.

use std::collections::BTreeSet;

use weft_provision::go::Kit;

/// Tests that need the same.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, clap::ValueEnum)]
pub(crate) enum Suite {
    /// What needs nothing: unit tests, documentation's examples, the proxy's data path over
    /// loopback, the rules of the house.
    Unit,
    /// The control plane's rate limits with a real Redis.
    Redis,
    /// The node agent's eBPF programs in the kernel of this machine. Root.
    Kernel,
    /// The whole mesh on namespaces as nodes and pods. Root.
    EndToEnd,
    /// Dashboards and alerts with a real Prometheus, which scrapes such a mesh. Root.
    Monitoring,
    /// The same clients and servers with and without the mesh, compared. Root.
    AsWithout,
    /// The same with programs that take a while to start.
    SlowPrograms,
    /// The control plane with a real API server.
    ApiServer,
    /// What deploy/ installs, as kubectl and Helm render it.
    Deploy,
    /// The whole mesh on a real Kubernetes. Root.
    Kubernetes,
    /// Agents and sidecars on earlier kernels, in virtual machines. Root; only when asked for.
    OldKernels,
}

/// Something that tests need beside what Cargo builds for them.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Need {
    /// Root, a kernel with eBPF, and the kernel programs.
    Kernel,
    /// Weft's programs and those of the test bed.
    Programs,
    /// A program of Debian's.
    Redis,
    /// Prometheus and promtool, of Debian's.
    Prometheus,
    /// Debian's interpreter of Python.
    Python,
    /// Programs that are built from Go modules.
    Go(Kit),
    /// Container images of Weft's programs.
    Images,
}

/// Integration tests, by package and target, that need something. All others are
/// [`Suite::Unit`].
const TARGETS: [(&str, &str, Suite); 11] = [
    ("weft-node-agent", "redirect", Suite::Kernel),
    ("weft-tests", "end_to_end", Suite::EndToEnd),
    ("weft-tests", "test_bed", Suite::EndToEnd),
    ("weft-tests", "as_without", Suite::AsWithout),
    ("weft-tests", "api_server", Suite::ApiServer),
    ("weft-tests", "control_plane", Suite::ApiServer),
    ("weft-tests", "grpc_interop", Suite::ApiServer),
    ("weft-tests", "deploy", Suite::Deploy),
    ("weft-tests", "cluster", Suite::Kubernetes),
    ("weft-tests", "kubernetes", Suite::Kubernetes),
    ("weft-tests", "old_kernels", Suite::OldKernels),
];

/// Sources with tests that need more than others of their target.
const SOURCES: [(&str, Suite); 9] = [
    ("control-plane/src/rate_limit/redis", Suite::Redis),
    ("node-agent/src/redirect/load.rs", Suite::Kernel),
    ("tests/src/image/tests.rs", Suite::EndToEnd),
    ("tests/tests/end_to_end/monitoring", Suite::Monitoring),
    (
        "tests/tests/as_without/packaged/slow.rs",
        Suite::SlowPrograms,
    ),
    ("tests/tests/documents/cluster.rs", Suite::Deploy),
    ("tests/tests/documents/flags.rs", Suite::EndToEnd),
    ("tests/tests/documents/playground.rs", Suite::EndToEnd),
    ("tests/tests/documents/programs.rs", Suite::EndToEnd),
];

impl Suite {
    /// The suite of an integration test.
    pub(crate) fn of_target(package: &str, target: &str) -> Self {
        let found = TARGETS
            .iter()
            .find(|known| (known.0, known.1) == (package, target));
        found.map_or(Self::Unit, |known| known.2)
    }

    /// The suite of the tests in a source file, where those are not of its target's.
    pub(crate) fn of_source(path: &str) -> Option<Self> {
        let found = SOURCES.iter().find(|(prefix, _)| path.starts_with(prefix));
        found.map(|known| known.1)
    }

    /// The features that its tests are compiled with.
    fn features(self) -> &'static [&'static str] {
        match self {
            Self::Unit => &[],
            Self::Redis => &["weft-control-plane/redis-tests"],
            Self::Kernel => &["weft-node-agent/kernel-tests"],
            Self::EndToEnd | Self::Monitoring | Self::AsWithout => &["weft-tests/end-to-end"],
            Self::SlowPrograms => &["weft-tests/slow-programs"],
            Self::ApiServer => &["weft-tests/api-server"],
            Self::Deploy => &["weft-tests/deploy"],
            Self::Kubernetes => &["weft-tests/cluster"],
            Self::OldKernels => &["weft-tests/old-kernels"],
        }
    }

    /// What its tests need.
    pub(crate) fn needs(self) -> &'static [Need] {
        use Need::{Go, Images, Kernel, Programs, Prometheus, Python, Redis};
        match self {
            Self::Unit => &[],
            Self::Redis => &[Redis],
            Self::OldKernels => &[Kernel, Programs],
            Self::Kernel => &[Kernel],
            Self::EndToEnd => &[Kernel, Programs, Go(Kit::GrpcInterop)],
            Self::Monitoring => &[Kernel, Programs, Prometheus],
            Self::AsWithout => &[Kernel, Programs, Python],
            Self::SlowPrograms => &[
                Kernel,
                Programs,
                Python,
                Go(Kit::GrpcInterop),
                Go(Kit::H2spec),
            ],
            Self::ApiServer => &[
                Go(Kit::ApiServer),
                Go(Kit::ControllerManager),
                Go(Kit::GrpcInterop),
            ],
            Self::Deploy => &[
                Go(Kit::ApiServer),
                Go(Kit::ControllerManager),
                Go(Kit::Helm),
                Programs,
            ],
            Self::Kubernetes => &[
                Kernel,
                Programs,
                Go(Kit::Cluster),
                Go(Kit::Conformance),
                Images,
            ],
        }
    }

    /// Whether it is left out unless somebody asks for it: it takes many minutes and fetches
    /// hundreds of megabytes.
    pub(crate) fn is_on_request(self) -> bool {
        self == Self::OldKernels
    }

    /// Whether `--fast` leaves it out: building its programs, or running them, takes minutes.
    pub(crate) fn is_slow(self) -> bool {
        matches!(
            self,
            Self::SlowPrograms
                | Self::ApiServer
                | Self::Deploy
                | Self::Kubernetes
                | Self::OldKernels
        )
    }
}

impl Need {
    /// The programs of Go that it is about.
    pub(crate) fn kit(&self) -> Option<Kit> {
        match self {
            Self::Go(kit) => Some(*kit),
            _ => None,
        }
    }

    /// What isn't run without it.
    pub(crate) fn missed(self) -> &'static str {
        match self {
            Self::Kernel => "kernel and end-to-end tests not run",
            Self::Programs => "tests of the programs not run",
            Self::Redis => "tests with Redis not run",
            Self::Prometheus => "tests with Prometheus not run",
            Self::Python => "the comparison with no mesh not run",
            Self::Go(_) | Self::Images => "tests on Kubernetes not run",
        }
    }
}

/// The features of some suites.
pub(crate) fn features(suites: &BTreeSet<Suite>) -> Vec<&'static str> {
    suites
        .iter()
        .flat_map(|suite| suite.features())
        .copied()
        .collect()
}
