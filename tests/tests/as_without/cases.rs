//! The cases.

use std::time::Duration;

use crate::case::{Case, connection, requests};

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
    // Of the median, in a debug build on a machine that does other things, too.
    connection("two_part_writes", 0, "a request is written in two parts")
        .within(Duration::from_millis(25)),
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
    requests(
        "nobody_listens_for_requests",
        0,
        "nobody listens on a port that is declared as HTTP",
    ),
    connection("no_route_leads_there", 0, "no route leads to the address"),
    connection(
        "next_address",
        0,
        "a client goes on to the next address of a name",
    ),
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
    requests("broken_response", 0, "a response that breaks off"),
    requests(
        "no_response",
        0,
        "a server ends its connection without a response",
    ),
    requests(
        "kept_connection_of_http10",
        0,
        "a client of HTTP/1.0 that keeps its connection",
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
        "early_answer_that_ends",
        0,
        "413 while the body is being sent, and the server ends",
    ),
    requests(
        "early_answer_read_late",
        1,
        "the same to a client that reads when it has sent all, and all of it arrives",
    ),
    requests(
        "early_answer_to_a_stuck_upload",
        0,
        "413 while the body is being sent, and the server reads no more of it",
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
    connection("fast_open", 0, "data with the first packet (TCP Fast Open)"),
    connection(
        "nobody_listens_for_fast_open",
        0,
        "the same where nobody listens",
    ),
    connection(
        "same_socket_again",
        0,
        "a socket that was refused connects again",
    ),
    connection(
        "socket_that_is_dissolved",
        0,
        "a socket whose connection is dissolved (AF_UNSPEC) connects again",
    ),
    connection("connect_without_waiting", 0, "connect() without waiting"),
    connection(
        "nobody_listens_without_waiting",
        0,
        "the same where nobody listens",
    ),
    connection("sends_and_goes", 1, "a client sends and goes"),
    connection(
        "goes_with_bytes_unread",
        1,
        "a client goes with bytes unread",
    ),
    connection(
        "server_goes_with_bytes_unread",
        0,
        "a server goes with bytes unread",
    ),
    connection("server_ends_at_once", 0, "a server ends at once"),
    connection("server_resets_at_once", 0, "a server resets at once"),
    connection(
        "writes_to_who_is_gone",
        0,
        "a client writes to a server that is gone",
    ),
    connection("source_port", 0, "the client's port, also a privileged one"),
    connection("bound_to_a_device", 0, "a socket that is bound to a device"),
    connection(
        "own_addresses",
        0,
        "a pod connects to itself, by each of its addresses",
    ),
    connection(
        "listens_on_loopback_only",
        0,
        "a server listens on loopback only",
    ),
    connection("listens_on_ipv4_only", 0, "a server listens on IPv4 only"),
    connection("many_at_once", 0, "a hundred connections at once"),
    connection(
        "reads_nothing_for_a_while",
        1,
        "a server reads when its client is gone",
    ),
    connection(
        "half_close_each",
        1,
        "each end closes its side before the other has",
    ),
    connection("shut_for_reading", 1, "a client that takes nothing more"),
    connection("no_linger_with_data", 1, "a reset with data under way"),
    requests(
        "lines_that_end_with_lf_alone",
        0,
        "a response whose lines end with LF alone",
    ),
    requests("several_interim_responses", 0, "102 twice and 103"),
    requests("undefined_interim_response", 0, "199"),
    requests(
        "another_expectation",
        1,
        "another expectation than 100-continue",
    ),
    requests("events", 0, "server-sent events, each when it is sent"),
    requests(
        "echo_while_sending",
        0,
        "a response that goes on beside its request",
    ),
    requests(
        "upgrade_with_bytes_behind",
        1,
        "an upgrade with bytes right behind, and each side ended",
    ),
    requests(
        "bytes_ahead_of_an_upgrade",
        0,
        "bytes of the other protocol ahead of its 101",
    ),
    requests("connect_method", 1, "CONNECT"),
    requests(
        "pipelined_posts",
        0,
        "requests with bodies at once, the last one's connection closes",
    ),
    requests("byte_by_byte", 1, "request and response byte by byte"),
    requests(
        "fields_that_are_added",
        1,
        "fields that are there, in their order",
    ),
    requests(
        "two_that_answer_out_of_order",
        0,
        "a slow request beside a fast one",
    ),
    requests("unfinished_chunks", 0, "chunks that break off"),
    requests(
        "client_breaks_off_its_body",
        1,
        "a client that breaks its body off",
    ),
    requests(
        "lengths_that_are_nought_or_missing",
        1,
        "lengths that are nought or missing",
    ),
    requests(
        "responses_without_a_body",
        1,
        "HEAD, 304, 204, 205 and OPTIONS without lengths",
    ),
    requests("no_content_with_length", 1, "204 with a length"),
    requests(
        "bodies_where_few_send_one",
        1,
        "GET, DELETE, OPTIONS and PROPFIND with a body",
    ),
    requests("unusual_methods", 1, "unusual methods"),
    requests("unusual_statuses", 1, "unusual statuses"),
    requests(
        "unusual_fields",
        1,
        "names and values of fields with odd bytes",
    ),
    requests("fields_of_proxies", 1, "fields of proxies and of tracing"),
    requests(
        "framing_of_responses",
        1,
        "chunks and lengths as few write them in responses",
    ),
    requests("chunked_twice", 1, "`chunked` said twice"),
    requests("framing_of_requests", 1, "the same in requests"),
    requests("response_of_http10", 1, "a response of HTTP/1.0"),
    requests("parts_of_a_file", 1, "Range and If-Range"),
    requests("unusual_targets", 0, "paths and queries with odd bytes"),
    requests("unusual_hosts", 0, "hosts in odd forms"),
    requests(
        "no_content_in_chunks",
        1,
        "204 that says it comes in chunks",
    ),
    requests(
        "answers_unasked",
        0,
        "a server answers before it has read anything, and ends",
    ),
    requests(
        "response_that_is_reset",
        0,
        "a response in chunks whose connection is reset",
    ),
    requests(
        "open_response_that_is_reset",
        0,
        "the same of one that ends with its connection, to HTTP/1.0",
    ),
    requests(
        "many_small_chunks",
        1,
        "a thousand chunks of a byte, with extensions",
    ),
    requests("upgrade_that_is_denied", 1, "an upgrade that is denied"),
    requests(
        "trailers_that_are_asked_for",
        1,
        "trailers to a client that asks for them",
    ),
    requests(
        "unannounced_trailers",
        1,
        "trailers that no `Trailer` has named",
    ),
    requests("status_lines", 1, "status lines without a reason"),
    requests(
        "reason_phrase_that_is_not_ascii",
        1,
        "a reason phrase that is not ASCII",
    ),
    requests("empty_host", 1, "an empty Host in HTTP/1.1"),
    requests("continue_unasked", 0, "100 that nobody asked for"),
    requests(
        "last_requests",
        0,
        "the last request of a connection, and what follows",
    ),
    requests("heads_between_bodies", 1, "HEAD between other requests"),
    requests("identity_coding", 0, "a response coded as `identity`"),
    requests(
        "identity_coding_of_requests",
        0,
        "a request coded as `identity`",
    ),
    requests(
        "length_beside_chunks",
        1,
        "a response with a length beside its chunks",
    ),
    requests(
        "client_resets_another_protocol",
        1,
        "a client resets its connection after an upgrade",
    ),
    requests("server_resets_another_protocol", 0, "the server does so"),
];

/// Port of a case: the same for the Services and their pods.
pub(crate) fn port(case: &Case) -> u16 {
    let index = CASES.iter().position(|known| known.name == case.name);
    21_000 + u16::try_from(index.unwrap()).unwrap()
}
