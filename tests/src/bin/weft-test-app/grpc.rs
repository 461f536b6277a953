//! gRPC's own test service, `grpc.testing.TestService`: every implementation of gRPC has
//! a client for it, so that what is tested is not our own idea of gRPC.

pub(crate) mod client;
mod messages;
pub(crate) mod server;

/// Where its methods are.
const SERVICE: &str = "/grpc.testing.TestService/";
/// What health checkers ask (grpc.health.v1), kubelet among them: this server is always well.
const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// The service sends this back as a header, and the other one as a trailer.
const ECHO_INITIAL: &str = "x-grpc-test-echo-initial";
const ECHO_TRAILING: &str = "x-grpc-test-echo-trailing-bin";
