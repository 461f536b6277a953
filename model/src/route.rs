//! Routes of the Gateway API that are attached to Services (GEP-1294): which requests a rule
//! is for, what is done to them, and where they go.
//!
//! * [`key`]: kinds and names of routes
//! * [`rule`]: routes and their rules
//! * [`backend`]: targets of backends and mirrors
//! * [`retry`], [`session`]: timeouts, retries and session persistence of a rule
//! * [`matching`]: whether a request fits a match, and which of several matches counts
//! * [`filter`], [`cors`]: what is done to requests and responses
//! * [`split`]: weighted shares of backends
//! * [`table`]: the routes of a Service, compiled for its ports and its groups of clients

pub mod backend;
pub mod cors;
pub mod filter;
pub mod key;
pub mod matching;
pub mod path;
pub mod retry;
pub mod rule;
pub mod session;
pub mod split;
pub mod table;

pub use backend::BackendTarget;
pub use filter::Filter;
pub use key::{InvalidRouteKey, RouteKey, RouteKind};
pub use matching::RequestMatch;
pub use retry::{Retry, Timeouts};
pub use rule::{Backend, Parent, Route, Rule};
pub use session::{SessionCarrier, SessionPersistence};
