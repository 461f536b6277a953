//! Messages of `grpc.testing`, with the fields that are used here.

use prost::Message;

/// Nothing.
#[derive(Clone, Copy, Eq, Message, PartialEq)]
pub(super) struct Empty {}

/// Of `Health.Check`, whose request says nothing that matters here.
#[derive(Clone, Copy, Eq, Message, PartialEq)]
pub(super) struct HealthCheckResponse {
    /// 1 is `SERVING`.
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

/// Bytes to carry.
#[derive(Clone, Eq, Message, PartialEq)]
pub(super) struct Payload {
    #[prost(bytes = "vec", tag = "2")]
    pub(super) body: Vec<u8>,
}

/// A status to end with.
#[derive(Clone, Eq, Message, PartialEq)]
pub(super) struct EchoStatus {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

/// Of `UnaryCall`.
#[derive(Clone, Eq, Message, PartialEq)]
pub(super) struct SimpleRequest {
    #[prost(int32, tag = "2")]
    pub(super) response_size: i32,
    #[prost(message, optional, tag = "3")]
    pub(super) payload: Option<Payload>,
    #[prost(message, optional, tag = "7")]
    pub(super) response_status: Option<EchoStatus>,
}

/// Of `UnaryCall`.
#[derive(Clone, Eq, Message, PartialEq)]
pub(super) struct SimpleResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) payload: Option<Payload>,
    /// Who answered.
    #[prost(string, tag = "6")]
    pub(super) hostname: String,
}

/// Of `StreamingInputCall`.
#[derive(Clone, Eq, Message, PartialEq)]
pub(super) struct StreamingInputCallRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) payload: Option<Payload>,
}

/// Of `StreamingInputCall`.
#[derive(Clone, Copy, Eq, Message, PartialEq)]
pub(super) struct StreamingInputCallResponse {
    #[prost(int32, tag = "1")]
    pub(super) aggregated_payload_size: i32,
}

/// One answer that a stream is to have.
#[derive(Clone, Copy, Eq, Message, PartialEq)]
pub(super) struct ResponseParameters {
    #[prost(int32, tag = "1")]
    pub(super) size: i32,
    #[prost(int32, tag = "2")]
    pub(super) interval_us: i32,
}

/// Of `StreamingOutputCall` and `FullDuplexCall`.
#[derive(Clone, Eq, Message, PartialEq)]
pub(super) struct StreamingOutputCallRequest {
    #[prost(message, repeated, tag = "2")]
    pub(super) response_parameters: Vec<ResponseParameters>,
    #[prost(message, optional, tag = "3")]
    pub(super) payload: Option<Payload>,
    #[prost(message, optional, tag = "7")]
    pub(super) response_status: Option<EchoStatus>,
}

/// Of `StreamingOutputCall` and `FullDuplexCall`.
#[derive(Clone, Eq, Message, PartialEq)]
pub(super) struct StreamingOutputCallResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) payload: Option<Payload>,
}

/// Zeros.
pub(super) fn payload(size: i32) -> Option<Payload> {
    let body = vec![0; usize::try_from(size).unwrap_or_default()];
    Some(Payload { body })
}
