//! Conformance of servers of HTTP/2: how a client finds one behind the mesh.

use super::case::{CONNECTS, Server, case};

pub(super) const SERVERS: &[Server] = &[Server {
    name: "nghttpd",
    protocol: "http2",
    ports: &[8091],
    prepare: "",
    start: "mkdir root; echo hello > root/index.html
        exec nghttpd --no-tls -d root $PORT",
    ready: CONNECTS,
    programs: &[("nghttpd", "nghttp2-server"), ("go", "golang-go")],
    modules: &["h2spec/h2spec"],
    cases: &[
        case(
            "h2spec",
            "h2spec: the conformance of a server of HTTP/2 (nghttpd), but for what follows",
            "$FILES/h2spec-h2spec --timeout 5 --strict -h $SERVER -p $PORT --junit-report=report.xml > said
             /usr/bin/python3 $FILES/h2spec.py report.xml http2/5.1.1 http2/3.5",
        ),
        case(
            "h2spec_preface",
            "h2spec: the client's preface",
            "$FILES/h2spec-h2spec --timeout 5 --strict http2/3.5 -h $SERVER -p $PORT --junit-report=report.xml > said
             /usr/bin/python3 $FILES/h2spec.py report.xml",
        ),
        case(
            "h2spec_identifiers",
            "h2spec: identifiers of streams",
            "$FILES/h2spec-h2spec --timeout 5 --strict http2/5.1.1 -h $SERVER -p $PORT --junit-report=report.xml > said
             /usr/bin/python3 $FILES/h2spec.py report.xml",
        ),
    ],
}];
