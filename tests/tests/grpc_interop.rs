//! gRPC's own client for Go against the web server of `weft-test-app`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use weft_tests::cluster::Binaries;

const CLIENT: &str = "grpc-interop/client";
/// The cases of gRPC's interoperability tests that need neither TLS nor compression.
const CASES: [&str; 14] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "custom_metadata",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "unimplemented_service",
];

#[test]
fn the_web_server_speaks_grpc_as_others_do() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let client = Binaries::program(workspace, CLIENT).unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_weft-test-app"))
        .args(["web", "--listen", "127.0.0.1:0", "--name", "one"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut address = String::new();
    let mut output = BufReader::new(server.stdout.take().unwrap());
    output.read_line(&mut address).unwrap();
    let port = address.trim().rsplit(':').next().unwrap();
    let outputs: Vec<_> = CASES
        .map(|case| {
            let output = Command::new(&client)
                .args([
                    "-server_host",
                    "127.0.0.1",
                    "-server_port",
                    port,
                    "-test_case",
                    case,
                ])
                .output();
            (case, output.unwrap())
        })
        .into();
    server.kill().unwrap();
    server.wait().unwrap();
    for (case, output) in outputs {
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{case}: {text}");
    }
}
