//! The control plane's own service, over the connection that the agent has.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use crate::control_plane::{ControlPlane, ControlPlaneError};
use crate::sync::lock;

/// How long a token is used before its file is read again: Kubernetes replaces it long
/// before it ends, and the question comes with every request.
const KEPT: Duration = Duration::from_secs(30);

/// The control plane, and the token that lets the agent in.
#[derive(Debug)]
pub(super) struct ControlPlaneService {
    control_plane: ControlPlane,
    token: Mutex<Option<(Instant, MetadataValue<Ascii>)>>,
}

impl ControlPlaneService {
    pub(super) fn new(control_plane: ControlPlane) -> Self {
        Self {
            control_plane,
            token: Mutex::default(),
        }
    }

    pub(super) fn channel(&self) -> Channel {
        self.control_plane.channel()
    }

    /// The token, read a moment ago at the most.
    pub(super) async fn authorization(&self) -> Result<MetadataValue<Ascii>, ControlPlaneError> {
        if let Some((at, token)) = &*lock(&self.token)
            && at.elapsed() < KEPT
        {
            return Ok(token.clone());
        }
        let token = self.control_plane.authorization().await?;
        *lock(&self.token) = Some((Instant::now(), token.clone()));
        Ok(token)
    }

    /// Reads the token again next time.
    pub(super) fn forget_authorization(&self) {
        *lock(&self.token) = None;
    }
}
