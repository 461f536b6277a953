//! Asks the control plane's certificate authority.

use std::time::{Duration, SystemTime};

use weft_model::SpiffeId;
use weft_proto::v1::SignRequest;
use weft_proto::v1::certificates_client::CertificatesClient;

use super::certificate::Certificate;
use super::issued::{self, IssuedError};
use super::request::{CertificateRequest, RequestError};
use crate::control_plane::{ControlPlane, ControlPlaneError, explain};

/// How long the certificate authority may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum SigningError {
    /// No way to the control plane.
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
    /// No key or request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The certificate authority refused, or couldn't be reached.
    #[error("the certificate authority: {}", status(.0))]
    Refused(Box<tonic::Status>),
    /// It didn't answer.
    #[error("the certificate authority didn't answer within {} s", PATIENCE.as_secs())]
    Stalled,
    /// What it sent can't be used.
    #[error("refused what the certificate authority sent: {0}")]
    Issued(#[from] IssuedError),
}

fn status(status: &tonic::Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => explain(source),
        None => format!("{}: {}", status.code(), status.message()),
    }
}

/// A certificate for an identity, with a fresh key, checked.
///
/// # Errors
/// When it can't be had or what came can't be used.
pub(super) async fn sign(
    control_plane: &ControlPlane,
    identity: &SpiffeId,
) -> Result<Certificate, SigningError> {
    let CertificateRequest { key, der } = CertificateRequest::generate(identity)?;
    let request = control_plane
        .request(SignRequest {
            certification_request: der,
        })
        .await?;
    let mut client = CertificatesClient::new(control_plane.channel());
    let answer = tokio::time::timeout(PATIENCE, client.sign(request))
        .await
        .map_err(|_| SigningError::Stalled)?
        .map_err(|status| SigningError::Refused(Box::new(status)))?;
    Ok(issued::check(
        identity,
        key,
        answer.into_inner(),
        SystemTime::now(),
    )?)
}
