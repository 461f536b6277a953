//! `Certificates.Sign`.

use std::sync::Arc;

use tonic::{Code, Request, Response, Status};
use weft_model::SpiffeId;
use weft_proto::v1::certificates_server::Certificates;
use weft_proto::v1::{SignRequest, SignResponse};

use super::authentication::{Authenticator, Principal};
use super::certificate_counts::CertificateCounts;
use crate::ca;
use crate::cluster::Cluster;
use crate::index::CertificateDenied;

/// The service.
pub(crate) struct CertificatesService {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) authenticator: Authenticator,
    pub(crate) authority: Arc<ca::Authority>,
    pub(crate) counts: Arc<CertificateCounts>,
}

impl CertificatesService {
    /// An agent may have those of its node's pods, a sidecar that of its own pod alone.
    ///
    /// # Errors
    /// The reason to give none.
    fn authorize(
        &self,
        principal: &Principal,
        identity: &SpiffeId,
    ) -> Result<(), CertificateDenied> {
        match principal {
            Principal::Agent { node } => self.cluster.authorize_certificate(identity, node),
            Principal::Sidecar(pod) => {
                let known = self.cluster.sidecar_pod(&pod.name);
                let known = known.filter(|known| pod.has_uid(&known.uid) && pod.may_be(identity));
                let known = known.ok_or(CertificateDenied::NotThisPod)?;
                self.cluster.authorize_pod_certificate(identity, &known.uid)
            }
        }
    }
}

#[tonic::async_trait]
impl Certificates for CertificatesService {
    async fn sign(&self, call: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let answer = self.answer(&call).await;
        self.counts
            .record(answer.as_ref().map_or_else(Status::code, |_| Code::Ok));
        answer
    }
}

impl CertificatesService {
    async fn answer(&self, call: &Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let principal = self.authenticator.principal(call).await?;
        let request = ca::Request::parse(&call.get_ref().certification_request)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let identity = &request.identity;
        if let Err(reason) = self.authorize(&principal, identity) {
            tracing::warn!(%principal, %identity, %reason, "refused a certificate");
            return Err(Status::permission_denied(format!(
                "{principal} gets no certificate for {identity}: {reason}"
            )));
        }
        let chain = self.authority.sign(&request).map_err(|error| {
            tracing::error!(%error, "signing failed");
            Status::internal("the certificate could not be signed")
        })?;
        tracing::info!(%principal, %identity, "signed a certificate");
        let der = |all: Vec<rustls_pki_types::CertificateDer<'static>>| {
            all.into_iter().map(|one| one.to_vec()).collect()
        };
        Ok(Response::new(SignResponse {
            chain: der(chain),
            roots: der(self.authority.roots()),
        }))
    }
}
