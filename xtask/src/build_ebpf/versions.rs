//! What the kernel programs are built with.

use std::ops::RangeInclusive;

/// The target whose byte order is that of every machine Weft runs on.
pub(super) const TARGET: &str = "bpfel-unknown-none";
/// The version of bpf-linker that is built.
pub(super) const LINKER: &str = "0.13.0";
/// The LLVM versions that it can be built against.
pub(super) const LLVM_VERSIONS: RangeInclusive<u32> = 21..=23;
/// The compiler, its `core` for BPF, and what bpf-linker is linked with.
pub(super) const PACKAGES: [&str; 3] = ["rustc-web", "libstd-rust-web-dev-bpf", "g++"];
