use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;

use super::*;
use crate::ca::Authority;
use crate::kinds::ProxyMode;
use crate::serve::ServerCertificate;
use crate::source::manifest::parse;
use crate::source::{Event, Origin};

fn webhook() -> Arc<Webhook> {
    let cluster = Arc::new(Cluster::of_directory());
    let injection = InjectionOptions::with_mode(ProxyMode::Sidecar);
    Arc::new(Webhook::new(cluster, injection))
}

/// A client of the webhook that has sent the head of a review of that length.
async fn begin(webhook: &Arc<Webhook>, length: u64) -> DuplexStream {
    let (mut client, server) = tokio::io::duplex(1024 * 1024);
    tokio::spawn(converse(server, Arc::clone(webhook)));
    let head = format!("POST /validate HTTP/1.1\r\nHost: weft\r\nContent-Length: {length}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    client
}

async fn status(client: &mut DuplexStream) -> String {
    let mut answer = vec![0; 1024];
    let read = client.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test(start_paused = true)]
async fn large_reviews_wait_for_their_turn_and_small_ones_for_nobody() {
    let webhook = webhook();
    let began = Instant::now();
    let mut slow = Vec::new();
    for _ in 0..LARGE_AT_ONCE {
        slow.push(begin(&webhook, SMALL + 1).await);
    }
    sleep(REQUEST_TIMEOUT / 2).await;
    let mut large = begin(&webhook, SMALL + 1).await;
    large
        .write_all(&vec![b' '; SMALL as usize + 1])
        .await
        .unwrap();
    let mut small = begin(&webhook, SMALL).await;
    small.write_all(&vec![b' '; SMALL as usize]).await.unwrap();
    assert_eq!(status(&mut small).await, "200");
    assert_eq!(began.elapsed(), REQUEST_TIMEOUT / 2);
    // The others' time ends, and with it their turns.
    assert_eq!(status(&mut large).await, "200");
    assert!(began.elapsed() >= REQUEST_TIMEOUT);
    assert!(began.elapsed() < REQUEST_TIMEOUT * 3 / 2);
    for slow in &mut slow {
        assert_eq!(status(slow).await, "408");
    }
}

#[tokio::test(start_paused = true)]
async fn a_review_that_is_larger_than_any_is_refused() {
    let webhook = webhook();
    let mut client = begin(&webhook, LARGEST as u64 + 1).await;
    let part = vec![b' '; 512 * 1024];
    let sending = async {
        // It breaks off once that is known.
        while client.write_all(&part).await.is_ok() {}
    };
    let _ = tokio::time::timeout(REQUEST_TIMEOUT, sending).await;
    assert_eq!(status(&mut client).await, "413");
}

/// The webhook over TLS, as an API server calls it.
struct Served {
    address: std::net::SocketAddr,
    roots: RootCertStore,
    _folder: tempfile::TempDir,
}

impl Served {
    /// Of a mesh with the namespace `shop`, whose pods ask for sidecars.
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Arc::new(Authority::open(folder.path(), time::Duration::HOUR).unwrap());
        let mut roots = RootCertStore::empty();
        for root in authority.roots() {
            roots.add(root).unwrap();
        }
        let names = vec!["weft-control-plane.weft-system.svc".to_owned()];
        let certificate = ServerCertificate::new(authority, names).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cluster = Cluster::of_directory();
        let shop = "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { \
                    weft.dev/mesh: enabled, weft.dev/mode: sidecar } }\n";
        let shop = parse(shop).unwrap().remove(0);
        cluster.apply_events(vec![Event::Applied(Origin::new(), shop)]);
        let injection = InjectionOptions::with_mode(ProxyMode::Auto);
        let tls = certificate.config().unwrap();
        tokio::spawn(serve(listener, tls, Arc::new(cluster), injection));
        Self {
            address,
            roots,
            _folder: folder,
        }
    }

    /// Status and body of the answer to a POST.
    async fn post(&self, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        let name = ServerName::try_from("weft-control-plane.weft-system.svc").unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, stream).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: weft\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|part| part == b"\r\n\r\n");
        let body = answer.split_off(end.unwrap() + 4);
        let head = String::from_utf8(answer).unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
    }

    async fn review(&self, path: &str, pod: &Value) -> Value {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u-1", "namespace": "shop", "name": "web", "operation": "CREATE",
                "kind": { "group": "", "version": "v1", "kind": "Pod" },
                "resource": { "group": "", "version": "v1", "resource": "pods" },
                "userInfo": {}, "object": pod,
            },
        });
        let (status, body) = self.post(path, review.to_string().as_bytes()).await;
        assert_eq!(status, 200);
        serde_json::from_slice(&body).unwrap()
    }
}

#[tokio::test]
async fn an_api_server_is_answered_over_tls_with_the_patch_of_a_sidecar() {
    let webhook = Served::start().await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" },
        "spec": { "containers": [{ "name": "web" }], "serviceAccountName": "web" },
    });
    for path in [INJECT, INJECT_IN_MESH] {
        let answer = webhook.review(path, &pod).await;
        let response = &answer["response"];
        assert_eq!(
            (&response["uid"], &response["allowed"]),
            (&json!("u-1"), &json!(true))
        );
        assert_eq!(response["patchType"], "JSONPatch");
        assert!(response["patch"].is_string() || response["patch"].is_array());
    }
    let outside = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" },
        "spec": { "containers": [], "serviceAccountName": "web", "hostNetwork": true },
    });
    let answer = webhook.review(INJECT_IN_MESH, &outside).await;
    assert_eq!(answer["response"]["allowed"], true);
    assert!(answer["response"].get("patch").is_none());
}

#[tokio::test]
async fn what_is_no_review_is_answered_with_words_over_tls() {
    let webhook = Served::start().await;
    let nested = "[".repeat(100_000);
    for body in ["", "{}", "null", "{\"request\": 7}", "\u{0}", &nested] {
        let (status, answer) = webhook.post(INJECT, body.as_bytes()).await;
        assert_eq!(status, 200);
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["response"]["allowed"], false, "{body}");
        let message = answer["response"]["status"]["message"].as_str().unwrap();
        assert!(message.contains("AdmissionReview"), "{message}");
    }
    let (status, text) = webhook.post("/elsewhere", b"{}").await;
    assert_eq!(status, 404);
    assert!(String::from_utf8(text).unwrap().contains("/inject"));
}
