//! What the two programs behind `cargo xtask` share: `xtask`, which is compiled in seconds
//! and then builds, and `weft-lab`, which does what needs the test bed.
//!
//! * [`options`]: what each command can be told
//! * [`steps`]: which of how many steps a command is at, for a person who waits
//! * [`workspace`]: the workspace and its Cargo

pub mod options;
pub mod steps;
pub mod workspace;
