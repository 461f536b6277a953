//! The HTTP connection from the proxy to the application, one for each connection that
//! arrives: what a client's connection means to the application (a user who has logged in,
//! an order of requests) stays its own.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::http::FieldNames;
use crate::http::body::{GateHolder, RequestBody, RequestBodySource};
use crate::http::half_close::ClientEnd;
use crate::http::handshake::{StreamLimit, handshake_http1, handshake_http2};
use crate::http::http1_sender::{Http1Sender, NoResponse};
use crate::http::interim::InterimResponses;
use crate::http::observed_stream::{Observation, ObservedStream};
use crate::http::request_info::RequestInfo;
use crate::http::response_error::no_response_flag;
use crate::http::server::Http1Options;
use crate::http::version::HttpVersion;
use crate::http::was_sent_away;
use crate::http::watched_stream::WatchedStream;
use crate::inbound::application::dial;
use crate::inbound::arrival::Arrival;
use crate::inbound::error::InboundError;
use crate::pod::Pod;
use crate::settings::{HeadLimits, Settings};
use crate::sync::lock;
use crate::telemetry::ResponseFlag;

/// Attempts to send a request that was not read yet: the application may close a connection at
/// any moment.
const ATTEMPTS: usize = 2;

/// Why the application did not respond.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplicationError {
    /// It took no connection.
    #[error(transparent)]
    Connect(#[from] InboundError),
    /// HTTP with it failed.
    #[error("HTTP with the application: {0}")]
    Http(#[from] hyper::Error),
    /// It broke off after the client's side had ended.
    #[error("the client had ended its side ({0})")]
    ClientLeft(hyper::Error),
}

impl ApplicationError {
    /// Its word in metrics and access log.
    pub(super) fn flag(&self) -> ResponseFlag {
        match self {
            Self::Connect(_) => ResponseFlag::UpstreamReset,
            Self::Http(error) => no_response_flag(error),
            Self::ClientLeft(_) => ResponseFlag::DownstreamReset,
        }
    }
}

/// The connection to the application. When the application closes it, its client's is to
/// end, too; it is made anew for a request that was on its way then.
#[derive(Debug)]
pub(super) struct ApplicationConnection {
    pod: Arc<Pod>,
    client: SocketAddr,
    destination: SocketAddr,
    version: HttpVersion,
    /// `None` while a request of HTTP/1 has it: one is under way at a time.
    sender: Mutex<Option<Sender>>,
    /// One request connects, the others wait for its result.
    connecting: Semaphore,
    /// Cancelled when the application's first connection ends.
    ended: CancellationToken,
    /// The end of the client's side, while a request of HTTP/1 is under way.
    pub(super) client_end: ClientEnd,
    /// Responses ahead of the final one, to a client of HTTP/1.
    interim: InterimResponses,
}

#[derive(Debug)]
enum Sender {
    Http1(ObservedSender),
    Http2(http2::SendRequest<RequestBody>, StreamLimit),
}

/// A connection of HTTP/1 to the application.
#[derive(Debug)]
struct ObservedSender {
    requests: Http1Sender,
    observation: Arc<Observation>,
    /// It has answered before: its end and the next request may cross.
    has_answered: bool,
}

impl ObservedSender {
    /// Sends a request and waits for the head of its response; the application sees the end of
    /// the client.
    ///
    /// # Errors
    /// When the connection broke, and whether the application certainly did nothing with it.
    async fn send(
        &mut self,
        request: Request<RequestBody>,
        client: &ClientEnd,
    ) -> Result<Response<Incoming>, (NoResponse, bool)> {
        let before = self.observation.received();
        let sent = self.requests.send(request, Some(client)).await;
        let was_idle = self.has_answered && self.observation.received() == before;
        self.has_answered = true;
        sent.map_err(|error| (error, was_idle && self.observation.ended_unread()))
    }
}

impl ApplicationConnection {
    /// Begins HTTP on a connection to the application.
    ///
    /// # Errors
    /// When the connection broke meanwhile.
    pub(super) async fn begin(
        arrival: &Arrival,
        version: HttpVersion,
        application: TcpStream,
    ) -> Result<Self, hyper::Error> {
        let ended = CancellationToken::new();
        let application = WatchedStream::new(application, ended.clone());
        let sender = Sender::begin(version, application, arrival.pod.node.settings.heads).await?;
        Ok(Self {
            pod: Arc::clone(&arrival.pod),
            client: arrival.client,
            destination: arrival.destination,
            version,
            sender: Mutex::new(Some(sender)),
            connecting: Semaphore::new(1),
            ended,
            client_end: ClientEnd::default(),
            interim: InterimResponses::default(),
        })
    }

    /// How its client's connection is served, which may be silent for that long.
    pub(super) fn client_options(
        &self,
        settings: &Settings,
        idle: Option<Duration>,
    ) -> Http1Options {
        let (end, interim) = (self.client_end.clone(), self.interim.clone());
        Http1Options::new(settings, idle, FieldNames::AsSent, end, interim)
    }

    /// Has its interim responses passed on, where client and application know them.
    fn pass_interim_on(
        &self,
        info: &RequestInfo,
        request: Request<RequestBody>,
    ) -> (Request<RequestBody>, Option<GateHolder>) {
        match self.version {
            HttpVersion::Http1 if !info.http10 => self.interim.pass_on(request),
            HttpVersion::Http1 | HttpVersion::Http2 => (request, None),
        }
    }

    /// Resolves when the application has ended its connection: so shall its client's, once
    /// what is under way is passed on.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Requests of HTTP/2 that the application takes at the same time, once it has said so: a
    /// client that knows puts no more on the connection than run at once.
    pub(super) async fn stream_limit(&self) -> usize {
        let limit = match &*lock(&self.sender) {
            Some(Sender::Http2(_, limit)) => Some(limit.clone()),
            Some(Sender::Http1(_)) | None => None,
        };
        match limit {
            Some(mut limit) => limit.known().await,
            None => 1,
        }
    }

    /// Sends a request and waits for the head of its response. What comes with it keeps the
    /// request's body with the client, as long as the application hasn't asked for it.
    ///
    /// # Errors
    /// When the application takes no connection, or breaks it off.
    pub(super) async fn send(
        &self,
        info: &RequestInfo,
        head: Parts,
        body: &mut RequestBodySource,
    ) -> Result<(Response<Incoming>, Option<GateHolder>), ApplicationError> {
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let mut sender = self.ready_sender().await?;
            let attempt = body.next_attempt().unwrap_or(RequestBody::Empty);
            let request = Request::from_parts(head.clone(), attempt);
            let (request, gate) = self.pass_interim_on(info, request);
            let sent = match &mut sender {
                Sender::Http1(sender) => sender.send(request, &self.client_end).await,
                Sender::Http2(sender, _) => {
                    let sent = sender.try_send_request(request).await;
                    sent.map_err(|error| {
                        // What is refused by itself is for the client to send again.
                        let sent_away = was_sent_away(error.error());
                        (error.into(), sent_away)
                    })
                }
            };
            match sent {
                Ok(response) => {
                    if let Sender::Http1(_) = sender {
                        *lock(&self.sender) = Some(sender);
                    }
                    return Ok((response, gate));
                }
                Err((NoResponse { error, unsent }, is_unprocessed)) => match unsent {
                    Some(unsent) if left > 0 => {
                        body.put_back(unsent.into_body().without_gate());
                    }
                    None if is_unprocessed && left > 0 && body.is_whole() => {}
                    _ if self.client_end.has_ended() => {
                        return Err(ApplicationError::ClientLeft(error));
                    }
                    _ => return Err(error.into()),
                },
            }
        }
    }

    /// The connection as it is, where the application hasn't closed it; else a new one.
    async fn ready_sender(&self) -> Result<Sender, ApplicationError> {
        if let Some(sender) = self.open_sender().await {
            return Ok(sender);
        }
        let _turn = self.connecting.acquire().await;
        // Another request may have connected meanwhile.
        if let Some(sender) = self.open_sender().await {
            return Ok(sender);
        }
        let application = dial(&self.pod, self.destination, self.client).await?;
        // The client's connection ends with the request that came meanwhile.
        let application = WatchedStream::new(application, CancellationToken::new());
        let sender = Sender::begin(self.version, application, self.pod.node.settings.heads).await?;
        if let Sender::Http2(sender, limit) = &sender {
            *lock(&self.sender) = Some(Sender::Http2(sender.clone(), limit.clone()));
        }
        Ok(sender)
    }

    async fn open_sender(&self) -> Option<Sender> {
        let mut sender = {
            let mut kept = lock(&self.sender);
            match kept.take()? {
                Sender::Http1(sender) => Sender::Http1(sender),
                Sender::Http2(sender, limit) => {
                    *kept = Some(Sender::Http2(sender.clone(), limit.clone()));
                    Sender::Http2(sender, limit)
                }
            }
        };
        let ready = match &mut sender {
            Sender::Http1(sender) => sender.requests.ready().await,
            Sender::Http2(sender, _) => sender.ready().await,
        };
        ready.ok().map(|()| sender)
    }
}

impl Sender {
    async fn begin(
        version: HttpVersion,
        application: WatchedStream,
        heads: HeadLimits,
    ) -> Result<Self, hyper::Error> {
        Ok(match version {
            HttpVersion::Http1 => {
                let (application, observation) = ObservedStream::new(application);
                Self::Http1(ObservedSender {
                    requests: handshake_http1(application, heads).await?,
                    observation,
                    has_answered: false,
                })
            }
            HttpVersion::Http2 => {
                let (sender, limit) = handshake_http2(application, heads).await?;
                Self::Http2(sender, limit)
            }
        })
    }
}
