//! The validating admission webhook: refuses what the mesh could not follow, while
//! whoever wrote it is still looking.
//!
//! It is a courtesy, not a guard: what comes past it is refused once more where it is
//! read, object by object.
//!
//! * `body`: reading reviews, the large ones one after another
//! * `review`: the decisions
//! * `server`: HTTPS, for the API server only
//! * `registration`: whom the API server trusts to be this webhook

mod body;
mod registration;
mod review;
mod server;

pub(crate) use registration::Registration;
pub(crate) use server::serve;
