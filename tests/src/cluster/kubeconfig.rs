//! Kubeconfigs: where an API server is, and who one is to it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::certificates::Credential;
use crate::error::{Error, Result};

/// Who one is to an API server.
#[derive(Clone, Copy, Debug)]
pub enum Identity<'a> {
    /// By a client certificate.
    Certificate(&'a Credential),
    /// By a bearer token, such as a service account's.
    Token(&'a str),
}

/// Where an API server is, and what its certificate is checked with.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Such as `https://127.0.0.1:6443`.
    pub url: String,
    /// Certificate of the authority, PEM.
    pub authority: String,
}

impl Endpoint {
    /// Writes a kubeconfig that stands alone, readable for its owner only. It is JSON,
    /// which is YAML too.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_kubeconfig(&self, path: &Path, identity: Identity<'_>) -> Result<()> {
        let user = match identity {
            Identity::Certificate(credential) => json!({
                "client-certificate-data": STANDARD.encode(&credential.certificate),
                "client-key-data": STANDARD.encode(&credential.key),
            }),
            Identity::Token(token) => json!({ "token": token }),
        };
        let name = "weft-test";
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {
                "server": self.url,
                "certificate-authority-data": STANDARD.encode(&self.authority),
            }}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        });
        let failed = || Error::system(format!("write {}", path.display()));
        fs::write(path, format!("{text:#}\n")).map_err(failed())?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed())
    }
}
