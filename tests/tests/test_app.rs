//! The web server and the clients of `weft-test-app`, without a mesh between them: what
//! tests of the mesh rely on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

const APP: &str = env!("CARGO_BIN_EXE_weft-test-app");

struct Web {
    process: Child,
    address: String,
}

impl Web {
    fn start() -> Self {
        let mut process = Command::new(APP)
            .args(["web", "--listen", "127.0.0.1:0", "--name", "one"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines.next().unwrap().unwrap();
        let address = address.strip_prefix("at ").unwrap().to_owned();
        assert_eq!(lines.next().unwrap().unwrap(), "listening");
        Self { process, address }
    }

    fn client(&self, line: &[&str]) -> Value {
        let (mode, rest) = line.split_first().unwrap();
        let output = Command::new(APP)
            .args([mode, "--to", &self.address])
            .args(rest)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line:?}: {text}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn every_request_is_counted_once_in_either_version() {
    let web = Web::start();
    for version in [&[][..], &["--http2"]] {
        let line = [
            "load",
            "--requests",
            "500",
            "--parallel",
            "8",
            "--body",
            "2000",
        ];
        let report = web.client(&[&line[..], version].concat());
        assert_eq!(report["by_name"]["one"], 500, "{report}");
        assert_eq!(report["by_status"]["200"], 500, "{report}");
    }
    let seen = web.client(&["load", "--path", "/-/seen"]);
    assert_eq!(seen["tally"]["ok"], 1, "{seen}");
}

#[test]
fn requests_fail_as_they_ask() {
    let web = Web::start();
    let failing = web.client(&["load", "--requests", "6", "--path", "/?fail-first=2&key=a"]);
    assert_eq!(failing["by_status"]["503"], 2, "{failing}");
    assert_eq!(failing["by_status"]["200"], 4, "{failing}");
    let closing = web.client(&["load", "--requests", "2", "--header", "x-test-close:1"]);
    assert_eq!(closing["tally"]["failed"], 2, "{closing}");
    let slow = web.client(&["load", "--path", "/?delay=60000", "--timeout", "50"]);
    assert_eq!(slow["tally"]["failed"], 1, "{slow}");
    let streamed = web.client(&["load", "--path", "/?bytes=100000&status=404", "--http2"]);
    assert_eq!(streamed["by_status"]["404"], 1, "{streamed}");
}

#[test]
fn websocket_messages_of_every_length_come_back() {
    let web = Web::start();
    for bytes in ["0", "125", "126", "70000"] {
        let report = web.client(&["websocket", "--messages", "6", "--bytes", bytes]);
        assert_eq!(report["accepted"], true, "{report}");
        assert_eq!(report["echoed"]["ok"], 6, "{report}");
        assert_eq!(report["closed"], true, "{report}");
    }
}

#[test]
fn calls_of_every_kind_end_with_trailers() {
    let web = Web::start();
    for (kind, bytes) in [
        ("unary", 1000),
        ("server-stream", 5000),
        ("client-stream", 5000),
        ("bidi", 5000),
    ] {
        let report = web.client(&["grpc", "--kind", kind, "--messages", "5"]);
        let last = &report["last"];
        assert_eq!(report["by_name"]["one"], 1, "{kind}: {report}");
        assert_eq!(last["bytes"], bytes, "{kind}: {report}");
        assert_eq!(
            last["initial"]["x-grpc-test-echo-initial"], "initial",
            "{report}"
        );
        assert_eq!(
            last["trailing"]["x-grpc-test-echo-trailing-bin"], "trailing",
            "{report}"
        );
    }
}

#[test]
fn calls_fail_as_they_ask() {
    let web = Web::start();
    for (line, code) in [
        (&["--code", "9"][..], "FailedPrecondition"),
        (&["--code", "9", "--kind", "bidi"], "FailedPrecondition"),
        (&["--header", "x-test-grpc-status:8"], "ResourceExhausted"),
        (&["--header", "x-test-status:503"], "Unavailable"),
        (
            &["--header", "x-test-delay:60000", "--timeout", "50"],
            "Cancelled",
        ),
    ] {
        let report = web.client(&[&["grpc"], line].concat());
        assert_eq!(report["by_code"][code], 1, "{line:?}: {report}");
    }
}
