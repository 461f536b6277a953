//! Either end of a tunnel from inside a namespace, with any certificate one likes.

use std::net::SocketAddr;

use weft_testing::authority::{Authority, Credential, Leaf};
use weft_testing::hbone::{self, Tunnel, connect};
use weft_testing::tcp::serve_on_thread;
use weft_testing::wait::in_time;
use weft_tests::mesh::Mesh;
use weft_tests::netns::Namespace;

/// The authority that a mesh trusts.
pub(crate) fn authority(mesh: &Mesh) -> Authority {
    let path = mesh.state_directory().join("ca/root-key.pem");
    Authority::from_pem(&std::fs::read_to_string(path).unwrap())
}

/// A certificate of that service account in the namespace `default`.
pub(crate) fn leaf(service_account: &str) -> Leaf {
    Leaf::workload(&weft_testing::fixtures::identity(service_account))
}

/// Opens a tunnel from inside a namespace, sends a text and reads as much back.
///
/// The error says what was refused: the status, or how the connection ended.
pub(crate) fn open_tunnel(
    namespace: &Namespace,
    gateway: SocketAddr,
    presented: Option<&Credential>,
    to: SocketAddr,
    text: &str,
) -> Result<String, String> {
    let work = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(in_time(async {
            let tunnel = Tunnel::open(gateway, hbone::client(presented), connect(to)).await?;
            tunnel.exchange(text).await
        }))
    };
    namespace.run(work).unwrap()
}

/// Serves tunnels in a namespace, for as long as the test runs: each gets the answer, as if
/// an application had sent it.
pub(crate) fn serve_tunnels(
    namespace: &Namespace,
    gateway: SocketAddr,
    presented: &Credential,
    answer: &'static str,
) {
    let listener = namespace.run(|| std::net::TcpListener::bind(gateway));
    let presented = presented.clone();
    serve_on_thread(listener.unwrap().unwrap(), move |stream| {
        let presented = presented.clone();
        async move { hbone::serve(stream, &presented, answer).await }
    });
}
