//! Response flags: one short word for what became of a connection or a request.
//!
//! The word is the label `response_flags` of metrics, `flags` in the access log and, where
//! the proxy answers a request itself, the header `x-weft-reason`. For operators all of
//! them stand in `docs/response-flags.md`.

use std::fmt;

use weft_http_guard::{Refusal, RefusalKind};
use weft_model::mesh::Unroutable;

/// What became of a connection or a request, as one short word.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ResponseFlag {
    /// Nothing went wrong.
    #[default]
    None,

    // How connections and requests end.
    /// The client broke off: look at the client, its timeouts first.
    DownstreamReset,
    /// The destination broke off: look at the log of the destination's application.
    UpstreamReset,
    /// No byte moved for too long. An application that is silent for an hour on purpose
    /// should send keepalives.
    IdleTimeout,
    /// A policy that changed allows the connection no more: see what changed last.
    PolicyChanged,
    /// The proxy of the pod ended before the connection did. Allow connections more time
    /// to end, if they should have had it (the agent's `--drain-deadline`).
    ProxyStopped,
    /// Longer than the route or the TrafficPolicy allows: the destination is slow, or the
    /// time is short.
    Timeout,
    /// Both ends agreed on another protocol, and one didn't change to it: look at the log
    /// of both applications.
    UpgradeFailed,

    // No connection to the destination.
    /// The destination took no connection: see whether its application listens on that
    /// port, and whether a NetworkPolicy is in the way.
    Connect,
    /// TLS with the other side failed: the error in the access log says whether its
    /// certificate, its name or its time is wrong.
    TlsFailure,
    /// HTTP/2 with the other proxy failed: see whether that proxy is being replaced, and
    /// whether both speak HBONE.
    H2HandshakeFailure,
    /// A workload's certificate is missing or names nobody the mesh knows: see the agent's
    /// log for why it could not be obtained.
    IdentityError,
    /// The workload that was called doesn't allow this client: compare its mTLS mode and
    /// trust domain with what the client has.
    Deny,
    /// AuthorizationPolicies of the workload that was called deny it: the access log of its side
    /// names policy and rule.
    AuthorizationDenied,
    /// The workload that was called verifies tokens, and the request's is refused: its answer and
    /// the access log of its side say why.
    InvalidToken,
    /// The workload that was called verifies tokens, and the control plane hasn't fetched the keys of
    /// the issuer yet: see the condition of the RequestAuthentication.
    TokenKeysPending,
    /// The pod has all the connections that one pod may have: find out who opens that
    /// many.
    Limit,
    /// The pod's connections hold so much memory, for somebody who doesn't read, that it gets
    /// nothing new, or that this one was ended: find out who doesn't read.
    MemoryLimit,
    /// The connection was made to the proxy's own port and not captured: whoever made it
    /// should use the address of the service.
    NotCaptured,
    /// The peer is strict and its node has not captured it yet: see its condition
    /// `weft.dev/Captured`.
    PeerNotCaptured,

    // Nowhere to go.
    /// The service has no such port, or no rule of its routes is for the request: compare
    /// the request with the routes.
    NoRoute,
    /// No TLSRoute of the service is for the server name that the client asked for.
    NoMatchingSni,
    /// The rule has no backend, or one that doesn't exist: see the route's status.
    NoBackend,
    /// No endpoint of the service is ready: see its EndpointSlices.
    NoEndpoint,
    /// Nobody has registered the destination, and the namespace reaches nothing else:
    /// register it as an ExternalService, or ask whether it should be called at all.
    EgressDenied,
    /// The name of an external service was not found: look it up on the node.
    DnsFailure,

    // What the client sent.
    /// Something other than HTTP, on a port that is declared as HTTP or has a route for
    /// requests: declare it as what it is.
    NotHttp,
    /// On a port of a TLSRoute the client sent something that is no TLS ClientHello.
    BadClientHello,
    /// On a port of a TLSRoute the client sent no whole ClientHello in time.
    ClientHelloTimeout,
    /// Which rule is for the request depends on how a server reads its path: fix the client, or
    /// set `requests.pathNormalization`.
    AmbiguousPath,
    /// The request can't be sent on as it is: its answer says why.
    BadRequest,
    /// The request is larger than any that the proxy reads: shorten its cookies or its
    /// URL.
    RequestTooLarge,
    /// The client began with a request and didn't come to the end of its head in time: look at
    /// the client.
    RequestTimeout,
    /// No host, several, or one that is none: fix the client.
    RequestHost,
    /// Two parsers may disagree where the request ends (RFC 9112 section 6): mend the
    /// client, or find out who attacks.
    RequestFraming,
    /// The request is not HTTP as RFC 9112 writes it: fix the client, or find out who
    /// attacks.
    RequestSyntax,

    // What the server sent.
    /// The response's head is larger than any that the proxy reads: shorten its cookies, or
    /// raise the agent's limits.
    ResponseTooLarge,
    /// The response is not HTTP as RFC 9112 writes it: fix the server.
    ResponseSyntax,

    // What a TrafficPolicy says.
    /// The circuit breaker is open: too much failed lately, so look at the destination.
    CircuitOpen,
    /// As many connections as `limits.connections` allows.
    TooManyConnections,
    /// As many requests as `limits.requests` allows.
    TooManyRequests,
    /// As many waiting requests as `limits.pendingRequests` allows.
    TooManyPending,
    /// More retries than `retryBudget` allows: look at what fails first.
    RetryBudget,
    /// More often than a rate limit allows: ask less often, or raise it.
    RateLimited,
    /// The rate limit service did not answer, and `failOpen` is false: look at that
    /// service.
    RateLimitUnavailable,
    /// It failed on purpose: a TrafficPolicy injects faults.
    Fault,
}

impl ResponseFlag {
    /// All of them, in their order.
    pub const ALL: [Self; Self::Fault as usize + 1] = [
        Self::None,
        Self::DownstreamReset,
        Self::UpstreamReset,
        Self::IdleTimeout,
        Self::PolicyChanged,
        Self::ProxyStopped,
        Self::Timeout,
        Self::UpgradeFailed,
        Self::Connect,
        Self::TlsFailure,
        Self::H2HandshakeFailure,
        Self::IdentityError,
        Self::Deny,
        Self::AuthorizationDenied,
        Self::InvalidToken,
        Self::TokenKeysPending,
        Self::Limit,
        Self::MemoryLimit,
        Self::NotCaptured,
        Self::PeerNotCaptured,
        Self::NoRoute,
        Self::NoMatchingSni,
        Self::NoBackend,
        Self::NoEndpoint,
        Self::EgressDenied,
        Self::DnsFailure,
        Self::NotHttp,
        Self::BadClientHello,
        Self::ClientHelloTimeout,
        Self::AmbiguousPath,
        Self::BadRequest,
        Self::RequestTooLarge,
        Self::RequestTimeout,
        Self::RequestHost,
        Self::RequestFraming,
        Self::RequestSyntax,
        Self::ResponseTooLarge,
        Self::ResponseSyntax,
        Self::CircuitOpen,
        Self::TooManyConnections,
        Self::TooManyRequests,
        Self::TooManyPending,
        Self::RetryBudget,
        Self::RateLimited,
        Self::RateLimitUnavailable,
        Self::Fault,
    ];

    /// The word, `-` for [`ResponseFlag::None`].
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::DownstreamReset => "DOWNSTREAM_RESET",
            Self::UpstreamReset => "UPSTREAM_RESET",
            Self::IdleTimeout => "IDLE_TIMEOUT",
            Self::PolicyChanged => "POLICY_CHANGED",
            Self::ProxyStopped => "PROXY_STOPPED",
            Self::Timeout => "TIMEOUT",
            Self::UpgradeFailed => "UPGRADE_FAILED",
            Self::Connect => "CONNECT",
            Self::TlsFailure => "TLS_FAILURE",
            Self::H2HandshakeFailure => "H2_HANDSHAKE_FAILURE",
            Self::IdentityError => "IDENTITY_ERROR",
            Self::Deny => "DENY",
            Self::AuthorizationDenied => "AUTHORIZATION_DENIED",
            Self::InvalidToken => "INVALID_TOKEN",
            Self::TokenKeysPending => "TOKEN_KEYS_PENDING",
            Self::Limit => "LIMIT",
            Self::MemoryLimit => "MEMORY_LIMIT",
            Self::NotCaptured => "NOT_CAPTURED",
            Self::PeerNotCaptured => "PEER_NOT_CAPTURED",
            Self::NoRoute => "NO_ROUTE",
            Self::NoMatchingSni => "NO_MATCHING_SNI",
            Self::NoBackend => "NO_BACKEND",
            Self::NoEndpoint => "NO_ENDPOINT",
            Self::EgressDenied => "EGRESS_DENIED",
            Self::DnsFailure => "DNS_FAILURE",
            Self::NotHttp => "NOT_HTTP",
            Self::BadClientHello => "BAD_CLIENT_HELLO",
            Self::ClientHelloTimeout => "CLIENT_HELLO_TIMEOUT",
            Self::AmbiguousPath => "AMBIGUOUS_PATH",
            Self::BadRequest => "BAD_REQUEST",
            Self::RequestTooLarge => "REQUEST_TOO_LARGE",
            Self::RequestTimeout => "REQUEST_TIMEOUT",
            Self::RequestHost => "REQUEST_HOST",
            Self::RequestFraming => "REQUEST_FRAMING",
            Self::RequestSyntax => "REQUEST_SYNTAX",
            Self::ResponseTooLarge => "RESPONSE_TOO_LARGE",
            Self::ResponseSyntax => "RESPONSE_SYNTAX",
            Self::CircuitOpen => "CIRCUIT_OPEN",
            Self::TooManyConnections => "TOO_MANY_CONNECTIONS",
            Self::TooManyRequests => "TOO_MANY_REQUESTS",
            Self::TooManyPending => "TOO_MANY_PENDING",
            Self::RetryBudget => "RETRY_BUDGET",
            Self::RateLimited => "RATE_LIMITED",
            Self::RateLimitUnavailable => "RATE_LIMIT_UNAVAILABLE",
            Self::Fault => "FAULT",
        }
    }
}

impl From<&Unroutable> for ResponseFlag {
    fn from(error: &Unroutable) -> Self {
        match error {
            Unroutable::NoSuchPort { .. } => Self::NoRoute,
            Unroutable::NoEndpoints { .. } => Self::NoEndpoint,
            Unroutable::NoRule { .. } => Self::NoMatchingSni,
            Unroutable::InvalidBackend { .. } => Self::NoBackend,
            Unroutable::NetworkPolicy(_) => Self::EgressDenied,
            Unroutable::NotCapturedYet { .. } => Self::PeerNotCaptured,
        }
    }
}

impl From<Refusal> for ResponseFlag {
    fn from(refusal: Refusal) -> Self {
        match refusal.kind() {
            RefusalKind::Syntax => Self::RequestSyntax,
            RefusalKind::Host => Self::RequestHost,
            RefusalKind::Framing => Self::RequestFraming,
            RefusalKind::TooLarge => Self::RequestTooLarge,
            RefusalKind::Timeout => Self::RequestTimeout,
        }
    }
}

impl fmt::Display for ResponseFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn words() -> BTreeSet<String> {
        ResponseFlag::ALL.iter().map(ToString::to_string).collect()
    }

    fn document(name: &str) -> String {
        let path = format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// What stands between backticks and looks like a flag.
    fn named_flags(text: &str) -> impl Iterator<Item = &str> {
        let is_word = |text: &&str| {
            let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            text.starts_with(|c: char| c.is_ascii_uppercase()) && text.chars().all(allowed)
        };
        text.split('`').skip(1).step_by(2).filter(is_word)
    }

    #[test]
    fn all_flags_are_listed_once_and_have_words_of_their_own() {
        for (index, flag) in ResponseFlag::ALL.into_iter().enumerate() {
            assert_eq!(flag as usize, index, "{flag}");
        }
        assert_eq!(words().len(), ResponseFlag::ALL.len());
    }

    #[test]
    fn each_flag_is_documented_and_each_that_is_documented_exists() {
        let text = document("response-flags.md");
        let mut listed = BTreeSet::new();
        for row in text.lines().filter(|line| line.starts_with("| `")) {
            let columns: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            let [flag, meaning, remedy] = columns[..] else {
                panic!("not three columns: {row}");
            };
            assert!(!meaning.is_empty() && !remedy.is_empty(), "{row}");
            let flag = flag.trim_matches('`').to_owned();
            assert!(listed.insert(flag), "listed twice: {row}");
        }
        assert_eq!(
            listed,
            words(),
            "docs/response-flags.md and ResponseFlag differ"
        );
    }

    #[test]
    fn other_documents_name_only_flags_that_exist() {
        let words = words();
        for name in ["requests.md", "traffic-policy.md", "response-flags.md"] {
            let text = document(name);
            let mut named = 0;
            for flag in named_flags(&text) {
                assert!(
                    words.contains(flag),
                    "{name} names `{flag}`, which is no flag"
                );
                named += 1;
            }
            assert!(named > 3, "{name} names flags");
        }
    }
}
