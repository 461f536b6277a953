//! `cargo xtask bench`: Weft against a direct connection and the peers of the
//! field, interleaved in one run, as ratios.

mod envoy;
mod load;
mod processes;
mod report;
mod statistics;
