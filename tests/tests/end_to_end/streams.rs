//! Connections that don't take turns politely: each has to work on every path.

use weft_tests::mesh::Mesh;
use weft_tests::wait_until;

use super::{LIMIT, address, shop};

/// On the same node, on the other, and outside the mesh.
const SERVERS: [&str; 3] = ["web-1", "web-2", "outside"];
const BYTES: u64 = 10_000_000;

fn serve(mode: &str) -> Mesh {
    let mut mesh = shop().start().unwrap();
    for pod in SERVERS {
        mesh.serve(pod, &[mode, "--listen", "[::]:9000"]).unwrap();
    }
    mesh
}

#[test]
fn a_client_that_closes_its_side_still_gets_the_answer() {
    let mesh = serve("count-server");
    for pod in SERVERS {
        let to = format!("--to={}", address(&mesh, pod, 9000));
        for bytes in [0, 1, BYTES] {
            let report = mesh.report("client", &["half-close", &to, &format!("--bytes={bytes}")]);
            assert_eq!(report.unwrap()["answer"], bytes.to_string(), "{pod}");
        }
    }
}

#[test]
fn a_server_that_closes_its_side_first_still_gets_everything() {
    let mut mesh = shop().start().unwrap();
    for pod in SERVERS {
        let mut server = mesh
            .spawn(pod, &["farewell-server", "--listen", "[::]:9000"])
            .unwrap();
        server.wait_for_text("listening", LIMIT).unwrap();
        let to = format!("--to={}", address(&mesh, pod, 9000));
        let arguments = ["send-after-end", &to, &format!("--bytes={BYTES}")];
        let report = mesh.report("client", &arguments).unwrap();
        assert_eq!(report["answer"], "I have said all", "{pod}");
        let all = format!("received {BYTES} after");
        wait_until(&format!("{pod} to get everything"), LIMIT, || {
            server.stdout().contains(&all)
        })
        .unwrap();
    }
    mesh.wait_ready().unwrap();
}

#[test]
fn a_server_may_speak_first() {
    let mesh = serve("talk-first");
    for pod in SERVERS {
        let to = format!("--to={}", address(&mesh, pod, 9000));
        let report = mesh.report("client", &["listen", &to]).unwrap();
        assert_eq!(report["greeting"], "220 welcome", "{pod}");
        assert_eq!(report["echoed"], "hello", "{pod}");
    }
}

#[test]
fn a_server_outside_the_mesh_and_one_inside_may_speak_first_to_each_other() {
    let mesh = serve("talk-first");
    let to = format!("--to={}", address(&mesh, "web-1", 9000));
    let report = mesh.report("outside", &["listen", &to]).unwrap();
    assert_eq!(report["greeting"], "220 welcome");
}
