//! Embeds the kernel programs that `cargo xtask build-ebpf` has built. Without them
//! the agent still builds; it then says at start what is missing.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-env-changed=WEFT_EBPF_OBJECT");
    println!("cargo::rustc-check-cfg=cfg(weft_ebpf_object)");
    let object = object_path();
    println!("cargo::rerun-if-changed={}", object.display());
    if !object.is_file() {
        return Ok(());
    }
    let out = PathBuf::from(variable("OUT_DIR")?).join("weft-ebpf");
    fs::copy(&object, &out)?;
    println!("cargo::rustc-env=WEFT_EBPF_EMBEDDED={}", out.display());
    println!("cargo::rustc-cfg=weft_ebpf_object");
    Ok(())
}

/// Where the object is: `WEFT_EBPF_OBJECT`, else `target/ebpf/weft-ebpf` in the
/// workspace, where `cargo xtask build-ebpf` puts it.
fn object_path() -> PathBuf {
    if let Some(path) = env::var_os("WEFT_EBPF_OBJECT") {
        return PathBuf::from(path);
    }
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .unwrap_or_default();
    let workspace = package.parent().unwrap_or(Path::new("."));
    let target = match env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => workspace.join(directory),
        None => workspace.join("target"),
    };
    target.join("ebpf").join("weft-ebpf")
}

fn variable(name: &str) -> std::io::Result<std::ffi::OsString> {
    env::var_os(name).ok_or_else(|| std::io::Error::other(format!("cargo sets no {name}")))
}
