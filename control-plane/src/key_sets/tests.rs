//! Fetching keys from servers of the tests, and who is not asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use weft_testing::authority::{Authority, Leaf};
use weft_testing::tcp::{closed_port, listen, serve};
use weft_testing::wait::wait_until;

use super::*;
use crate::source::manifest::parse;
use crate::source::{Event, Origin};

const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"one","x":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"}]}"#;

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Answers a request, whatever it asks for.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A server of HTTP with one answer, and the number of its connections.
async fn server(text: String) -> (SocketAddr, Arc<AtomicUsize>) {
    let (text, count) = (Arc::<str>::from(text), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    let address = serve(listen().await, move |stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        let text = Arc::clone(&text);
        async move { answer(stream, &text).await }
    });
    (address, count)
}

fn fetcher(authority: &Authority, allow_http: bool, allow_local: bool) -> Fetcher {
    let options = FetcherOptions {
        allow_http,
        allow_local,
        roots: None,
    };
    Fetcher::trusting((*authority.roots()).clone(), options)
}

fn at(address: &str) -> KeySource {
    KeySource::Address(address.into())
}

async fn failure(fetcher: &Fetcher, address: &str) -> String {
    let fetched = fetcher.fetch(&at(address)).await;
    fetched.unwrap_err().to_string()
}

#[tokio::test]
async fn keys_are_fetched_over_tls_from_whom_the_address_names() {
    let authority = Authority::new();
    let credential = authority.issue(&Leaf::server("localhost"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![credential.certificate.clone()], credential.key())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = serve(listener, move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream, &ok(KEYS)).await;
            }
        }
    });
    let url = format!("https://localhost:{}/keys", address.port());
    let trusting = fetcher(&authority, false, true);
    let keys = trusting.fetch(&at(&url)).await.unwrap();
    assert_eq!(keys[0].id.as_deref(), Some("one"));
    let by_address = format!("https://{address}/keys");
    assert!(
        failure(&trusting, &by_address)
            .await
            .starts_with("TLS with")
    );
    let stranger = fetcher(&Authority::new(), false, true);
    assert!(failure(&stranger, &url).await.starts_with("TLS with"));
}

#[tokio::test]
async fn nobody_is_asked_whom_the_operator_has_not_allowed() {
    let authority = Authority::new();
    let (address, count) = server(ok(KEYS)).await;
    let port = address.port();
    let usual = fetcher(&authority, false, false);
    let http = format!("http://{address}/keys");
    assert!(failure(&usual, &http).await.contains("--jwks-allow-http"));
    let over_http = fetcher(&authority, true, false);
    for (fetcher, url) in [
        (&over_http, http.clone()),
        (&over_http, format!("http://localhost:{port}/")),
        (&over_http, format!("http://[::ffff:127.0.0.1]:{port}/")),
        (&usual, format!("https://127.0.0.1:{port}/")),
        (
            &usual,
            "https://169.254.169.254/latest/meta-data".to_owned(),
        ),
        (&usual, "https://[fe80::1]/".to_owned()),
        (&usual, "https://0.0.0.0/".to_owned()),
    ] {
        let found = failure(fetcher, &url).await;
        assert!(found.contains("--jwks-allow-local"), "{url}: {found}");
    }
    assert_eq!(count.load(Ordering::Relaxed), 0);
    let all = fetcher(&authority, true, true);
    assert_eq!(all.fetch(&at(&http)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_answer_that_is_no_key_set_is_told_and_nothing_of_it() {
    let authority = Authority::new();
    let fetcher = fetcher(&authority, true, true);
    let redirect =
        "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n";
    let large = ok(&" ".repeat(300 * 1024));
    let private = KEYS.replace("\"kid\"", "\"d\":\"AQ\",\"kid\"");
    for (answer, expected) in [
        (
            redirect.to_owned(),
            "the host answers with a redirect (302 Found)",
        ),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\nsecret".to_owned(),
            "the host answers 404",
        ),
        (large, "the answer is larger than"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{".to_owned(),
            "the answer is larger than",
        ),
        (
            "nonsense\r\n\r\n".to_owned(),
            "the host's answer is no HTTP",
        ),
        (String::new(), "the host's answer is no HTTP"),
        (ok("secret"), "it is no JSON Web Key Set"),
        (ok("{\"keys\":[]}"), "none of its keys"),
        (ok(&private), "key 0 (from 0) is secret"),
    ] {
        let (address, _) = server(answer).await;
        let found = failure(&fetcher, &format!("http://{address}/keys")).await;
        assert!(found.starts_with(expected), "{found}");
        assert!(!found.contains("secret\""), "{found}");
    }
    let closed = closed_port().await;
    let found = failure(&fetcher, &format!("http://{closed}/")).await;
    assert_eq!(found, "the host takes no connection");
}

fn applied(name: &str, address: SocketAddr) -> Event {
    of_namespace("shop", name, &format!("http://{address}/keys"))
}

fn of_namespace(namespace: &str, name: &str, address: &str) -> Event {
    let text = format!(
        "apiVersion: weft.dev/v1alpha1\nkind: RequestAuthentication\n\
         metadata: {{ name: {name}, namespace: {namespace} }}\n\
         spec: {{ providers: [{{ issuer: a, jwksUri: '{address}' }}] }}\n"
    );
    Event::Applied(Origin::new(), parse(&text).unwrap().remove(0))
}

fn told_keys(cluster: &Cluster) -> Vec<usize> {
    let resources = cluster.resources();
    let policies = resources
        .after(None)
        .filter_map(|(_, versioned)| match &versioned.change {
            weft_model::mesh::Change::AuthorizationPolicy(policy) => policy.authentication.as_ref(),
            _ => None,
        });
    policies
        .map(|authentication| authentication.providers[0].keys.len())
        .collect()
}

#[tokio::test]
async fn an_address_is_fetched_once_whoever_names_it_and_before_agents_are_served() {
    let authority = Authority::new();
    let (address, count) = server(ok(KEYS)).await;
    let cluster = Arc::new(Cluster::of_directory());
    cluster.apply_events(vec![applied("a", address), applied("b", address)]);
    assert_eq!(told_keys(&cluster), [0, 0]);
    let key_sets = KeySets::new(Arc::clone(&cluster), fetcher(&authority, true, true));
    key_sets.fetch_first().await;
    assert_eq!(told_keys(&cluster), [1, 1]);
    assert_eq!(count.load(Ordering::Relaxed), 1);
    // One that comes later is fetched as soon as it is there.
    let (later, _) = server(ok(KEYS)).await;
    cluster.apply_events(vec![applied("c", later)]);
    wait_until("its keys", || told_keys(&cluster) == [1, 1, 1]).await;
    // One that nobody answers for has none, and harms nobody.
    cluster.apply_events(vec![applied("d", closed_port().await)]);
    wait_until("a status", || cluster.key_sources().len() == 3).await;
    assert_eq!(told_keys(&cluster), [1, 1, 1, 0]);
}

/// A server of HTTP that answers each path as a function says.
async fn server_of(answers: impl Fn(&str) -> String + Clone + Send + 'static) -> SocketAddr {
    serve(listen().await, move |mut stream| {
        let answers = answers.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                }
            }
            let head = String::from_utf8_lossy(&head);
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let _ = stream.write_all(answers(&path).as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    })
}

#[tokio::test]
async fn an_issuer_is_asked_for_the_address_of_its_keys_and_no_other_is_believed() {
    let authority = Authority::new();
    let fetcher = fetcher(&authority, true, true);
    let (metadata, asked) = server(ok(KEYS)).await;
    let discovery = move |path: &str, issuer: &str, own: SocketAddr| match path {
        "/realm/.well-known/openid-configuration" => ok(&format!(
            r#"{{"issuer":"{issuer}","jwks_uri":"http://{own}/keys"}}"#
        )),
        "/keys" => ok(KEYS),
        _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
    };
    // Its own address is in what it says.
    let own = Arc::new(std::sync::OnceLock::<SocketAddr>::new());
    let told = Arc::clone(&own);
    let server = server_of(move |path| {
        let own = *told.get().unwrap();
        discovery(path, &format!("http://{own}/realm"), own)
    })
    .await;
    own.set(server).unwrap();
    let issuer = KeySource::Issuer(format!("http://{server}/realm").into());
    assert_eq!(fetcher.fetch(&issuer).await.unwrap().len(), 1);
    let slash = KeySource::Issuer(format!("http://{server}/realm/").into());
    let found = fetcher.fetch(&slash).await.unwrap_err().to_string();
    assert!(
        found.starts_with("the issuer's openid-configuration"),
        "{found}"
    );

    // Where it leads is no more allowed than an address that somebody writes down.
    for document in [
        "secret".to_owned(),
        r#"{"issuer":"ISSUER"}"#.to_owned(),
        format!(r#"{{"issuer":"http://other","jwks_uri":"http://{metadata}/"}}"#),
        format!(r#"{{"issuer":"ISSUER","jwks_uri":"http://u@{metadata}/"}}"#),
        r#"{"issuer":"ISSUER","jwks_uri":"file:///etc/passwd"}"#.to_owned(),
    ] {
        let own = Arc::new(std::sync::OnceLock::<String>::new());
        let told = Arc::clone(&own);
        let server = server_of(move |_| ok(told.get().unwrap())).await;
        let issuer = format!("http://{server}");
        own.set(document.replace("ISSUER", &issuer)).unwrap();
        let fetched = fetcher.fetch(&KeySource::Issuer(issuer.into())).await;
        let found = fetched.unwrap_err().to_string();
        let expected = "the issuer's openid-configuration";
        assert!(found.starts_with(expected), "{document}: {found}");
        assert!(!found.contains("secret"), "{found}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn servers_of_one_namespace_that_never_answer_hold_up_nobody_elses_first_keys() {
    let authority = Authority::new();
    let open = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&open);
    let hanging = serve(listen().await, move |mut stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            // Until the other end gives up.
            while stream.read_u8().await.is_ok() {}
        }
    });
    let (good, _) = server(ok(KEYS)).await;
    let cluster = Arc::new(Cluster::of_directory());
    let address = |number| format!("http://{hanging}/{number}");
    let mut events: Vec<_> = (0..400)
        .map(|number| of_namespace("a-bad", &format!("n{number}"), &address(number)))
        .collect();
    events.push(of_namespace("shop", "good", &format!("http://{good}/keys")));
    cluster.apply_events(events);
    let key_sets = KeySets::new(Arc::clone(&cluster), fetcher(&authority, true, true));
    let first = tokio::spawn({
        let key_sets = Arc::clone(&key_sets);
        async move { key_sets.fetch_first().await }
    });
    wait_until("its keys", || told_keys(&cluster).contains(&1)).await;
    let most = shares::MOST_OF_HOST.max(shares::MOST_OF_NAMESPACE);
    assert!(open.load(Ordering::Relaxed) <= most);
    first.abort();
}

#[tokio::test]
async fn keys_that_tokens_ask_for_are_fetched_sooner_and_a_flood_costs_nothing_more() {
    let authority = Authority::new();
    let (address, count) = server(ok(KEYS)).await;
    let cluster = Arc::new(Cluster::of_directory());
    cluster.apply_events(vec![applied("a", address)]);
    let soonest = Duration::from_millis(300);
    let fetcher = fetcher(&authority, true, true);
    let key_sets = Arc::new(KeySets::refetching(Arc::clone(&cluster), fetcher, soonest));
    key_sets.fetch_first().await;
    let fetches = || count.load(Ordering::Relaxed);
    assert_eq!(fetches(), 1);
    let began = std::time::Instant::now();
    let name = format!("http://{address}/keys");
    let flood = vec![name; 10_000];
    key_sets.request(&flood);
    key_sets.request(&["http://somebody.example/".to_owned()]);
    key_sets.request(&flood);
    wait_until("the next fetch", || fetches() > 1).await;
    let most = 2 + began.elapsed().as_millis() / soonest.as_millis();
    assert!(fetches() as u128 <= most, "{} in {most}", fetches());
}
