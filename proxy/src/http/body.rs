//! Bodies on their way: never gathered, except what a retry keeps, up to its bound.
//!
//! * [`source`]: a request's body before it is sent, and whether it can be sent again
//! * [`incoming`]: a request's body as it comes
//! * [`request`]: a request's body as one attempt sends it
//! * [`gate`]: a request's body that waits until its server asks for it
//! * [`replay`]: kept for further attempts
//! * [`mirror`]: copied for a mirrored request
//! * [`response`]: a response's body on its way back

mod frame;
mod gate;
mod incoming;
mod mirror;
mod replay;
mod request;
mod response;
mod source;

pub(crate) use self::frame::BodyError;
pub(crate) use self::gate::{BodyGate, GateHolder};
pub(crate) use self::request::RequestBody;
pub(crate) use self::response::{Completion, ResponseBody};
pub(crate) use self::source::RequestBodySource;
