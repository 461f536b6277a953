//! The cases.

/// A client and a server of `programs.py`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Name of both.
    pub(crate) name: &'static str,
    /// Whether the Services declare its port as HTTP.
    pub(crate) is_http: bool,
    /// Lines that the server says of it.
    pub(crate) events: usize,
    /// The case in words, for the manual.
    pub(crate) text: &'static str,
}

const fn connection(name: &'static str, events: usize, text: &'static str) -> Case {
    let is_http = false;
    Case {
        name,
        is_http,
        events,
        text,
    }
}

const fn requests(name: &'static str, events: usize, text: &'static str) -> Case {
    let is_http = true;
    Case {
        name,
        is_http,
        events,
        text,
    }
}

/// All of them; the slow ones first.
pub(crate) const CASES: &[Case] = &[
    requests(
        "idle_connection_that_ends",
        0,
        "a server ends its idle connections just when the next POST comes",
    ),
    connection(
        "silent_for_a_while",
        0,
        "both ends are silent, then go on talking",
    ),
    requests(
        "client_gives_up",
        1,
        "a client goes away before the response",
    ),
    connection("two_part_writes", 0, "a request is written in two parts"),
    connection("server_speaks_first", 0, "the server speaks first"),
    connection(
        "client_ends_its_side",
        1,
        "the client ends its side and waits for the answer",
    ),
    connection(
        "server_ends_its_side",
        1,
        "the server ends its side and reads on",
    ),
    connection("client_resets", 1, "the client resets the connection"),
    connection("server_resets", 1, "the server resets the connection"),
    connection("nobody_listens", 0, "nobody listens on the port"),
    connection("addresses", 1, "both ends ask for addresses"),
    connection("addresses_of_ipv6", 1, "the same over IPv6"),
    connection(
        "addresses_of_mapped_ipv4",
        1,
        "the same by an IPv4-mapped address",
    ),
    connection("much_both_ways", 1, "8 MiB each way at the same time"),
    connection("slow_reader", 0, "the client reads slowly"),
    connection("many_short_connections", 0, "a hundred short connections"),
    connection("urgent_byte", 1, "urgent data (MSG_OOB)"),
    requests(
        "names_of_fields",
        1,
        "upper and lower case in fields' names",
    ),
    requests("http10_without_host", 1, "HTTP/1.0 without Host"),
    requests("http10_with_host", 1, "HTTP/1.0 with Host"),
    requests("upgrade_with_a_body", 1, "an Upgrade that has a body"),
    requests(
        "upgrade_to_http2_with_a_body",
        1,
        "an upgrade to h2c that has a body",
    ),
    requests(
        "url_as_target",
        1,
        "a whole URL as target, as for a forward proxy",
    ),
    requests(
        "url_that_differs_from_host",
        1,
        "a URL with another host than Host's",
    ),
    requests("long_url", 1, "a URL of 40 kB"),
    requests("large_fields", 1, "fields of 72 kB together"),
    requests("many_fields", 1, "300 fields"),
    requests("large_response_head", 1, "a response with a head of 70 kB"),
    requests("many_cookies", 1, "a response with 300 cookies"),
    requests("chunks_and_trailers", 1, "chunks and trailers both ways"),
    requests("head_request", 1, "HEAD"),
    requests("no_content", 1, "204"),
    requests("not_modified_with_length", 1, "304 with a length"),
    requests("reason_phrase", 1, "another reason phrase than usual"),
    requests(
        "response_to_the_end",
        0,
        "a response that ends with its connection",
    ),
    requests("early_hints", 0, "103 before the response"),
    requests(
        "expectation_refused",
        1,
        "Expect: 100-continue, and the server refuses",
    ),
    requests(
        "expectation_met",
        1,
        "Expect: 100-continue, and the server asks for the body",
    ),
    requests(
        "half_closed_request",
        0,
        "a client ends its side behind its request",
    ),
    requests("pipelined_requests", 0, "five requests at once"),
    requests(
        "connection_that_has_logged_in",
        0,
        "two connections that have logged in (NTLM)",
    ),
    requests(
        "server_speaks_first_on_a_port_of_http",
        0,
        "a server speaks first on a port that is declared as HTTP",
    ),
];

/// Port of a case: the same for the Services and their pods.
pub(crate) fn port(case: &Case) -> u16 {
    let index = CASES.iter().position(|known| known.name == case.name);
    21_000 + u16::try_from(index.unwrap()).unwrap()
}
