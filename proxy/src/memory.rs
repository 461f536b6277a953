//! Bytes that connections hold here, on their way to somebody who doesn't read.
//!
//! Windows of HTTP/2 are so large that no stream holds up another of its connection; all that
//! they let in together would be more than there is. So what is held is counted, by pod, against
//! one limit. A pod may hold as much as is left: one that takes all it gets holds half. As it
//! fills, connections that begin get smaller windows; then the pod gets no new connections and
//! requests; at last its connection that holds most is ended.
//!
//! * `account`: the limit, and what pods and connections have of it
//! * `body`: bodies that go with their connection
//! * `exceeded`: the error that such an end is
//! * `flow`: what a connection of HTTP/2 holds of what came, as its frames show it
//! * `head`: heads that are on their way, and how long they may be
//! * `outgoing`: what waits to be sent
//! * `pressure`: how short memory is for a pod
//! * `stream`: the connection that is counted, and ended

mod account;
mod body;
mod exceeded;
mod flow;
mod head;
mod outgoing;
mod pressure;
mod stream;

pub(crate) use self::account::{ConnectionMemory, HeldBytes, MemoryAccount, OpenStream, PodMemory};
pub(crate) use self::body::RevocableBody;
pub(crate) use self::head::AwaitedHead;
pub(crate) use self::outgoing::{MeteredBody, MeteredData, RelayMemory};
pub(crate) use self::stream::MeteredStream;
