//! What a program needs beside itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};

/// The loader and the shared libraries of a program, as its own loader finds them
/// (ldd(1)); none of a static one.
///
/// # Errors
/// When the program isn't there, or a library is not.
pub(super) fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .env("LC_ALL", "C")
        .arg(program)
        .output()
        .map_err(Error::system("run ldd"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    if is_static(&text) || is_static(&complaint) {
        return Ok(Vec::new());
    }
    if !output.status.success() {
        return Err(Error::Program {
            command: format!("ldd {}", program.display()),
            status: output.status.to_string(),
            output: complaint.trim().to_owned(),
        });
    }
    parse(&text)
}

fn is_static(text: &str) -> bool {
    text.contains("not a dynamic executable") || text.contains("statically linked")
}

/// Reads lines such as
///
/// ```text
/// linux-vdso.so.1 (0x00007ffd5a7c3000)
/// libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f5d3a000000)
/// /lib64/ld-linux-x86-64.so.2 (0x00007f5d3a2e5000)
/// ```
fn parse(text: &str) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for line in text.lines() {
        let (name, found) = line.split_once("=>").unwrap_or((line, line));
        if found.trim() == "not found" {
            return Err(Error::Missing(format!(
                "the library {} isn't on this machine",
                name.trim()
            )));
        }
        // The kernel's own has no path.
        if let Some(path) = found.split_whitespace().next()
            && path.starts_with('/')
        {
            paths.push(PathBuf::from(path));
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_and_the_libraries_are_found_and_the_kernels_own_is_not_one() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd5a7c3000)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f5d3a000000)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f5d3a2e5000)\n";
        let paths = parse(text).unwrap();
        let expected = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(paths, expected.map(PathBuf::from));
    }

    #[test]
    fn a_library_that_is_not_there_is_an_error_with_its_name() {
        let error = parse("\tlibodd.so.1 => not found\n").unwrap_err();
        assert!(error.to_string().contains("libodd.so.1"), "{error}");
    }
}
