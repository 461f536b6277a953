//! What applications see otherwise than without the mesh, on purpose.

use crate::bed::{WAYS, Way};

/// The ways on which a property differs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Where {
    /// Where a proxy reads requests: to Services, and to pods on ports that these declare.
    AmongRequests,
    /// To Services, where the client's proxy sends them on connections of its own.
    ToServices,
}

impl Where {
    fn includes(self, way: Way) -> bool {
        match self {
            Self::AmongRequests => true,
            Self::ToServices => way.is_service,
        }
    }
}

/// A property of a case that differs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Difference {
    /// The case.
    pub(crate) case: &'static str,
    /// The property of its observation.
    pub(crate) property: &'static str,
    pub(crate) ways: Where,
    /// The behaviour in the mesh.
    pub(crate) behaviour: &'static str,
    /// The reason.
    pub(crate) reason: &'static str,
    /// The setting that changes it, where there is one.
    pub(crate) setting: &'static str,
}

impl Difference {
    /// Its case and property, on each of its ways.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        let ways = WAYS.into_iter().filter(|way| self.ways.includes(*way));
        ways.map(|way| (self.case, self.property, way.name))
    }
}

/// A case, a property and the name of a way.
pub(crate) type Key = (&'static str, &'static str, &'static str);

/// All of them.
pub(crate) const DIFFERENCES: &[Difference] = &[
    Difference {
        case: "nobody_listens_for_requests",
        property: "client.outcome",
        ways: Where::ToServices,
        behaviour: "`connect()` succeeds, and the request is answered with 503",
        reason: "each request is sent to an endpoint of its own, and may be sent to another when \
                 one doesn't answer",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "no_response",
        property: "client.start",
        ways: Where::ToServices,
        behaviour: "the client gets a 503 that says so",
        reason: "its connection is the proxy's, and goes on",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "http10_without_host",
        property: "client.start",
        ways: Where::AmongRequests,
        behaviour: "the status line says HTTP/1.0",
        reason: "the proxy answers in the client's version",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "http10_without_host",
        property: "server.start",
        ways: Where::ToServices,
        behaviour: "the server of a Service sees HTTP/1.1",
        reason: "the connection to it is the proxy's own, and used for other requests",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "http10_without_host",
        property: "server.fields",
        ways: Where::ToServices,
        behaviour: "the server of a Service gets the dialled address as Host",
        reason: "HTTP/1.1 needs one (RFC 9112 section 3.2)",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "http10_with_host",
        property: "client.start",
        ways: Where::AmongRequests,
        behaviour: "the status line says HTTP/1.0",
        reason: "the proxy answers in the client's version",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "http10_with_host",
        property: "server.start",
        ways: Where::ToServices,
        behaviour: "the server of a Service sees HTTP/1.1",
        reason: "the connection to it is the proxy's own, and used for other requests",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "upgrade_to_http2_with_a_body",
        property: "server.fields",
        ways: Where::AmongRequests,
        behaviour: "the server is not asked for the upgrade, and answers in HTTP/1.1",
        reason: "requests inside would go unseen by rules and limits; a server may always stay \
                 with HTTP/1.1 (RFC 9110 section 7.8)",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "url_that_differs_from_host",
        property: "server.fields",
        ways: Where::AmongRequests,
        behaviour: "Host is made to say what the URL says",
        reason: "a proxy has to (RFC 9112 section 3.2.2)",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "chunks_and_trailers",
        property: "client.trailers",
        ways: Where::AmongRequests,
        behaviour: "trailers of a response go to clients that send `TE: trailers`",
        reason: "others need not expect them (RFC 9110 section 6.5.1)",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "chunks_and_trailers",
        property: "server.trailers",
        ways: Where::AmongRequests,
        behaviour: "names of trailers are in lower case",
        reason: "the library that writes them keeps the letters of heads only",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "unannounced_trailers",
        property: "client.trailers",
        ways: Where::AmongRequests,
        behaviour: "such trailers of a response are left out",
        reason: "a field has to be named in `Trailer`, in the head, or the library that writes them \
                 leaves it out; Envoy drops all trailers of HTTP/1 unless it is told not to. In \
                 HTTP/2 they are passed on",
        setting: "declare the port as `tcp`, or name them in `Trailer`",
    },
    Difference {
        case: "unannounced_trailers",
        property: "server.trailers",
        ways: Where::AmongRequests,
        behaviour: "such trailers of a request are left out",
        reason: "the same",
        setting: "the same",
    },
    Difference {
        case: "not_modified_with_length",
        property: "client.fields",
        ways: Where::AmongRequests,
        behaviour: "304 loses its Content-Length",
        reason: "the library that writes it sends none where no body follows; the field is \
                 optional there (RFC 9110 section 15.4.5)",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "response_to_the_end",
        property: "client.fields",
        ways: Where::AmongRequests,
        behaviour: "a response without a length comes in chunks",
        reason: "the client's connection stays open for its next request",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "response_to_the_end",
        property: "client.end",
        ways: Where::AmongRequests,
        behaviour: "and doesn't end its connection",
        reason: "the same",
        setting: "the same",
    },
    Difference {
        case: "response_to_the_end",
        property: "client.trailers",
        ways: Where::AmongRequests,
        behaviour: "its chunks end without trailers",
        reason: "the same",
        setting: "the same",
    },
    Difference {
        case: "server_speaks_first_on_a_port_of_http",
        property: "client.greeting",
        ways: Where::AmongRequests,
        behaviour: "the connection is reset",
        reason: "such a port carries HTTP alone, so that nothing gets past the \
                 rules about requests",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "server_speaks_first_on_a_port_of_http",
        property: "client.echo",
        ways: Where::AmongRequests,
        behaviour: "and carries nothing",
        reason: "the same",
        setting: "the same",
    },
    Difference {
        case: "reason_phrase_that_is_not_ascii",
        property: "client.start",
        ways: Where::AmongRequests,
        behaviour: "the reason phrase is left out",
        reason: "the library that reads it takes ASCII only; nobody needs it (RFC 9112 section 4)",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "empty_host",
        property: "server.fields",
        ways: Where::ToServices,
        behaviour: "the server of a Service gets the dialled address as Host",
        reason: "as for HTTP/1.0 without Host: the request may go on in HTTP/2, which needs one",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "identity_coding_of_requests",
        property: "client.start",
        ways: Where::AmongRequests,
        behaviour: "the request is answered with 400",
        reason: "HTTP/1.1 has no such coding any more, and where such a request ends has two \
                 readings (RFC 9112 section 6.3): Apache, Node and HAProxy answer 400, nginx and \
                 Go 501",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "curl",
        property: "client.output",
        ways: Where::AmongRequests,
        behaviour: "responses have no `Connection: keep-alive`",
        reason: "the field is about one connection, and a proxy removes it (RFC 9110 section \
                 7.6.1); HTTP/1.1 keeps connections without it",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "curl_upgrade",
        property: "client.output",
        ways: Where::AmongRequests,
        behaviour: "curl stays with HTTP/1.1",
        reason: "the server is not asked for the upgrade, as above",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "curl_upgrade",
        property: "server.log",
        ways: Where::AmongRequests,
        behaviour: "the server logs one request, not the upgrade and what follows",
        reason: "the same",
        setting: "the same",
    },
    Difference {
        case: "h2spec_preface",
        property: "client.output",
        ways: Where::AmongRequests,
        behaviour: "a preface that is none ends in a reset, not in GOAWAY",
        reason: "such a port carries HTTP alone; the connection is reset",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "h2spec_identifiers",
        property: "client.output",
        ways: Where::AmongRequests,
        behaviour: "a stream whose identifier is lower than one before ends the connection",
        reason: "RFC 9113 section 5.1.1 asks for it, and the proxy does so where this server \
                 doesn't",
        setting: "declare the port as `tcp`",
    },
];

/// The entry for a property of a case on a way.
pub(crate) fn find(case: &str, property: &str, way: Way) -> Option<Key> {
    let mut keys = DIFFERENCES.iter().flat_map(Difference::keys);
    keys.find(|known| *known == (case, property, way.name))
}
