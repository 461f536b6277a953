//! The proxies of pods, whichever shape they have.

use super::agent::Agent;
use super::running::Mesh;
use super::sidecar::Sidecar;
use crate::access_log::{self, AccessRecord};
use crate::error::{Error, Result};

impl Mesh {
    /// Connections of a pod that ended so far, as whoever serves it tells.
    ///
    /// # Errors
    /// When there is no such pod.
    pub fn access_records_of(&self, pod: &str) -> Result<Vec<AccessRecord>> {
        let log = self.proxy_log(pod)?;
        Ok(access_log::records(&log))
    }

    /// What the proxy of a pod logged: its sidecar, or the agent of its node.
    ///
    /// # Errors
    /// When there is no such pod.
    pub fn proxy_log(&self, pod: &str) -> Result<String> {
        match self.sidecar(pod) {
            Some(sidecar) => Ok(sidecar.log()),
            None => Ok(self.agent_of(pod)?.log()),
        }
    }

    /// Asks the proxy of a pod for something that it serves, such as `/metrics`.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub fn proxy_get(&self, pod: &str, path: &str) -> Result<String> {
        let answer = match self.sidecar(pod) {
            Some(sidecar) => sidecar.get(&self.topology, path)?,
            None => self.agent_of(pod)?.get(&self.topology, path)?,
        };
        Ok(answer.body)
    }

    /// The process of a pod's sidecar.
    pub fn sidecar_pid(&self, pod: &str) -> Option<u32> {
        self.sidecar(pod).map(Sidecar::pid)
    }

    /// Starts a pod's sidecar again, as after a crash.
    ///
    /// # Errors
    /// When it has none, or it can't be started.
    pub fn restart_sidecar(&mut self, pod: &str) -> Result<()> {
        self.sidecar_mut(pod)?.restart()
    }

    /// Tells a pod's sidecar to stop, and doesn't wait.
    ///
    /// # Errors
    /// When it has none.
    pub fn tell_sidecar_to_stop(&self, pod: &str) -> Result<()> {
        let missing = || Error::Missing(format!("{pod} has no sidecar"));
        self.sidecar(pod).ok_or_else(missing)?.tell_to_stop()
    }

    /// Waits until a pod's sidecar has ended well.
    ///
    /// # Errors
    /// When it has none, or doesn't end, or not well.
    pub fn wait_sidecar_ended(&mut self, pod: &str) -> Result<()> {
        self.sidecar_mut(pod)?.wait_ended()
    }

    /// Runs `weft-sidecar` in a pod to its end and gives back what it wrote.
    ///
    /// # Errors
    /// When it fails.
    pub fn run_sidecar(&self, pod: &str, arguments: &[&str]) -> Result<String> {
        let line = [&[self.binaries.sidecar()], arguments].concat();
        self.run(pod, &line)
    }

    /// The program of sidecars.
    pub fn sidecar_program(&self) -> &str {
        self.binaries.sidecar()
    }

    /// Ends the applications of a pod.
    pub fn stop_apps(&mut self, pod: &str) {
        self.apps.retain(|(of, _)| of != pod);
    }

    fn sidecar(&self, pod: &str) -> Option<&Sidecar> {
        self.sidecars.iter().find(|sidecar| sidecar.pod() == pod)
    }

    fn sidecar_mut(&mut self, pod: &str) -> Result<&mut Sidecar> {
        let mut sidecars = self.sidecars.iter_mut();
        let found = sidecars.find(|sidecar| sidecar.pod() == pod);
        found.ok_or_else(|| Error::Missing(format!("{pod} has no sidecar")))
    }

    fn agent_of(&self, pod: &str) -> Result<&Agent> {
        let node = &self.pod(pod)?.node;
        let agent = self.agents.iter().find(|agent| agent.name() == node);
        agent.ok_or_else(|| Error::Missing(format!("there is no agent on {node}")))
    }
}
