//! What applications see otherwise than without the mesh, on purpose.

/// A property of a case that differs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Difference {
    /// The case.
    pub(crate) case: &'static str,
    /// The property of its observation.
    pub(crate) property: &'static str,
    /// The behaviour in the mesh.
    pub(crate) behaviour: &'static str,
    /// The reason.
    pub(crate) reason: &'static str,
    /// The setting that changes it, where there is one.
    pub(crate) setting: &'static str,
}

impl Difference {
    /// Its case and property.
    pub(crate) fn key(&self) -> (&'static str, &'static str) {
        (self.case, self.property)
    }
}

/// All of them.
pub(crate) const DIFFERENCES: &[Difference] = &[
    Difference {
        case: "nobody_listens",
        property: "client.connect",
        behaviour: "`connect()` succeeds; the connection is reset at the first read",
        reason: "the proxy accepts before it knows whether the other end does, as those of Istio \
                 and Linkerd",
        setting: "`weft.dev/exclude-outbound-ports` for what must know",
    },
    Difference {
        case: "nobody_listens",
        property: "client.read",
        behaviour: "that read says ECONNRESET, within milliseconds",
        reason: "the same",
        setting: "the same",
    },
    Difference {
        case: "http10_without_host",
        property: "client.start",
        behaviour: "the status line says HTTP/1.0",
        reason: "the proxy answers in the client's version",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "http10_without_host",
        property: "server.start",
        behaviour: "the server of a Service sees HTTP/1.1",
        reason: "the connection to it is the proxy's own, and used for other requests",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "http10_without_host",
        property: "server.fields",
        behaviour: "the server of a Service gets the dialled address as Host",
        reason: "HTTP/1.1 needs one (RFC 9112 section 3.2)",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "http10_with_host",
        property: "client.start",
        behaviour: "the status line says HTTP/1.0",
        reason: "the proxy answers in the client's version",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "http10_with_host",
        property: "server.start",
        behaviour: "the server of a Service sees HTTP/1.1",
        reason: "the connection to it is the proxy's own, and used for other requests",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "upgrade_to_http2_with_a_body",
        property: "server.fields",
        behaviour: "the server is not asked for the upgrade, and answers in HTTP/1.1",
        reason: "requests inside would go unseen by rules and limits; a server may always stay \
                 with HTTP/1.1 (RFC 9110 section 7.8)",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "url_that_differs_from_host",
        property: "server.fields",
        behaviour: "Host is made to say what the URL says",
        reason: "a proxy has to (RFC 9112 section 3.2.2)",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "chunks_and_trailers",
        property: "client.trailers",
        behaviour: "trailers of a response go to clients that send `TE: trailers`",
        reason: "others need not expect them (RFC 9110 section 6.5.1)",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "chunks_and_trailers",
        property: "server.trailers",
        behaviour: "names of trailers are in lower case",
        reason: "the library that writes them keeps the letters of heads only",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "not_modified_with_length",
        property: "client.fields",
        behaviour: "304 loses its Content-Length",
        reason: "the library that writes it sends none where no body follows; the field is \
                 optional there (RFC 9110 section 15.4.5)",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "response_to_the_end",
        property: "client.fields",
        behaviour: "a response without a length comes in chunks",
        reason: "the client's connection stays open for its next request",
        setting: "declare the port as `tcp`",
    },
    Difference {
        case: "response_to_the_end",
        property: "client.end",
        behaviour: "and doesn't end its connection",
        reason: "the same",
        setting: "the same",
    },
    Difference {
        case: "response_to_the_end",
        property: "client.trailers",
        behaviour: "its chunks end without trailers",
        reason: "the same",
        setting: "the same",
    },
];

/// The entry for a property of a case.
pub(crate) fn find(case: &str, property: &str) -> Option<&'static Difference> {
    DIFFERENCES
        .iter()
        .find(|known| known.case == case && known.property == property)
}
