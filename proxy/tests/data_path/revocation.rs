//! Certificates that are revoked: whoever shows one is refused, and cut where it is connected.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_model::Change;
use weft_model::revocation::{CertificateId, RevocationList};
use weft_testing::fixtures::identity;
use weft_testing::tcp::{echo, exchange};
use weft_testing::wait::in_time;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::application;
use crate::bed::{Bed, Pod};

/// The list that revokes the certificate that a pod of a node has now.
fn revoking(bed: &mut Bed, node: &'static str, name: &str) -> Change {
    let certificates = &bed.node(node).node.certificates;
    let certificate = certificates.current(&identity(name)).unwrap();
    let (_, parsed) = X509Certificate::from_der(&certificate.key.cert[0]).unwrap();
    let id = CertificateId {
        issuer: parsed.tbs_certificate.issuer.as_raw().into(),
        serial: parsed.raw_serial().into(),
    };
    Change::RevocationList([id].into_iter().collect::<RevocationList>())
}

async fn is_served(client: &Pod, to: SocketAddr) -> bool {
    let answered = async {
        let mut stream = client.connect(to).await?;
        stream.write_all(b"x").await?;
        stream.read(&mut [0; 1]).await
    };
    matches!(in_time(answered).await, Ok(1))
}

async fn open(client: &Pod, to: SocketAddr) -> TcpStream {
    let mut stream = client.connect(to).await.unwrap();
    assert_eq!(exchange(&mut stream, "before").await, "before");
    stream
}

/// `told` alone hears that the pod of that name has a certificate that is revoked.
async fn check(told: &'static str, of: &'static str, revoked: &str, other_is_served: bool) {
    let mut bed = Bed::new();
    let (client, other) = (bed.pod("node-1", "client"), bed.pod("node-1", "other"));
    let server = bed.pod("node-2", "server");
    let to = application(&server, echo).await;
    let mut cut = open(&client, to).await;
    let mut others = open(&other, to).await;
    let list = revoking(&mut bed, of, revoked);
    bed.node(told).node.store.apply([list]);
    let read = in_time(cut.read(&mut [0; 1])).await;
    assert!(!matches!(read, Ok(1..)), "{read:?}");
    assert!(!is_served(&client, to).await);
    if other_is_served {
        assert_eq!(exchange(&mut others, "still").await, "still");
    }
    assert_eq!(is_served(&other, to).await, other_is_served);
    bed.node(told)
        .node
        .store
        .apply([Change::RevocationListRemoved]);
    assert!(is_served(&client, to).await);
}

#[tokio::test]
async fn a_client_whose_certificate_is_revoked_is_cut_and_refused_and_others_are_not() {
    check("node-2", "node-1", "client", true).await;
}

#[tokio::test]
async fn a_server_whose_certificate_is_revoked_is_left_and_gets_no_byte_more() {
    check("node-1", "node-2", "server", false).await;
}
