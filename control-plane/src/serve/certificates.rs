//! `Certificates.Sign`.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use weft_proto::v1::certificates_server::Certificates;
use weft_proto::v1::{SignRequest, SignResponse};

use super::authentication::Authenticator;
use crate::ca;
use crate::cluster::Cluster;

/// The service.
pub(crate) struct CertificatesService {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) authenticator: Authenticator,
    pub(crate) authority: Arc<ca::Authority>,
}

#[tonic::async_trait]
impl Certificates for CertificatesService {
    async fn sign(&self, call: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let node = self.authenticator.node(&call).await?;
        let request = ca::Request::parse(&call.get_ref().certification_request)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let identity = &request.identity;
        if let Err(reason) = self.cluster.authorize_certificate(identity, &node) {
            tracing::warn!(node, %identity, %reason, "refused a certificate");
            return Err(Status::permission_denied(format!(
                "node {node} gets no certificate for {identity}: {reason}"
            )));
        }
        let chain = self.authority.sign(&request).map_err(|error| {
            tracing::error!(%error, "signing failed");
            Status::internal("the certificate could not be signed")
        })?;
        tracing::info!(node, %identity, "signed a certificate");
        let der = |all: Vec<rustls_pki_types::CertificateDer<'static>>| {
            all.into_iter().map(|one| one.to_vec()).collect()
        };
        Ok(Response::new(SignResponse {
            chain: der(chain),
            roots: der(self.authority.roots()),
        }))
    }
}
