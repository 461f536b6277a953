//! Sidecars, in the command line.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::inject::{InjectedShape, InjectionOptions};
use crate::kinds::ProxyMode;

/// The image of this version.
const IMAGE: &str = concat!("weft/sidecar:", env!("CARGO_PKG_VERSION"));

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sidecars")]
pub(crate) struct SidecarArgs {
    /// Image of the sidecars that are injected.
    #[arg(long, value_name = "IMAGE", default_value = IMAGE)]
    pub(crate) sidecar_image: String,
    /// When their image is pulled: Always, IfNotPresent or Never.
    #[arg(long, value_name = "POLICY", default_value = "IfNotPresent")]
    pub(crate) sidecar_image_pull_policy: String,
    /// Where sidecars reach the control plane: its Service in its own namespace when left out.
    #[arg(long, value_name = "URL")]
    pub(crate) sidecar_control_plane: Option<String>,
    /// Shape of the sidecars that are injected.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) sidecar_shape: SidecarShape,
}

/// Shape of a sidecar in its pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum SidecarShape {
    /// Native where the API server, which is asked once, at the start, and the kubelets of the nodes
    /// that a pod may land on are of version 1.29 or newer.
    Auto,
    /// An init container that goes on running: it starts before the application and ends after it.
    Native,
    /// A container beside the application's.
    Classic,
}

#[derive(Args, Debug)]
pub(crate) struct Inject {
    /// File of manifests; `-` is standard input.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Namespace of what says none.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) namespace: String,
    /// Mode of pods that say none, nor their namespaces: `sidecar`, `node` or `auto`. With `auto`
    /// the file's Nodes decide.
    #[arg(long, default_value = "sidecar")]
    pub(crate) mode: ProxyMode,
    #[command(flatten)]
    pub(crate) sidecars: SidecarArgs,
    /// The control plane's own namespace.
    #[arg(
        long,
        value_name = "NAME",
        env = "WEFT_NAMESPACE",
        default_value = "weft-system"
    )]
    pub(crate) mesh_namespace: String,
    /// Name in the control plane's certificate.
    #[arg(long, value_name = "NAME", default_value = "weft-control-plane")]
    pub(crate) server_name: String,
    /// The audience that sidecars' tokens are meant for.
    #[arg(long, value_name = "AUDIENCE", default_value = "weft-control-plane")]
    pub(crate) token_audience: String,
    /// ConfigMap in which the roots are published.
    #[arg(long, value_name = "NAME", default_value = "weft-root-certificates")]
    pub(crate) root_config_map: String,
}

/// The mesh that sidecars are of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SidecarMesh<'a> {
    /// The control plane's own namespace.
    pub(crate) namespace: &'a str,
    /// A name in its certificate.
    pub(crate) server_name: &'a str,
    /// The audience that it asks of tokens.
    pub(crate) token_audience: &'a str,
    /// The ConfigMap with its roots.
    pub(crate) root_config_map: &'a str,
}

impl SidecarArgs {
    /// All that is to know about sidecars of that mesh, in that shape where nobody says another.
    pub(crate) fn options(
        &self,
        mesh: SidecarMesh<'_>,
        mode: ProxyMode,
        shape: InjectedShape,
    ) -> InjectionOptions {
        let address = self.sidecar_control_plane.clone();
        InjectionOptions {
            image: self.sidecar_image.clone(),
            image_pull_policy: self.sidecar_image_pull_policy.clone(),
            control_plane: address.unwrap_or_else(|| {
                format!("https://weft-control-plane.{}.svc:15010", mesh.namespace)
            }),
            control_plane_name: mesh.server_name.to_owned(),
            token_audience: mesh.token_audience.to_owned(),
            root_config_map: mesh.root_config_map.to_owned(),
            mesh_namespace: mesh.namespace.to_owned(),
            mode,
            shape: match self.sidecar_shape {
                SidecarShape::Auto => shape,
                SidecarShape::Native => InjectedShape::Native,
                SidecarShape::Classic => InjectedShape::Classic,
            },
        }
    }
}

impl Inject {
    /// All that is to know about the sidecars.
    pub(crate) fn options(&self) -> InjectionOptions {
        let mesh = SidecarMesh {
            namespace: &self.mesh_namespace,
            server_name: &self.server_name,
            token_audience: &self.token_audience,
            root_config_map: &self.root_config_map,
        };
        self.sidecars
            .options(mesh, self.mode, InjectedShape::OfKubelets)
    }
}
