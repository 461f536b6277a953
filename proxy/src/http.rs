//! HTTP as a mechanism: it knows no pod and no walk, and serves both directions. What is
//! done with a request stands in `outbound::http` and `inbound::http`.
//!
//! * [`opening`]: a connection's first bytes, on ports that carry HTTP alone
//! * [`version`], [`server`]: a client's connection, served behind the guard against request smuggling
//! * [`request_info`], [`headers`], [`outgoing`]: a request's head, and how it is sent on
//! * [`original_target`]: targets that are no URI, as they came
//! * [`returning`], [`response_error`]: a response's head, and how it is sent back; why there is none
//! * [`filter`], [`local_reply`]: what routes do to messages; pure
//! * [`body`]: bodies on their way
//! * [`pool`], [`handshake`], [`http1_sender`], [`http2_sender`]: connections to endpoints, as a client
//! * [`login`]: connections that belong to one client because it has logged in on them
//! * [`interim`]: responses ahead of the final one
//! * [`half_close`], [`half_closing_stream`]: a client's end, passed on to the server of its request
//! * [`broken_response`]: a server's end in the middle of a response, passed on to its client
//! * [`broken_call`]: the same of a response of gRPC
//! * [`unprocessed`], [`observed_stream`]: requests that a server did nothing with
//! * [`early_response`]: a response that comes sooner than its request
//! * [`upgrade`], [`unchanged_protocol`]: connections that change their protocol, or were asked to
//! * [`recorded_stream`], [`watched_stream`]: a connection's bytes counted for its record, its end noticed

pub(crate) mod body;
mod broken_call;
pub(crate) mod broken_response;
mod early_response;
pub(crate) mod filter;
pub(crate) mod half_close;
mod half_closing_stream;
pub(crate) mod handshake;
mod headers;
pub(crate) mod http1_sender;
pub(crate) mod http2_sender;
pub(crate) mod interim;
pub(crate) mod local_reply;
pub(crate) mod login;
pub(crate) mod observed_stream;
pub(crate) mod opening;
pub(crate) mod original_target;
pub(crate) mod outgoing;
pub(crate) mod pool;
pub(crate) mod recorded_stream;
pub(crate) mod request_info;
pub(crate) mod response_error;
pub(crate) mod returning;
pub(crate) mod server;
mod unchanged_protocol;
mod unprocessed;
pub(crate) mod upgrade;
pub(crate) mod version;
pub(crate) mod watched_stream;

pub use self::headers::cookie_value;
pub(crate) use self::headers::{
    FieldNames, has_unknown_coding, head_bytes, keeps_connection, restore_upgrade,
    strip_hop_by_hop, strip_response,
};
pub(crate) use self::unprocessed::{refusal, was_sent_away};
