//! What the AuthorizationPolicies of a pod say of a connection and of its requests. The verdicts
//! are the model's, and always of the snapshot that is given.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use weft_model::authorization_policy::{
    AuthorizationPolicies, Decision, RequestAttributes, Source, Verdict,
};
use weft_model::request_authentication::Claims;
use weft_model::{Mesh, SpiffeId};

use crate::jwt::TokenVerifier;
use crate::last_known::LastKnown;
use crate::telemetry::AuthorizationNote;
use crate::traffic::PolicyRefusal;
use crate::upstream::{Passage, RequestHead, RewrittenHead};

/// Denial of a connection by AuthorizationPolicies.
#[derive(Clone, Debug, thiserror::Error)]
#[error("denied by AuthorizationPolicies: {reason}")]
pub(crate) struct AuthorizationDenied {
    reason: String,
    /// For the connection's record.
    pub(super) note: AuthorizationNote,
}

/// A connection as policies see it: from whom, to which port of the pod.
#[derive(Clone, Debug)]
pub(super) struct PolicySubject {
    pod: Arc<LastKnown>,
    tokens: Arc<TokenVerifier>,
    identity: Option<SpiffeId>,
    client: IpAddr,
    port: u16,
}

/// A connection that policies let in.
#[derive(Clone, Debug, Default)]
pub(super) struct AdmittedConnection {
    /// Its requests are decided one by one.
    pub(super) depends_on_requests: bool,
    /// For its record.
    pub(super) note: AuthorizationNote,
}

/// A request that policies decided about.
#[derive(Debug)]
pub(super) struct DecidedRequest {
    pub(super) passage: Passage,
    /// One that is under way ends by it.
    pub(super) ends_connections: bool,
    /// For its record.
    pub(super) note: AuthorizationNote,
}

/// The policies of a pod, as far as they say anything.
pub(super) enum PodPolicies {
    /// Everything is allowed.
    Open,
    Known(Arc<AuthorizationPolicies>),
    /// The pod had some when its proxy started, and the mesh has never known the pod.
    Unknown,
}

impl PolicySubject {
    pub(super) fn new(
        pod: &Arc<LastKnown>,
        tokens: &Arc<TokenVerifier>,
        identity: Option<&SpiffeId>,
        client: IpAddr,
        port: u16,
    ) -> Self {
        Self {
            pod: Arc::clone(pod),
            tokens: Arc::clone(tokens),
            identity: identity.cloned(),
            client,
            port,
        }
    }

    /// The policies that decide now.
    pub(super) fn policies(&self, mesh: &Mesh) -> PodPolicies {
        match self.pod.policies(mesh) {
            Some(policies) if policies.is_empty() => PodPolicies::Open,
            Some(policies) => PodPolicies::Known(policies),
            None if self.pod.workload(mesh).authorization.may_deny() => PodPolicies::Unknown,
            None => PodPolicies::Open,
        }
    }

    fn source(&self) -> Source<'_> {
        Source {
            identity: self.identity.as_ref(),
            address: self.client,
        }
    }

    /// Whether the connection may reach the pod; `sees_requests` says that each of its requests
    /// is decided, and that nothing else is carried.
    ///
    /// # Errors
    /// When it may not.
    pub(super) fn authorize(
        &self,
        mesh: &Mesh,
        sees_requests: bool,
    ) -> Result<AdmittedConnection, AuthorizationDenied> {
        let policies = match self.policies(mesh) {
            PodPolicies::Open => return Ok(AdmittedConnection::default()),
            PodPolicies::Unknown => return Err(AuthorizationDenied::unknown()),
            PodPolicies::Known(policies) => policies,
        };
        let verdict = policies.connection(&self.source(), self.port);
        let depends_on_requests = verdict.decision == Decision::DependsOnRequest;
        let verdict = match sees_requests {
            true => verdict,
            false => verdict.without_requests(),
        };
        let note = AuthorizationNote::from(&verdict);
        match verdict.decision {
            Decision::Denied => {
                let of_requests = match depends_on_requests {
                    true => ", which is about requests, and nobody sees those of this connection",
                    false => "",
                };
                let reason = format!("{}{of_requests}", verdict.reason);
                Err(AuthorizationDenied { reason, note })
            }
            Decision::Allowed | Decision::DependsOnRequest => Ok(AdmittedConnection {
                depends_on_requests,
                note,
            }),
        }
    }

    /// Whether policies end the connection, which was let in before.
    pub(super) fn is_revoked(&self, policies: &AuthorizationPolicies, sees_requests: bool) -> bool {
        let verdict = policies.connection(&self.source(), self.port);
        match sees_requests {
            true => verdict.ends_connections(),
            false => verdict.without_requests().ends_connections(),
        }
    }

    /// Whether a request of the connection may reach the pod; `None` where everything may.
    pub(super) fn decide(
        &self,
        mesh: &Mesh,
        request: &RequestHead<'_>,
        now: u64,
    ) -> Option<DecidedRequest> {
        let policies = match self.policies(mesh) {
            PodPolicies::Open => return None,
            PodPolicies::Unknown => return Some(DecidedRequest::denied()),
            PodPolicies::Known(policies) => policies,
        };
        Some(self.decide_by(&policies, request, now))
    }

    /// The decision of some policies on a request of the connection that comes at a time.
    pub(super) fn decide_by(
        &self,
        policies: &AuthorizationPolicies,
        request: &RequestHead<'_>,
        now: u64,
    ) -> DecidedRequest {
        let authenticated = self.tokens.authenticate(policies, self.port, request, now);
        let authenticated = match authenticated {
            Ok(authenticated) => authenticated,
            Err(refusal) => {
                return DecidedRequest {
                    passage: Passage::InvalidToken(refusal),
                    ends_connections: !refusal.is_temporary(),
                    note: AuthorizationNote::of_refused_token(refusal),
                };
            }
        };
        let (claims, rewritten) = match authenticated {
            Some(authenticated) => (authenticated.claims, Some(authenticated.head)),
            None => (None, None),
        };
        let verdict = {
            let seen = as_application(request, rewritten.as_deref());
            self.request_verdict(policies, &seen, claims.as_deref())
        };
        let principal = claims.as_deref().and_then(Claims::principal);
        DecidedRequest {
            note: AuthorizationNote::of_request(&verdict, principal),
            ends_connections: verdict.ends_connections(),
            passage: match verdict.is_allowed() {
                true => Passage::Allowed(rewritten),
                false => Passage::Denied,
            },
        }
    }

    fn request_verdict<'a>(
        &self,
        policies: &'a AuthorizationPolicies,
        request: &RequestHead<'_>,
        claims: Option<&Claims>,
    ) -> Verdict<'a> {
        let host = comparable_host(request.host);
        let attributes = RequestAttributes {
            method: request.method.as_str(),
            path: request.path,
            host: Some(&*host).filter(|host| !host.is_empty()),
            headers: request.headers,
            claims,
        };
        policies.request(&self.source(), self.port, &attributes)
    }
}

impl DecidedRequest {
    /// Whether it goes on.
    pub(super) fn is_allowed(&self) -> bool {
        matches!(self.passage, Passage::Allowed(_))
    }

    /// One that policies let in, where any decided, and that comes too often.
    pub(super) fn refused(decided: Option<Self>, refusal: PolicyRefusal) -> Self {
        Self {
            passage: Passage::Refused(refusal),
            ends_connections: false,
            note: decided.map(|decided| decided.note).unwrap_or_default(),
        }
    }

    fn denied() -> Self {
        Self {
            passage: Passage::Denied,
            ends_connections: false,
            note: AuthorizationNote::default(),
        }
    }
}

/// A request with the headers that the application gets.
fn as_application<'a>(
    request: &RequestHead<'a>,
    rewritten: Option<&'a RewrittenHead>,
) -> RequestHead<'a> {
    RequestHead {
        headers: rewritten.map_or(request.headers, |rewritten| &rewritten.headers),
        ..*request
    }
}

impl AuthorizationDenied {
    fn unknown() -> Self {
        Self {
            reason: "they select the pod, and the control plane has not told of it yet".to_owned(),
            note: AuthorizationNote::default(),
        }
    }
}

/// A host as policies compare it: in lower case, without what a server may leave out of it, a
/// user's name ahead of it and dots at its end.
fn comparable_host(host: &str) -> Cow<'_, str> {
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let host = host.trim_end_matches('.');
    match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => host.to_ascii_lowercase().into(),
        false => host.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_compared_however_it_is_written() {
        for host in [
            "admin.example",
            "ADMIN.example",
            "admin.example.",
            "u:p@Admin.Example.",
        ] {
            assert_eq!(comparable_host(host), "admin.example", "{host}");
        }
        assert_eq!(comparable_host(""), "");
        assert_eq!(comparable_host("[fd00::1]"), "[fd00::1]");
    }
}
