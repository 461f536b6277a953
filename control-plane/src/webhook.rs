//! The admission webhooks. One refuses what the mesh could not follow, while whoever wrote it is
//! still looking: a courtesy, not a guard, as what comes past it is refused once more where it is
//! read, object by object. The others change new pods: a readiness gate, a sidecar.
//!
//! * `body`: reading reviews, the large ones one after another
//! * `review`: the decisions
//! * `server`: HTTPS, for the API server only
//! * `enrolment`: the webhooks of namespaces that the floor enrols
//! * `registration`: whom the API server trusts to be this webhook
//! * `trial`: what holds for any review, for the fuzzer

mod body;
mod enrolment;
mod registration;
mod review;
mod server;
mod trial;

pub(crate) use registration::Registration;
pub(crate) use server::serve;
pub use trial::check_review;
