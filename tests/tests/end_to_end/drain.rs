//! Connections that stay open while their pod leaves the mesh.

use std::time::Duration;

use weft_tests::manifest::PodSpec;
use weft_tests::mesh::MeshBuilder;

use super::{LIMIT, address, serve_web};

/// Who drains HTTP/1.1 says so in its last responses (`Connection: close`) before it closes a
/// connection that is idle.
#[test]
fn a_pod_that_leaves_fails_no_request_on_connections_that_stay_open() {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("client", 1))
        .pod(PodSpec::new("web-2", 2))
        .http_service("web", &["10.96.0.10"], "web-2", &[(80, 8080)])
        .start()
        .unwrap();
    serve_web(&mut mesh, &["web-2"]);
    // As kube-proxy does, once the client is out of the mesh.
    let rules = format!(
        "add table ip kp; add chain ip kp p {{ type nat hook prerouting priority -100; }}; \
         add rule ip kp p ip daddr 10.96.0.10 tcp dport 80 dnat to {}",
        address(&mesh, "web-2", 8080),
    );
    let near = mesh.topology().node(1).unwrap().host.place();
    near.output(&["nft", &rules], LIMIT).unwrap();
    let program = "
import http.client, threading, time
failed, ok, t0 = [], [], time.time()
def run(i):
    c = None
    while time.time() - t0 < 8:
        try:
            c = c or http.client.HTTPConnection('10.96.0.10', 80, timeout=5)
            c.request('GET', '/'); r = c.getresponse(); r.read(); ok.append(r.status)
            if r.will_close: c.close(); c = None
        except Exception as e:
            failed.append(repr(e)); c = None
        time.sleep(.02 + i * .001)
t = [threading.Thread(target=run, args=(i,)) for i in range(20)]
[x.start() for x in t]; [x.join() for x in t]
print(len(ok), 'ok', len(failed), 'failed', failed[:2])";
    let line = ["python3", "-c", program];
    let place = mesh.pod("client").unwrap().host.place();
    let control = place.spawn("control", mesh.directory(), &line).unwrap();
    assert!(control.finish(LIMIT).unwrap().contains(" 0 failed"));
    let place = mesh.pod("client").unwrap().host.place();
    let load = place.spawn("load", mesh.directory(), &line).unwrap();
    // In the midst of it.
    std::thread::sleep(Duration::from_secs(2));
    mesh.apply_pod(PodSpec::new("client", 1).outside()).unwrap();
    let said = load.finish(LIMIT).unwrap();
    assert!(said.contains(" 0 failed"), "{said}");
}
