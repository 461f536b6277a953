//! A client of the service, on tonic: each kind of call, with what came of it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::messages::{
    EchoStatus, ResponseParameters, SimpleRequest, SimpleResponse, StreamingInputCallRequest,
    StreamingInputCallResponse, StreamingOutputCallRequest, StreamingOutputCallResponse, payload,
};
use super::{ECHO_INITIAL, ECHO_TRAILING, SERVICE};
use crate::load::Field;
use crate::report;

/// What to call whom.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The server.
    #[arg(long)]
    to: SocketAddr,
    /// Authority of the calls; the address when left out.
    #[arg(long)]
    host: Option<String>,
    /// Which kind of call.
    #[arg(long, value_enum, default_value = "unary")]
    kind: Kind,
    /// How many calls, one after the other, on one connection.
    #[arg(long, default_value_t = 1)]
    calls: u64,
    /// Messages of one call, in each direction that streams.
    #[arg(long, default_value_t = 3)]
    messages: u32,
    /// Bytes of each message.
    #[arg(long, default_value_t = 1000)]
    bytes: i32,
    /// Status to ask for.
    #[arg(long, default_value_t = 0)]
    code: i32,
    /// `NAME:VALUE`, metadata of each call; may be repeated.
    #[arg(long = "header")]
    headers: Vec<Field>,
    /// Deadline of each call, in milliseconds.
    #[arg(long, default_value_t = 10_000)]
    timeout: u64,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    /// One message, one answer.
    Unary,
    /// One message, many answers.
    ServerStream,
    /// Many messages, one answer.
    ClientStream,
    /// Each message is sent when the one before has been answered.
    Bidi,
}

/// What came of a call that ended well.
#[derive(Debug, Default)]
struct Ended {
    name: String,
    messages: u32,
    bytes: usize,
    initial: MetadataMap,
    trailing: MetadataMap,
}

pub(crate) async fn run(arguments: Arguments) -> io::Result<()> {
    let host = arguments
        .host
        .clone()
        .unwrap_or_else(|| arguments.to.to_string());
    let origin = format!("http://{host}").parse().map_err(io::Error::other)?;
    let endpoint = Endpoint::from_shared(format!("http://{}", arguments.to));
    let endpoint = endpoint.map_err(io::Error::other)?.origin(origin);
    let endpoint = endpoint.timeout(Duration::from_millis(arguments.timeout));
    let channel = endpoint.connect().await.map_err(io::Error::other)?;
    let (mut by_code, mut by_name) = (BTreeMap::<String, u64>::new(), BTreeMap::<_, u64>::new());
    let (mut last, start) = (Value::Null, Instant::now());
    for _ in 0..arguments.calls {
        let result = call(Grpc::new(channel.clone()), &arguments).await;
        let code = result.as_ref().err().map_or(Code::Ok, Status::code);
        *by_code.entry(format!("{code:?}")).or_default() += 1;
        last = match result {
            Ok(ended) => {
                let last = ended.describe();
                *by_name.entry(ended.name).or_default() += 1;
                last
            }
            Err(status) => json!({
                "message": status.message(),
                "trailing": fields(status.metadata()),
            }),
        };
    }
    report::write(&json!({
        "by_code": by_code,
        "by_name": by_name,
        "last": last,
        "seconds": start.elapsed().as_secs_f64(),
    }))
}

impl Ended {
    fn describe(&self) -> Value {
        json!({
            "name": self.name,
            "messages": self.messages,
            "bytes": self.bytes,
            "initial": fields(&self.initial),
            "trailing": fields(&self.trailing),
        })
    }
}

fn fields(metadata: &MetadataMap) -> Value {
    let text = |pair| match pair {
        KeyAndValueRef::Ascii(key, value) => (
            key.to_string(),
            Value::from(value.to_str().unwrap_or_default()),
        ),
        KeyAndValueRef::Binary(key, value) => {
            let bytes = value.to_bytes().unwrap_or_default();
            (
                key.to_string(),
                Value::from(bytes.escape_ascii().to_string()),
            )
        }
    };
    Value::Object(metadata.iter().map(text).collect())
}

async fn call(mut grpc: Grpc<Channel>, arguments: &Arguments) -> Result<Ended, Status> {
    let unavailable = |error| Status::unavailable(format!("{error}"));
    grpc.ready().await.map_err(unavailable)?;
    match arguments.kind {
        Kind::Unary => unary(grpc, arguments).await,
        Kind::ServerStream => server_stream(grpc, arguments).await,
        Kind::ClientStream => client_stream(grpc, arguments).await,
        Kind::Bidi => bidi(grpc, arguments).await,
    }
}

impl Arguments {
    /// A call's request, with metadata that is to come back.
    fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        let mut headers = std::mem::take(request.metadata_mut()).into_headers();
        for field in &self.headers {
            headers.append(field.name.clone(), field.value.clone());
        }
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        let initial = "initial"
            .parse()
            .map_err(|_| Status::internal("metadata"))?;
        request.metadata_mut().insert(ECHO_INITIAL, initial);
        let trailing = tonic::metadata::MetadataValue::from_bytes(b"trailing");
        request.metadata_mut().insert_bin(ECHO_TRAILING, trailing);
        Ok(request)
    }

    fn status(&self) -> Option<EchoStatus> {
        (self.code != 0).then(|| EchoStatus {
            code: self.code,
            message: "as asked".to_owned(),
        })
    }

    /// A request for as many answers.
    fn answers(&self, count: u32) -> StreamingOutputCallRequest {
        let parameters = ResponseParameters {
            size: self.bytes,
            interval_us: 0,
        };
        StreamingOutputCallRequest {
            response_parameters: vec![parameters; usize::try_from(count).unwrap_or_default()],
            payload: payload(self.bytes),
            response_status: None,
        }
    }
}

/// A method's path.
fn path(method: &str) -> Result<PathAndQuery, Status> {
    let path = format!("{SERVICE}{method}");
    path.parse()
        .map_err(|_| Status::internal("a method's name is no path"))
}

/// Who answered, as its header says.
fn name(metadata: &MetadataMap) -> String {
    let name = metadata
        .get("x-test-server")
        .and_then(|name| name.to_str().ok());
    name.unwrap_or_default().to_owned()
}

async fn unary(mut grpc: Grpc<Channel>, arguments: &Arguments) -> Result<Ended, Status> {
    let message = SimpleRequest {
        response_size: arguments.bytes,
        payload: payload(arguments.bytes),
        response_status: arguments.status(),
    };
    let codec = ProstCodec::<SimpleRequest, SimpleResponse>::default();
    let response = grpc
        .unary(arguments.request(message)?, path("UnaryCall")?, codec)
        .await?;
    // Headers and trailers of a unary call come as one.
    let metadata = response.metadata().clone();
    let answer = response.into_inner();
    Ok(Ended {
        name: answer.hostname,
        messages: 1,
        bytes: answer.payload.unwrap_or_default().body.len(),
        initial: metadata.clone(),
        trailing: metadata,
    })
}

async fn client_stream(mut grpc: Grpc<Channel>, arguments: &Arguments) -> Result<Ended, Status> {
    let message = StreamingInputCallRequest {
        payload: payload(arguments.bytes),
    };
    let count = usize::try_from(arguments.messages).unwrap_or_default();
    let messages = tokio_stream::iter(vec![message; count]);
    let codec = ProstCodec::<StreamingInputCallRequest, StreamingInputCallResponse>::default();
    let request = arguments.request(messages)?;
    let response = grpc
        .client_streaming(request, path("StreamingInputCall")?, codec)
        .await?;
    let metadata = response.metadata().clone();
    let size = response.into_inner().aggregated_payload_size;
    Ok(Ended {
        name: name(&metadata),
        messages: 1,
        bytes: usize::try_from(size).unwrap_or_default(),
        initial: metadata.clone(),
        trailing: metadata,
    })
}

async fn server_stream(mut grpc: Grpc<Channel>, arguments: &Arguments) -> Result<Ended, Status> {
    let mut message = arguments.answers(arguments.messages);
    message.response_status = arguments.status();
    let codec = ProstCodec::<StreamingOutputCallRequest, StreamingOutputCallResponse>::default();
    let request = arguments.request(message)?;
    let response = grpc
        .server_streaming(request, path("StreamingOutputCall")?, codec)
        .await?;
    let initial = response.metadata().clone();
    let mut ended = Ended {
        name: name(&initial),
        initial,
        ..Ended::default()
    };
    let mut stream = response.into_inner();
    while let Some(answer) = stream.message().await? {
        ended.messages += 1;
        ended.bytes += answer.payload.unwrap_or_default().body.len();
    }
    ended.trailing = stream.trailers().await?.unwrap_or_default();
    Ok(ended)
}

async fn bidi(mut grpc: Grpc<Channel>, arguments: &Arguments) -> Result<Ended, Status> {
    let (sender, receiver) = mpsc::channel(1);
    let codec = ProstCodec::<StreamingOutputCallRequest, StreamingOutputCallResponse>::default();
    let request = arguments.request(ReceiverStream::new(receiver))?;
    let response = grpc
        .streaming(request, path("FullDuplexCall")?, codec)
        .await?;
    let initial = response.metadata().clone();
    let mut ended = Ended {
        name: name(&initial),
        initial,
        ..Ended::default()
    };
    let mut stream = response.into_inner();
    let gone = |_| Status::unavailable("the stream takes no more messages");
    for _ in 0..arguments.messages {
        sender.send(arguments.answers(1)).await.map_err(gone)?;
        let answer = stream.message().await?;
        let answer = answer.ok_or_else(|| Status::unavailable("the stream ended early"))?;
        ended.messages += 1;
        ended.bytes += answer.payload.unwrap_or_default().body.len();
    }
    if let Some(status) = arguments.status() {
        let last = StreamingOutputCallRequest {
            response_status: Some(status),
            ..arguments.answers(0)
        };
        sender.send(last).await.map_err(gone)?;
    }
    drop(sender);
    if stream.message().await?.is_some() {
        return Err(Status::internal("an answer that nobody asked for"));
    }
    ended.trailing = stream.trailers().await?.unwrap_or_default();
    Ok(ended)
}
