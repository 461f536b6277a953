//! Nothing but a `Cargo.toml`: what programs and tests want of dependencies, all of it.
//!
//! Cargo compiles a dependency once more for every other set of features that it is asked
//! for, and with it all that depends on it. Whatever is built for development is therefore
//! built together with this package, by `--workspace` or by `-p PACKAGE -p
//! weft-test-features`: programs, tests and single packages then share one set, and the
//! tests find compiled what the demo has compiled. What is published is built without it:
//! `cargo build --release`, `-p weft-node-agent -p weft-control-plane`.
