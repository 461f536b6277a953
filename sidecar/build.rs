//! How an optimised sidecar is linked: one runs beside each pod, so that what it keeps in memory
//! counts, and most of that is its program.

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    if links_by_lld() && is("PROFILE", "release") {
        // Functions of the same code are there once.
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
        // Relocations of addresses as a bitmap, which is a thirtieth of a list, and read at each
        // start. The C library knows it since 2.36, which is what the images have.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// What rustc links with by itself on this target; another linker may not know the options.
fn links_by_lld() -> bool {
    let is_own = var("RUSTC_LINKER").is_err()
        && !var("CARGO_ENCODED_RUSTFLAGS").is_ok_and(|flags| flags.contains("link"));
    is_own
        && is("CARGO_CFG_TARGET_ARCH", "x86_64")
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
}

fn is(name: &str, value: &str) -> bool {
    var(name).as_deref() == Ok(value)
}
