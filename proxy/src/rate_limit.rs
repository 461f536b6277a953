//! Asking a rate limit service before a request goes on (`envoy.service.ratelimit.v3`).
//!
//! * [`verdict`]: what follows from an answer (pure)
//! * [`channels`]: connections to services in the mesh
//! * [`own`]: the control plane's own service
//!
//! The service is asked as the pod itself would ask it, through whatever connects the
//! pod to it: [`RateLimits::check`] is given that.

mod channels;
mod own;
mod verdict;

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

use self::channels::Channels;
use self::own::Own;
pub use self::verdict::{Limited, Passed};
use crate::config::control_plane::{ControlPlane, ControlPlaneError, explain};

/// Questions of one pod that may be under way; more are not asked.
const MOST_ASKING: usize = 1024;
/// Largest answer in bytes.
const LARGEST_ANSWER: usize = 64 * 1024;
/// How long after the policy's timeout the server is told to stop.
const STOP_AFTER: Duration = Duration::from_millis(50);
/// A connection may break, or an endpoint go, with the question under way: once more.
const ATTEMPTS: usize = 2;

/// What becomes of a request.
#[derive(Debug)]
pub enum Verdict {
    /// It goes on.
    Allowed(Passed),
    /// It is answered instead.
    Limited(Limited),
    /// Nobody said; [`GlobalRateLimit::fail_open`] decides.
    Unavailable(RateLimitError),
}

/// Why nobody said whether a request is over its limit.
#[derive(Debug, thiserror::Error)]
pub enum RateLimitError {
    /// The service didn't answer within the policy's timeout.
    #[error("the rate limit service did not answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// It answered with an error, or the connection to it failed.
    #[error("the rate limit service: {0}")]
    Failed(String),
    /// It has no endpoint that can be reached.
    #[error("the rate limit service has no endpoint")]
    NoEndpoint,
    /// The control plane is meant, and there is none.
    #[error("there is no control plane to ask about rate limits")]
    NoControlPlane,
    /// The control plane can't be asked.
    #[error("asking the control plane about rate limits: {0}")]
    ControlPlane(#[from] ControlPlaneError),
    /// Too many questions of this pod are under way.
    #[error("too many questions to the rate limit service are under way")]
    Busy,
}

/// What one pod asks rate limit services, and its connections to them.
#[derive(Debug)]
pub struct RateLimits {
    own: Option<Own>,
    channels: Channels,
    asking: Semaphore,
}

impl RateLimits {
    /// For one pod, with the control plane where there is one; connects when needed.
    pub fn new(control_plane: Option<ControlPlane>) -> Self {
        Self {
            own: control_plane.map(Own::new),
            channels: Channels::default(),
            asking: Semaphore::new(MOST_ASKING),
        }
    }

    /// Asks about one request. `servers` are the endpoints of [`GlobalRateLimit::server`]
    /// (none are needed for the control plane's own), and `connect` opens a connection to
    /// one of them, of which the service's protocol is spoken in plaintext HTTP/2.
    pub async fn check<C, F, S>(
        &self,
        limit: &GlobalRateLimit,
        facts: &RequestAttributes<'_>,
        servers: &[Candidate],
        connect: C,
    ) -> Verdict
    where
        C: Fn(Candidate) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Some(request) = question(limit, facts) else {
            return Verdict::Allowed(Passed::default());
        };
        let Ok(_place) = self.asking.try_acquire() else {
            return Verdict::Unavailable(RateLimitError::Busy);
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
            Ok(Ok(response)) => verdict::of(response),
            Ok(Err(error)) => Verdict::Unavailable(error),
            Err(_) => {
                if limit.server.is_some() {
                    self.channels.late(servers);
                }
                Verdict::Unavailable(RateLimitError::Late(limit.timeout))
            }
        }
    }

    /// Forgets connections that nobody has asked over for a while; for whoever keeps house
    /// now and then.
    pub fn forget_unused(&self) {
        self.channels.forget_unused();
    }

    async fn ask_control_plane(
        &self,
        request: RateLimitRequest,
        timeout: Duration,
    ) -> Result<RateLimitResponse, RateLimitError> {
        let own = self.own.as_ref().ok_or(RateLimitError::NoControlPlane)?;
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let mut call = call(request.clone(), timeout);
            let token = own.authorization().await?;
            call.metadata_mut().insert("authorization", token);
            match client(own.channel()).should_rate_limit(call).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if left > 0 && status.code() == Code::Unauthenticated => {
                    own.forget_authorization();
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
fn question(limit: &GlobalRateLimit, facts: &RequestAttributes<'_>) -> Option<RateLimitRequest> {
    let bound = limit.limit.as_ref().map(RequestLimit::from_local_limit);
    let descriptors = request_descriptors(limit, facts).into_iter();
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
