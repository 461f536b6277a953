//! The service, on tonic.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::server::{
    ClientStreamingService, Grpc, ServerStreamingService, StreamingService, UnaryService,
};
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

use super::messages::{
    EchoStatus, Empty, HealthCheckResponse, SimpleRequest, SimpleResponse,
    StreamingInputCallRequest, StreamingInputCallResponse, StreamingOutputCallRequest,
    StreamingOutputCallResponse, payload,
};
use super::{ECHO_INITIAL, ECHO_TRAILING, HEALTH, SERVICE};
use crate::web::Body;

type Answer<T> = Result<tonic::Response<T>, Status>;
type Answers = ReceiverStream<Result<StreamingOutputCallResponse, Status>>;

/// Answers a call; what the caller wants back as metadata comes back.
pub(crate) async fn respond(name: &str, request: Request<Incoming>) -> Response<Body> {
    let header = |name: &'static str| {
        let value = request.headers().get(name).cloned();
        value.map(|value| (HeaderName::from_static(name), value))
    };
    let (initial, trailing) = (header(ECHO_INITIAL), header(ECHO_TRAILING));
    let mut response = call(name, request).await;
    response
        .headers_mut()
        .extend(initial.map(|(name, value)| (Some(name), value)));
    if let Ok(name) = HeaderValue::from_str(name) {
        response.headers_mut().insert("x-test-server", name);
    }
    response.map(|body| {
        let add = move |frame: Frame<Bytes>| add_trailer(frame, trailing.as_ref());
        body.map_frame(add).map_err(Into::into).boxed_unsync()
    })
}

/// Ends a call at once.
pub(crate) fn refuse(code: i32) -> Response<Body> {
    let response = Status::new(Code::from_i32(code), "as asked").into_http::<tonic::body::Body>();
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}

fn add_trailer(frame: Frame<Bytes>, trailer: Option<&(HeaderName, HeaderValue)>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            trailers.extend(trailer.cloned().map(|(name, value)| (Some(name), value)));
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

async fn call(name: &str, request: Request<Incoming>) -> Response<tonic::body::Body> {
    let echo = Echo {
        name: name.to_owned(),
    };
    if request.uri().path() == HEALTH {
        return Grpc::new(ProstCodec::default())
            .unary(Healthy, request)
            .await;
    }
    match request.uri().path().strip_prefix(SERVICE) {
        Some("EmptyCall") => {
            Grpc::new(ProstCodec::<Empty, Empty>::default())
                .unary(Nothing, request)
                .await
        }
        Some("UnaryCall") => Grpc::new(ProstCodec::default()).unary(echo, request).await,
        Some("StreamingOutputCall") => {
            Grpc::new(ProstCodec::default())
                .server_streaming(echo, request)
                .await
        }
        Some("StreamingInputCall") => {
            Grpc::new(ProstCodec::default())
                .client_streaming(Sum, request)
                .await
        }
        Some("FullDuplexCall") => {
            Grpc::new(ProstCodec::default())
                .streaming(echo, request)
                .await
        }
        _ => Status::unimplemented("this server has grpc.testing.TestService").into_http(),
    }
}

struct Healthy;

impl UnaryService<Empty> for Healthy {
    type Response = HealthCheckResponse;
    type Future = Ready<Answer<HealthCheckResponse>>;

    fn call(&mut self, _: tonic::Request<Empty>) -> Self::Future {
        ready(Ok(tonic::Response::new(HealthCheckResponse { status: 1 })))
    }
}

struct Nothing;

impl UnaryService<Empty> for Nothing {
    type Response = Empty;
    type Future = Ready<Answer<Empty>>;

    fn call(&mut self, _: tonic::Request<Empty>) -> Self::Future {
        ready(Ok(tonic::Response::new(Empty {})))
    }
}

struct Echo {
    name: String,
}

impl UnaryService<SimpleRequest> for Echo {
    type Response = SimpleResponse;
    type Future = Ready<Answer<SimpleResponse>>;

    fn call(&mut self, request: tonic::Request<SimpleRequest>) -> Self::Future {
        let request = request.into_inner();
        ready(asked_for(request.response_status).map(|()| {
            tonic::Response::new(SimpleResponse {
                payload: payload(request.response_size),
                hostname: self.name.clone(),
            })
        }))
    }
}

impl ServerStreamingService<StreamingOutputCallRequest> for Echo {
    type Response = StreamingOutputCallResponse;
    type ResponseStream = Answers;
    type Future = Ready<Answer<Answers>>;

    fn call(&mut self, request: tonic::Request<StreamingOutputCallRequest>) -> Self::Future {
        let requests = tokio_stream::once(Ok(request.into_inner()));
        ready(Ok(tonic::Response::new(answers(requests))))
    }
}

impl StreamingService<StreamingOutputCallRequest> for Echo {
    type Response = StreamingOutputCallResponse;
    type ResponseStream = Answers;
    type Future = Ready<Answer<Answers>>;

    fn call(
        &mut self,
        request: tonic::Request<Streaming<StreamingOutputCallRequest>>,
    ) -> Self::Future {
        ready(Ok(tonic::Response::new(answers(request.into_inner()))))
    }
}

/// Every request's answers, while more requests may come.
fn answers<S>(mut requests: S) -> Answers
where
    S: Stream<Item = Result<StreamingOutputCallRequest, Status>> + Send + Unpin + 'static,
{
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let result = answer(request, &sender).await;
            if let Err(Some(status)) = result {
                // Whoever is gone needs no status.
                let _ = sender.send(Err(status)).await;
                return;
            }
            if result.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// Fails with the status to end with, or with none when nobody listens any more.
async fn answer(
    request: Result<StreamingOutputCallRequest, Status>,
    sender: &mpsc::Sender<Result<StreamingOutputCallResponse, Status>>,
) -> Result<(), Option<Status>> {
    let request = request.map_err(Some)?;
    for parameters in &request.response_parameters {
        let pause = u64::try_from(parameters.interval_us).unwrap_or_default();
        if pause > 0 {
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
        let response = StreamingOutputCallResponse {
            payload: payload(parameters.size),
        };
        sender.send(Ok(response)).await.map_err(|_| None)?;
    }
    asked_for(request.response_status).map_err(Some)
}

fn asked_for(status: Option<EchoStatus>) -> Result<(), Status> {
    match status {
        Some(EchoStatus { code, message }) if code != 0 => {
            Err(Status::new(Code::from_i32(code), message))
        }
        _ => Ok(()),
    }
}

struct Sum;

impl ClientStreamingService<StreamingInputCallRequest> for Sum {
    type Response = StreamingInputCallResponse;
    type Future = Pin<Box<dyn Future<Output = Answer<StreamingInputCallResponse>> + Send>>;

    fn call(
        &mut self,
        request: tonic::Request<Streaming<StreamingInputCallRequest>>,
    ) -> Self::Future {
        Box::pin(async move {
            let (mut requests, mut total) = (request.into_inner(), 0);
            while let Some(request) = requests.message().await? {
                total += request.payload.unwrap_or_default().body.len();
            }
            let aggregated_payload_size = i32::try_from(total).unwrap_or(i32::MAX);
            Ok(tonic::Response::new(StreamingInputCallResponse {
                aggregated_payload_size,
            }))
        })
    }
}
