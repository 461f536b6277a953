//! What can be read between the nodes.

use weft_tests::packets::{Capture, marker};

use super::{address, serve_web, shop};

#[test]
fn what_crosses_between_nodes_inside_the_mesh_cannot_be_read() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2", "outside"]);
    let capture = Capture::start(mesh.topology(), mesh.directory()).unwrap();
    let ask = |from: &str, to: &str| {
        let marker = marker(to);
        let url = format!("http://{}/{marker}", address(&mesh, to, 8080));
        mesh.run(from, &["curl", "-sS", "--fail", "--max-time", "15", &url])
            .unwrap();
        marker
    };
    let cross_node = ask("client", "web-2");
    let same_node = ask("client", "web-1");
    let to_outside = ask("client", "outside");
    let from_outside = ask("outside", "web-1");
    let packets = capture.finish(mesh.topology()).unwrap();
    assert!(!packets.contain(&cross_node));
    assert!(!packets.contain(&same_node));
    // So it would have been seen.
    assert!(packets.contain(&to_outside));
    assert!(packets.contain(&from_outside));
    let between = ["client", "web-2"].map(|pod| mesh.pod(pod).unwrap().host.ipv4());
    assert!(packets.count(between, 15008).unwrap() > 0);
    assert_eq!(packets.count(between, 8080).unwrap(), 0);
}
