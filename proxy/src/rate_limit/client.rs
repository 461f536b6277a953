//! What one pod asks rate limit services.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tonic::Code;
use tonic::client::GrpcService;
use weft_model::mesh::Candidate;
use weft_model::traffic::GlobalRateLimit;
use weft_model::traffic::rate_limit::{RequestAttributes, RequestLimit, request_descriptors};
use weft_proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use weft_proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use weft_proto::rate_limit::descriptor_message;

use super::channels::Channels;
use super::control_plane::ControlPlaneService;
use super::decision::{RateLimitDecision, RateLimitHeaders, decide};
use super::error::RateLimitError;
use crate::control_plane::{ControlPlane, explain};

/// Questions of one pod that may be under way; more are not asked.
const MOST_ASKING: usize = 1024;
/// Largest answer in bytes.
const LARGEST_ANSWER: usize = 64 * 1024;
/// How long after the policy's timeout the server is told to stop.
const STOP_AFTER: Duration = Duration::from_millis(50);
/// A connection may break, or an endpoint go, with the question under way: once more.
const ATTEMPTS: usize = 2;

/// What one pod asks rate limit services, and its connections to them.
#[derive(Debug)]
pub(crate) struct RateLimits {
    control_plane: Option<ControlPlaneService>,
    channels: Channels,
    asking: Semaphore,
}

impl RateLimits {
    /// For one pod, with the control plane where there is one; connects when needed.
    pub(crate) fn new(control_plane: Option<ControlPlane>) -> Self {
        Self {
            control_plane: control_plane.map(ControlPlaneService::new),
            channels: Channels::default(),
            asking: Semaphore::new(MOST_ASKING),
        }
    }

    /// Asks about one request. `servers` are the endpoints of [`GlobalRateLimit::server`]
    /// (none are needed for the control plane's own), and `connect` opens a connection to
    /// one of them, of which the service's protocol is spoken in plaintext HTTP/2.
    pub(crate) async fn check<C, F, S>(
        &self,
        limit: &GlobalRateLimit,
        attributes: &RequestAttributes<'_>,
        servers: &[Candidate],
        connect: C,
    ) -> RateLimitDecision
    where
        C: Fn(Candidate) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Some(request) = question(limit, attributes) else {
            return RateLimitDecision::Allowed(RateLimitHeaders::default());
        };
        let Ok(_permit) = self.asking.try_acquire() else {
            return RateLimitDecision::Unavailable(RateLimitError::Busy);
        };
        let answer = async {
            match limit.server {
                None => self.ask_control_plane(request, limit.timeout).await,
                Some(_) => {
                    self.ask_service(request, limit.timeout, servers, &connect)
                        .await
                }
            }
        };
        match tokio::time::timeout(limit.timeout, answer).await {
            Ok(Ok(response)) => decide(response),
            Ok(Err(error)) => RateLimitDecision::Unavailable(error),
            Err(_) => {
                if limit.server.is_some() {
                    self.channels.late(servers);
                }
                RateLimitDecision::Unavailable(RateLimitError::Late(limit.timeout))
            }
        }
    }

    /// Forgets connections that nobody has asked over for a while; for whoever keeps house
    /// now and then.
    pub(crate) fn forget_unused(&self) {
        self.channels.forget_unused();
    }

    async fn ask_control_plane(
        &self,
        request: RateLimitRequest,
        timeout: Duration,
    ) -> Result<RateLimitResponse, RateLimitError> {
        let service = self
            .control_plane
            .as_ref()
            .ok_or(RateLimitError::NoControlPlane)?;
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let mut call = call(request.clone(), timeout);
            let token = service.authorization().await?;
            call.metadata_mut().insert("authorization", token);
            match client(service.channel()).should_rate_limit(call).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if left > 0 && status.code() == Code::Unauthenticated => {
                    service.forget_authorization();
                }
                Err(status) if left > 0 && is_broken(&status) => {}
                Err(status) => return Err(failed(&status)),
            }
        }
    }

    async fn ask_service<C, F, S>(
        &self,
        request: RateLimitRequest,
        timeout: Duration,
        servers: &[Candidate],
        connect: &C,
    ) -> Result<RateLimitResponse, RateLimitError>
    where
        C: Fn(Candidate) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let (candidate, channel) = self
                .channels
                .pick(servers, connect)
                .ok_or(RateLimitError::NoEndpoint)?;
            let call = call(request.clone(), timeout);
            match client(channel).should_rate_limit(call).await {
                Ok(response) => {
                    self.channels.answered(candidate);
                    return Ok(response.into_inner());
                }
                Err(status) if is_broken(&status) => {
                    self.channels.failed(candidate);
                    if left == 0 {
                        return Err(failed(&status));
                    }
                }
                Err(status) => return Err(failed(&status)),
            }
        }
    }
}

/// What is asked; nothing when no descriptor fits the request.
fn question(
    limit: &GlobalRateLimit,
    attributes: &RequestAttributes<'_>,
) -> Option<RateLimitRequest> {
    let bound = limit.limit.as_ref().map(RequestLimit::from_local_limit);
    let descriptors = request_descriptors(limit, attributes).into_iter();
    let descriptors: Vec<_> = descriptors
        .map(|one| descriptor_message(one, bound))
        .collect();
    (!descriptors.is_empty()).then(|| RateLimitRequest {
        domain: limit.domain.to_string(),
        descriptors,
        hits_addend: 0,
    })
}

fn call(request: RateLimitRequest, timeout: Duration) -> tonic::Request<RateLimitRequest> {
    let mut call = tonic::Request::new(request);
    // For the server, which may stop then. Here another clock runs, for all attempts.
    call.set_timeout(timeout + STOP_AFTER);
    call
}

fn client<T>(channel: T) -> RateLimitServiceClient<T>
where
    T: GrpcService<tonic::body::Body>,
    T::Error: Into<tonic::codegen::StdError>,
    T::ResponseBody: tonic::codegen::Body<Data = tonic::codegen::Bytes> + Send + 'static,
    <T::ResponseBody as tonic::codegen::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    RateLimitServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER)
}

/// Whether another attempt may do better: the way there failed, or the server is on its
/// way out, rather than that it didn't like the question.
fn is_broken(status: &tonic::Status) -> bool {
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}

fn failed(status: &tonic::Status) -> RateLimitError {
    let error = std::error::Error::source(status);
    let cause = error.map(explain);
    let message = status.message();
    RateLimitError::Failed(match cause {
        Some(cause) if !cause.is_empty() && cause != message => format!("{message}: {cause}"),
        _ if message.is_empty() => status.code().description().to_owned(),
        _ => message.to_owned(),
    })
}

#[cfg(test)]
mod tests;
