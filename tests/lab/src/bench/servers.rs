//! The servers that answer a benchmark's requests.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use weft_tests::mesh::Mesh;
use weft_tests::process::Process;

use super::bed::write_file;
use super::error::Result;

/// Starts nginx in a pod, answering 1 KiB with its own name in a header; on the ports
/// marked so over HTTP/2 alone, which nginx can't tell apart without TLS.
pub(crate) fn start_nginx(
    mesh: &Mesh,
    pod: &str,
    folder: &Path,
    ports: &[(u16, bool)],
) -> Result<Process> {
    let configuration = folder.join(format!("{pod}-nginx.conf"));
    let body = "x".repeat(1024);
    let listen = ports.iter().map(|(port, http2)| {
        let http2 = if *http2 { " http2" } else { "" };
        format!("listen {port}{http2}; ")
    });
    let text = format!(
        "daemon off; worker_processes 1; pid {}/{pod}-nginx.pid; error_log stderr;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000;\n\
         server {{ {}add_header x-test-server {pod};\n\
         location / {{ return 200 \"{body}\"; }} }} }}\n",
        folder.display(),
        listen.collect::<String>()
    );
    write_file(&configuration, &text)?;
    let configuration = configuration.display().to_string();
    let place = mesh.pod(pod)?.host.place();
    let line = ["nginx", "-c", &configuration];
    Ok(place.spawn(&format!("{pod}-nginx"), folder, &line)?)
}

/// Starts `weft-test-app` in a pod, as a server of HTTP/1.1 that reads a request whole before it
/// answers. nginx answers when it has the head, which some proxies take for a broken connection.
pub(crate) fn start_reader(
    mesh: &Mesh,
    pod: &str,
    folder: &Path,
    (program, port): (&Path, u16),
) -> Result<Process> {
    let program = program.display().to_string();
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).to_string();
    let line = [&program, "http", "--listen", &address, "--name", pod];
    let place = mesh.pod(pod)?.host.place();
    Ok(place.spawn(&format!("{pod}-http"), folder, &line)?)
}
