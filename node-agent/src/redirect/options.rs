//! The choices that an operator has about the programs.

use std::path::PathBuf;

/// The treatment of connections from pods that nobody has told the agent about.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UnknownPods {
    /// They go on as if there were no mesh.
    #[default]
    Allow,
    /// They are refused until the pod is known, also while no agent runs.
    Refuse,
}

/// Options of [`Redirect::load`](super::Redirect::load).
#[derive(Clone, Debug, Default)]
pub struct RedirectOptions {
    /// cgroup v2 directory that holds the pods and this process; the root of the
    /// hierarchy when absent. A relative path starts at that root.
    pub cgroup: Option<PathBuf>,
    /// cgroup v2 directory below which the processes of pods live; looked for when
    /// absent. Where there is none, /proc says which processes are pods'.
    pub pods_cgroup: Option<PathBuf>,
    /// cgroup v2 directory whose processes are kubelet; kubelet is looked for in /proc when
    /// absent.
    pub kubelet_cgroup: Option<PathBuf>,
    /// The treatment of pods that nobody has told the agent about.
    pub unknown_pods: UnknownPods,
    /// Directory, on a BPF file system, that keeps the programs attached when the agent
    /// dies. One agent only.
    pub pin_directory: Option<PathBuf>,
    /// Sizes of maps, by name, instead of those in the object: for tests of full maps.
    pub map_sizes: Vec<(&'static str, u32)>,
    /// Have the programs write a line for every connection; see
    /// [`Redirect::read_log`](super::Redirect::read_log).
    pub log: bool,
}
