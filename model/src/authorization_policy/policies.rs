//! The policies of one workload, compiled, and what they decide.

use super::attributes::{RequestAttributes, Source};
use super::membership::DefaultAuthorization;
use super::verdict::Verdict;

/// The AuthorizationPolicies of one workload. Compiled once for each change of them: as long as
/// the `Arc` of one is the same, so are its verdicts.
#[derive(Debug)]
pub struct AuthorizationPolicies {
    default: DefaultAuthorization,
}

impl AuthorizationPolicies {
    /// Whether everything is allowed and nothing audited.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// Whether some rule looks at requests.
    pub fn has_http_parts(&self) -> bool {
        todo!()
    }

    /// The verdict on a connection to a port of the workload, of whose requests nothing is known
    /// yet.
    pub fn connection(&self, source: &Source<'_>, port: u16) -> Verdict<'_> {
        let _ = (source, port, self.default);
        todo!()
    }

    /// The verdict on a request. It stands for itself: connection and request are both decided
    /// by it.
    pub fn request(
        &self,
        source: &Source<'_>,
        port: u16,
        request: &RequestAttributes<'_>,
    ) -> Verdict<'_> {
        let _ = (source, port, request);
        todo!()
    }
}
