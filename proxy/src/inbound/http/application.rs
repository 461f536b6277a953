//! The HTTP connection from the proxy to the application, one for each connection that
//! arrives: what a client's connection means to the application (a user who has logged in,
//! an order of requests) stays its own.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::http::body::{GateHolder, RequestBody, RequestBodySource};
use crate::http::broken_response::ResponseBreak;
use crate::http::half_close::{ClientEnd, ResponseEnd};
use crate::http::handshake::{Http2Client, handshake_http1, handshake_http2};
use crate::http::http1_sender::{Http1Sender, NoResponse};
use crate::http::interim::InterimResponses;
use crate::http::observed_stream::{Observation, ObservedStream};
use crate::http::request_info::RequestInfo;
use crate::http::response_error::no_response_flag;
use crate::http::server::{Http1Options, MOST_STREAMS};
use crate::http::version::HttpVersion;
use crate::http::watched_stream::WatchedStream;
use crate::http::{FieldNames, has_unknown_coding, was_sent_away};
use crate::inbound::application::dial;
use crate::inbound::arrival::Arrival;
use crate::inbound::error::InboundError;
use crate::memory::{HeldBytes, OpenStream};
use crate::pod::Pod;
use crate::settings::Settings;
use crate::sync::lock;
use crate::telemetry::ResponseFlag;
use crate::upstream::RequestUnderWay;
use crate::windows::Windows;

/// Attempts to send a request that was not read yet: the application may close a connection at
/// any moment. One may be turned away, and the next find the connection closed.
const ATTEMPTS: usize = 3;
/// What responses may have buffered here whose clients don't read. Less for each would make many
/// an application wait at every window's end for its own kernel (Nagle's algorithm).
const OF_RESPONSES: Windows = Windows {
    stream: 256 * 1024,
    most_streams: MOST_STREAMS,
};

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
    /// It certainly did nothing with the request, which can't be sent again from here.
    #[error("the application turned the request away: {0}")]
    Unprocessed(hyper::Error),
    /// Its response can't be passed on as it is.
    #[error("the response has a transfer coding that is not known")]
    UnknownCoding,
}

impl ApplicationError {
    /// Its word in metrics and access log.
    pub(super) fn flag(&self) -> ResponseFlag {
        match self {
            Self::Connect(_) | Self::Unprocessed(_) => ResponseFlag::UpstreamReset,
            Self::UnknownCoding => ResponseFlag::ResponseSyntax,
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
    /// Told a client of HTTP/1 when the response to it breaks off.
    response_break: ResponseBreak,
}

#[derive(Debug)]
enum Sender {
    Http1(ObservedSender),
    Http2(Http2Client),
}

/// The head of a response, and what lasts as long as its body.
#[derive(Debug)]
pub(super) struct ApplicationResponse {
    pub(super) response: Response<Incoming>,
    /// Keeps the request's body with the client, as long as the application hasn't asked for it.
    pub(super) gate: Option<GateHolder>,
    /// The end of an application of HTTP/1 while the request's body is still on its way.
    pub(super) end: Option<ResponseEnd>,
    /// What its connection holds of it.
    pub(super) memory: Option<OpenStream>,
}

/// A connection of HTTP/1 to the application.
#[derive(Debug)]
struct ObservedSender {
    requests: Http1Sender,
    observation: Arc<Observation>,
    /// It has answered before.
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
    ) -> Result<(Response<Incoming>, ResponseEnd), (NoResponse, bool)> {
        let before = self.observation.received();
        let sent = self.requests.send(request, Some(client)).await;
        let was_used = std::mem::replace(&mut self.has_answered, true);
        sent.map_err(|error| (error, self.observation.is_unread_since(before, was_used)))
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
        let sender = Sender::begin(version, application, &arrival.pod).await?;
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
            response_break: ResponseBreak::default(),
        })
    }

    /// How its client's connection is served, which may be silent for that long.
    pub(super) fn client_options(
        &self,
        settings: &Settings,
        idle: Option<Duration>,
    ) -> Http1Options {
        let (end, interim) = (self.client_end.clone(), self.interim.clone());
        let names = FieldNames::AsSent;
        Http1Options::new(
            settings,
            idle,
            names,
            end,
            interim,
            self.response_break.clone(),
        )
    }

    /// The client's connection, where it ends with a response that breaks off.
    pub(super) fn response_break(&self) -> Option<ResponseBreak> {
        match self.version {
            HttpVersion::Http1 => Some(self.response_break.clone()),
            HttpVersion::Http2 => None,
        }
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

    /// Whether the pod's connections hold too much already.
    pub(super) fn is_short_of_memory(&self) -> bool {
        self.pod.memory.is_short()
    }

    /// Counts bytes that the pod holds from now on.
    pub(super) fn hold_memory(&self, bytes: usize) -> HeldBytes {
        self.pod.memory.hold(bytes)
    }

    /// Requests of HTTP/2 that the application takes at the same time, once it has said so: a
    /// client that knows puts no more on the connection than run at once.
    pub(super) async fn stream_limit(&self) -> u32 {
        let limit = match &*lock(&self.sender) {
            Some(Sender::Http2(client)) => Some(client.limit.clone()),
            Some(Sender::Http1(_)) | None => None,
        };
        match limit {
            Some(mut limit) => {
                let limit = u32::try_from(limit.known().await);
                limit.unwrap_or(MOST_STREAMS).clamp(1, MOST_STREAMS)
            }
            None => 1,
        }
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// # Errors
    /// When the application takes no connection, or breaks it off.
    pub(super) async fn send(
        &self,
        info: &RequestInfo,
        head: Parts,
        body: &mut RequestBodySource,
        under_way: Option<&Arc<RequestUnderWay>>,
    ) -> Result<ApplicationResponse, ApplicationError> {
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let mut sender = self.ready_sender().await?;
            let attempt = body.next_attempt().unwrap_or(RequestBody::Empty);
            let attempt = attempt.of_request(under_way);
            let request = Request::from_parts(head.clone(), attempt);
            let (request, gate) = self.pass_interim_on(info, request);
            let sent = match &mut sender {
                Sender::Http1(sender) => {
                    let sent = sender.send(request, &self.client_end).await;
                    sent.map(|(response, end)| (response, Some(end)))
                }
                Sender::Http2(client) => {
                    let sent = client.sender.send(request).await;
                    let sent = sent.map(|response| (response, None));
                    sent.map_err(|error| {
                        // What is refused by itself is for the client to send again.
                        let sent_away = was_sent_away(&error.error);
                        (error, sent_away)
                    })
                }
            };
            match sent {
                Ok((response, _)) if has_unknown_coding(&response) => {
                    return Err(ApplicationError::UnknownCoding);
                }
                Ok((response, end)) => {
                    let memory = match sender {
                        Sender::Http2(client) => Some(client.memory.open_stream()),
                        Sender::Http1(_) => {
                            *lock(&self.sender) = Some(sender);
                            None
                        }
                    };
                    return Ok(ApplicationResponse {
                        response,
                        gate,
                        end,
                        memory,
                    });
                }
                Err((NoResponse { error, unsent }, is_unprocessed)) => match unsent {
                    Some(unsent) if left > 0 => {
                        body.put_back(unsent.into_body().without_gate());
                    }
                    None if is_unprocessed && left > 0 && body.is_whole() => {}
                    _ if self.client_end.has_ended() => {
                        return Err(ApplicationError::ClientLeft(error));
                    }
                    unsent if is_unprocessed || unsent.is_some() => {
                        return Err(ApplicationError::Unprocessed(error));
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
        let sender = Sender::begin(self.version, application, &self.pod).await?;
        if let Sender::Http2(client) = &sender {
            *lock(&self.sender) = Some(Sender::Http2(client.clone()));
        }
        Ok(sender)
    }

    async fn open_sender(&self) -> Option<Sender> {
        let mut sender = {
            let mut kept = lock(&self.sender);
            match kept.take()? {
                Sender::Http1(sender) => Sender::Http1(sender),
                Sender::Http2(client) => {
                    *kept = Some(Sender::Http2(client.clone()));
                    Sender::Http2(client)
                }
            }
        };
        let ready = match &mut sender {
            Sender::Http1(sender) => sender.requests.ready().await,
            Sender::Http2(client) => client.sender.ready().await,
        };
        ready.ok().map(|()| sender)
    }
}

impl Sender {
    async fn begin(
        version: HttpVersion,
        application: WatchedStream,
        pod: &Pod,
    ) -> Result<Self, hyper::Error> {
        let (heads, memory) = (pod.node.settings.heads, &pod.memory);
        Ok(match version {
            HttpVersion::Http1 => {
                let (application, observation) = ObservedStream::new(application);
                Self::Http1(ObservedSender {
                    requests: handshake_http1(application, heads, memory).await?,
                    observation,
                    has_answered: false,
                })
            }
            HttpVersion::Http2 => {
                let client = handshake_http2(application, heads, OF_RESPONSES, memory).await?;
                Self::Http2(client)
            }
        })
    }
}
