//! Container images, packed without a registry or a container engine.

mod archive;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

use crate::error::{Error, Result};
use archive::Archive;

/// An image of one layer.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Name and tag, such as `weft.test/web:1`; `latest` would always be pulled.
    pub name: String,
    /// Path in the image, the file it comes from, and its mode.
    pub files: Vec<(PathBuf, PathBuf, u32)>,
    /// What it runs.
    pub entrypoint: Vec<String>,
}

impl Image {
    /// One program at `/NAME`, with what it is linked to.
    ///
    /// # Errors
    /// When a library of it can't be found.
    pub fn of_program(name: &str, program: &Path) -> Result<Self> {
        let base = program
            .file_name()
            .and_then(|base| base.to_str())
            .ok_or_else(|| Error::Unreadable(format!("{} has no name", program.display())))?;
        let inside = format!("/{base}");
        let image = Self {
            name: name.to_owned(),
            entrypoint: vec![inside.clone()],
            ..Self::default()
        };
        image.program(&inside, program)
    }

    /// Adds a program, with the libraries and the loader that it is linked to.
    ///
    /// # Errors
    /// When one of them can't be found.
    pub fn program(mut self, inside: &str, program: &Path) -> Result<Self> {
        self.files.push((inside.into(), program.into(), 0o755));
        for library in libraries(program)? {
            let known = self.files.iter().any(|(inside, _, _)| *inside == library);
            if !known {
                self.files.push((library.clone(), library, 0o755));
            }
        }
        Ok(self)
    }

    /// Writes it as `docker save` does.
    ///
    /// # Errors
    /// When a file can't be read, or the archive not be written.
    pub fn pack(&self, to: &Path) -> Result<()> {
        let layer = self.layer()?;
        let digest = digest(&SHA256, &layer);
        let hash: String = digest
            .as_ref()
            .iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{hash}")]},
        });
        let manifest = json!([{
            "Config": "config.json",
            "RepoTags": [self.name],
            "Layers": ["layer.tar"],
        }]);
        let failed = || Error::system(format!("write {}", to.display()));
        let file = BufWriter::new(File::create(to).map_err(failed())?);
        let mut archive = Archive::new(file);
        for (name, bytes) in [
            ("layer.tar", layer.as_slice()),
            ("config.json", config.to_string().as_bytes()),
            ("manifest.json", manifest.to_string().as_bytes()),
        ] {
            archive.file(name, 0o644, bytes).map_err(failed())?;
        }
        let mut file = archive.finish().map_err(failed())?;
        file.flush().map_err(failed())
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let failed = |path: &Path| Error::system(format!("pack {}", path.display()));
        let mut files = BTreeMap::new();
        let mut directories = vec![(PathBuf::from("tmp"), 0o1777)];
        for (inside, source, mode) in &self.files {
            let inside = inside.strip_prefix("/").unwrap_or(inside);
            let above = inside.ancestors().skip(1);
            directories.extend(above.map(|path| (path.to_owned(), 0o755)));
            files.insert(inside.to_owned(), (source, *mode));
        }
        directories.sort();
        directories.dedup_by(|a, b| a.0 == b.0);
        let mut archive = Archive::new(Vec::new());
        for (path, mode) in directories {
            if path != Path::new("") {
                archive
                    .directory(&path.display().to_string(), mode)
                    .map_err(failed(&path))?;
            }
        }
        for (inside, (source, mode)) in files {
            let bytes = fs::read(source).map_err(failed(source))?;
            archive
                .file(&inside.display().to_string(), mode, &bytes)
                .map_err(failed(source))?;
        }
        archive.finish().map_err(failed(Path::new("a layer")))
    }
}

/// What ldd(1) says a program is linked to, with the loader; nothing for a static one.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .map_err(Error::system("run ldd"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        return Err(Error::Missing(format!(
            "{}: {}",
            program.display(),
            line.trim()
        )));
    }
    Ok(parse_libraries(&text))
}

/// Lines like `libc.so.6 => /lib/libc.so.6 (0x7f00)` and `/lib64/ld-linux.so.2 (0x7f00)`.
fn parse_libraries(text: &str) -> Vec<PathBuf> {
    let paths = text.lines().filter_map(|line| {
        let line = line.split_once("=> ").map_or(line, |(_, path)| path);
        let path = line.trim().split(" (").next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    });
    paths.collect()
}

/// As Go calls it, and therefore container images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_loader_are_read_from_what_ldd_says() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\
             \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f10)\n\
             \t/lib64/ld-linux-x86-64.so.2 (0x00007f20)\n";
        let expected = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(parse_libraries(text), expected.map(PathBuf::from));
        assert!(parse_libraries("\tstatically linked\n").is_empty());
    }

    #[test]
    fn the_archive_is_one_that_tar_reads() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        fs::write(&source, "hello").unwrap();
        let image = Image {
            name: "weft.test/hello:1".to_owned(),
            files: vec![("/etc/hello/text".into(), source, 0o640)],
            entrypoint: vec!["/bin/nothing".to_owned()],
        };
        let path = directory.path().join("image.tar");
        image.pack(&path).unwrap();
        let tar = |arguments: &[&str]| {
            let mut command = Command::new("tar");
            command.current_dir(directory.path()).args(arguments);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(
            tar(&["-tf", "image.tar"]),
            "layer.tar\nconfig.json\nmanifest.json\n"
        );
        tar(&["-xf", "image.tar", "layer.tar"]);
        let listed = tar(&["-tvf", "layer.tar"]);
        assert!(listed.contains("-rw-r-----"), "{listed}");
        assert!(listed.contains("drwxrwxrwt"), "{listed}");
        assert_eq!(tar(&["-xOf", "layer.tar", "etc/hello/text"]), "hello");
    }
}
