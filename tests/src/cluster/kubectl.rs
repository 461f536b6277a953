//! kubectl, as one kubeconfig's user.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::wait::wait_for;

/// kubectl with a kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// Of a program and a kubeconfig.
    pub fn new(program: &Path, kubeconfig: &Path) -> Self {
        Self {
            program: program.to_owned(),
            kubeconfig: kubeconfig.to_owned(),
        }
    }

    /// Its program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The kubeconfig that it uses.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs it; gives back what it wrote.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        self.run_with("", arguments)
    }

    /// The same with a text as its standard input: `run_with(text, &["apply", "-f", "-"])`.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn run_with(&self, input: &str, arguments: &[&str]) -> Result<String> {
        let failed = || Error::system(format!("run {}", self.program.display()));
        let mut child = Command::new(&self.program)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed())?;
        if let Some(mut stdin) = child.stdin.take() {
            // It may end, with an error of its own, before it has read all.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().map_err(failed())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        Err(Error::Program {
            command: format!("kubectl {}", arguments.join(" ")),
            status: output.status.to_string(),
            output: text + &String::from_utf8_lossy(&output.stderr),
        })
    }

    /// Applies manifests.
    ///
    /// # Errors
    /// When the API server refuses them.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        self.run_with(manifests, &["apply", "--server-side", "-f", "-"])
            .map(drop)
    }

    /// Runs it with `-o json` and gives back the object.
    ///
    /// # Errors
    /// When it fails or writes no JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.run(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text)
            .map_err(|error| Error::Unreadable(format!("kubectl wrote no JSON: {error}")))
    }

    /// Runs it until what it writes is as wanted.
    ///
    /// # Errors
    /// When that takes longer than `limit`, with the last output.
    pub fn wait(
        &self,
        what: &str,
        limit: Duration,
        arguments: &[&str],
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        wait_for(what, limit, || match self.run(arguments) {
            Ok(text) if wanted(&text) => Ok(text),
            Ok(text) => Err(text),
            Err(error) => Err(error.to_string()),
        })
    }
}
