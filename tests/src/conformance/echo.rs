//! The application that the suite asks and asks from, as an image.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::module::MODULE;
use crate::cluster::{Authority, Binaries};
use crate::error::{Error, Result};
use crate::image::Image;

/// What the suite makes of its namespaces.
const MANIFESTS: &str = "mesh/manifests.yaml";

/// Every image that the suite's manifests name: all are Istio's echo application, server
/// and client, with the certificate that its arguments name.
///
/// # Errors
/// When a program or the suite's module isn't there.
pub fn images(binaries: &Binaries, workspace: &Path) -> Result<Vec<Image>> {
    let manifests = Binaries::gateway_api_module(workspace, MODULE)?.join(MANIFESTS);
    let text = fs::read_to_string(&manifests)
        .map_err(Error::system(format!("read {}", manifests.display())))?;
    let names = image_names(&text);
    if names.is_empty() {
        let manifests = manifests.display();
        return Err(Error::Unreadable(format!("{manifests} names no image")));
    }
    let credential = Authority::new()?.server(&["echo"], &[])?;
    let image = |name: &&str| {
        let mut image = Image::new(*name);
        for program in ["server", "client"] {
            let source = binaries.path(&format!("echo/{program}"))?;
            image.add_program(source, format!("usr/local/bin/{program}"))?;
        }
        image.add("cert.crt", 0o644, credential.certificate.as_str());
        image.add("cert.key", 0o644, credential.key.as_str());
        image.entrypoint = vec!["/usr/local/bin/server".to_owned()];
        Ok(image)
    };
    names.iter().map(image).collect()
}

fn image_names(manifests: &str) -> BTreeSet<&str> {
    let lines = manifests.lines().map(str::trim);
    lines
        .filter_map(|line| line.trim_start_matches("- ").strip_prefix("image: "))
        .map(str::trim)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_once() {
        let text = "
      containers:
        - name: echo
          image: example.com/echo:v1
        - image: example.com/echo:v2
          imagePullPolicy: IfNotPresent
---
          image: example.com/echo:v1
";
        let names = image_names(text);
        let names: Vec<_> = names.into_iter().collect();
        assert_eq!(names, ["example.com/echo:v1", "example.com/echo:v2"]);
    }
}
