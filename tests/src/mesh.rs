//! A mesh that runs: control plane, an agent on every node, sidecars in the pods that have one,
//! applications in pods.
//!
//! ```no_run
//! # fn main() -> weft_tests::Result<()> {
//! use weft_tests::manifest::PodSpec;
//! use weft_tests::mesh::MeshBuilder;
//!
//! let mut mesh = MeshBuilder::new(2)
//!     .pod(PodSpec::new("client", 1))
//!     .pod(PodSpec::new("web", 2))
//!     .start()?;
//! mesh.serve("web", &["http", "--listen", "[::]:8080", "--name", "web"])?;
//! let url = format!("http://{}:8080/", mesh.pod("web")?.host.ipv4());
//! mesh.run("client", &["curl", "-sS", &url])?;
//! # Ok(())
//! # }
//! ```

mod agent;
mod binaries;
mod builder;
mod control_plane;
mod logs;
mod parts;
mod proxies;
mod running;
mod sidecar;

pub use agent::AgentOptions;
pub use binaries::Binaries;
pub use builder::MeshBuilder;
pub use parts::PATIENCE;
pub use running::{Mesh, parse_report};
