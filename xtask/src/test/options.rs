//! What `test` can be told.

use super::suite::Suite;

/// What `test` can be told.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Only tests with one of these in their name, such as `retries` or `wire::`; what they
    /// don't need isn't built.
    #[arg(value_name = "FILTER")]
    pub(crate) filters: Vec<String>,
    /// Leave out what needs Kubernetes or other programs of Go's.
    #[arg(long)]
    pub(crate) fast: bool,
    /// Only tests of this package, such as weft-proxy. Can be given several times.
    #[arg(long, short, value_name = "PACKAGE")]
    pub(crate) package: Vec<String>,
    /// Only this suite. Can be given several times.
    #[arg(long, value_enum, value_name = "SUITE")]
    pub(crate) suite: Vec<Suite>,
    /// Print the names of the tests, by what their sources say, and run none.
    #[arg(long)]
    pub(crate) list: bool,
}
