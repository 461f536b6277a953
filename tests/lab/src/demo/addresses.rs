//! Where the applications of the demo are.

/// Ports of the applications.
pub(super) const HTTP_PORT: u16 = 8080;
pub(super) const TCP_PORT: u16 = 9000;
/// Address of the service `web`, over both versions, and of `echo`.
pub(super) const WEB_SERVICE: &str = "10.96.0.10";
pub(super) const ECHO_SERVICE: &str = "10.96.0.20";
