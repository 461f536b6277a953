//! The gRPC services for agents.

pub(crate) mod accept;
pub(crate) mod authentication;
pub(crate) mod certificate_counts;
pub(crate) mod certificates;
pub(crate) mod discovery;
pub(crate) mod node_limit;
pub(crate) mod server;
mod server_certificate;
mod subscriber;

pub(crate) use server_certificate::{ServerCertificate, ServerCertificateError};

#[cfg(test)]
pub(crate) mod tests;
