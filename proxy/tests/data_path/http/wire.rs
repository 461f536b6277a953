//! HTTP/1 as old and odd clients and servers speak it, byte by byte, near and far: what either
//! end sees is what it would see without a mesh.

use super::raw_server::{NODES, OK, REQUEST, raw, read_until, talk};
use super::*;

#[tokio::test]
async fn a_body_follows_its_head_whatever_upgrade_is_asked_for_and_however_early_the_answer() {
    for node in NODES {
        for upgrade in ["tcp", "h2c", "TLS/1.2", "websocket"] {
            let mut bed = Bed::new();
            let refusal = "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";
            let (client, _server, raw, address) = raw(&mut bed, node, refusal).await;
            let head = format!(
                "POST /one HTTP/1.1\r\nHost: web\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                 Upgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: 5\r\n\r\n"
            );
            let mut stream = client.connect(address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            // The answer comes before the body is sent.
            let answer = read_until(&mut stream, "\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{upgrade}: {answer}");
            let _ = stream.write_all(b"AAAAA").await;
            drop(stream);
            let second = "GET /two HTTP/1.1\r\nHost: web\r\n\r\n";
            let (answer, _stream) = talk(&client, address, second, "\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{upgrade}: {answer}");
            for connection in raw.connections() {
                let text = connection.text;
                assert!(!text.contains("AAMAAABk"), "{upgrade}: {text}");
                let Some((_, behind)) = text.split_once("\r\n\r\n") else {
                    continue;
                };
                if text.starts_with("POST") {
                    assert!(
                        "AAAAA".starts_with(&behind[..behind.len().min(5)]),
                        "{text}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn names_of_fields_keep_their_letters_both_ways() {
    for node in NODES {
        let mut bed = Bed::new();
        let answer = "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nX-MyThing: 1\r\n\r\nok";
        let (client, _server, raw, address) = raw(&mut bed, node, answer).await;
        let request = "GET / HTTP/1.1\r\nHost: web\r\nX-CamelCase: 1\r\nsoapACTION: 2\r\n\r\n";
        let (answer, _stream) = talk(&client, address, request, "ok").await;
        assert!(answer.starts_with("HTTP/1.1 200 Fine\r\n"), "{answer}");
        assert!(answer.contains("\r\nX-MyThing: 1\r\n"), "{answer}");
        assert!(answer.contains("\r\nContent-Length: 2\r\n"), "{answer}");
        let arrived = raw.text(0);
        for field in ["Host: web", "X-CamelCase: 1", "soapACTION: 2"] {
            assert!(arrived.contains(&format!("\r\n{field}\r\n")), "{arrived}");
        }
    }
}

#[tokio::test]
async fn a_url_for_a_forward_proxy_arrives_as_it_was_sent_and_wins_over_host() {
    for node in NODES {
        let mut bed = Bed::new();
        let (client, _server, raw, address) = raw(&mut bed, node, OK).await;
        let request = "GET http://example.test/x?y=z HTTP/1.1\r\nHost: web\r\n\r\n";
        let (answer, _stream) = talk(&client, address, request, "ok").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let arrived = raw.text(0);
        assert!(
            arrived.starts_with("GET http://example.test/x?y=z HTTP/1.1\r\n"),
            "{arrived}"
        );
        assert!(arrived.contains("\r\nHost: example.test\r\n"), "{arrived}");
    }
}

#[tokio::test]
async fn a_tunnel_that_is_granted_with_a_length_has_no_body() {
    for node in NODES {
        let mut bed = Bed::new();
        let granted = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        let (client, _server, raw, address) = raw(&mut bed, node, granted).await;
        let request = "CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n";
        let (answer, mut stream) = talk(&client, address, request, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(
            !answer.to_ascii_lowercase().contains("content-length"),
            "{answer}"
        );
        stream.write_all(b"hello\r\n\r\n").await.unwrap();
        // The bytes of the other protocol arrive, and those of the server come back.
        assert_eq!(read_until(&mut stream, granted).await, granted);
        assert!(raw.text(0).ends_with("hello\r\n\r\n"), "{}", raw.text(0));
    }
}

#[tokio::test]
async fn long_urls_and_large_heads_pass_as_without_a_proxy() {
    for node in NODES {
        let mut bed = Bed::new();
        let cookies = "Set-Cookie: a=b\r\n".repeat(300);
        let large = format!("X-Large: {}\r\n", "a".repeat(7 * 1024)).repeat(10);
        let answer = format!("HTTP/1.1 200 OK\r\n{cookies}{large}Content-Length: 2\r\n\r\nok");
        let (client, _server, raw, address) = raw(&mut bed, node, answer).await;
        let fields = format!("X: {}\r\n", "b".repeat(8 * 1024)).repeat(9);
        for (number, request) in [
            format!("GET /?{} HTTP/1.1\r\nHost: web\r\n\r\n", "a".repeat(60_000)),
            format!("GET / HTTP/1.1\r\nHost: web\r\n{fields}\r\n"),
            format!(
                "GET / HTTP/1.1\r\nHost: web\r\n{}\r\n",
                "y: z\r\n".repeat(900)
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let (answer, _stream) = talk(&client, address, &request, "ok").await;
            assert!(
                answer.starts_with("HTTP/1.1 200 "),
                "{number}: {}",
                &answer[..99]
            );
            assert_eq!(answer.matches("Set-Cookie: a=b\r\n").count(), 300);
            assert_eq!(answer.matches("\r\nX-Large: aaa").count(), 10);
        }
        let arrived: usize = raw.connections().iter().map(|one| one.text.len()).sum();
        assert!(arrived > 60_000 + 9 * 8192 + 900 * 6, "{arrived}");
    }
}

#[tokio::test]
async fn a_response_with_a_larger_head_than_is_read_is_said_to_have_one() {
    for node in NODES {
        let mut bed = Bed::new();
        let answer = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(140_000));
        let (client, _server, _raw, address) = raw(&mut bed, node, answer).await;
        let request = "GET / HTTP/1.1\r\nHost: web\r\n\r\n";
        let (answer, _stream) = talk(&client, address, request, "reads\n").await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert!(
            answer.contains("x-weft-reason: RESPONSE_TOO_LARGE"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn an_answer_to_http_1_0_without_a_length_ends_with_its_connection_and_says_so() {
    for node in NODES {
        let mut bed = Bed::new();
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        let (client, _server, _raw, address) = raw(&mut bed, node, answer).await;
        let request = "GET / HTTP/1.0\r\nHost: web\r\nConnection: keep-alive\r\n\r\n";
        let (answer, _stream) = talk(&client, address, request, "never").await;
        assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
        assert!(!answer.contains("keep-alive"), "{answer}");
    }
}

#[tokio::test]
async fn settings_of_http2_ahead_of_a_silent_client_are_no_greeting() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-1", "server"));
    // Its first connection is that of the silent client.
    let web = web(&server, text("hello")).await;
    let endpoints = [(web.address.ip(), Some(&server))];
    let address = bed.service_that_declares("http2", "web", web.address.port(), &endpoints);
    let settings = super::super::application(&server, async |mut stream: TcpStream| {
        let _ = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
        std::future::pending::<()>().await;
    })
    .await;
    let early = [(settings.ip(), Some(&server))];
    let silent = bed.service_that_declares("http2", "early", settings.port(), &early);
    let mut stream = client.connect(silent).await.unwrap();
    wait_until("a connection for the silent client", || {
        server.sockets.shown.lock().unwrap().len() == 1
    })
    .await;
    let request = "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    // A request for HTTP/2: it is answered for, and not carried as it is.
    wait_until("a request's own connection", || {
        server.sockets.shown.lock().unwrap().len() == 2
    })
    .await;
    let (answer, _stream) = talk(&client, address, request, "hello").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn what_has_no_body_keeps_what_is_said_of_one() {
    for node in NODES {
        let mut bed = Bed::new();
        let answer = "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"a\"\r\n\r\n";
        let (client, _server, _raw, address) = raw(&mut bed, node, answer).await;
        let mut stream = client.connect(address).await.unwrap();
        for method in ["GET", "HEAD", "GET"] {
            let request = format!("{method} / HTTP/1.1\r\nHost: web\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let head = read_until(&mut stream, "\r\n\r\n").await;
            assert!(head.starts_with("HTTP/1.1 304 "), "{head}");
            assert!(head.contains("\r\nETag: \"a\"\r\n"), "{head}");
        }
    }
}

#[tokio::test]
async fn a_body_in_chunks_arrives_whatever_the_method_is() {
    for node in NODES {
        let mut bed = Bed::new();
        let (client, _server, raw, address) = raw(&mut bed, node, OK).await;
        for method in ["GET", "DELETE", "OPTIONS", "PROPFIND", "POST"] {
            let request = format!(
                "{method} /{method} HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n\
                 5\r\nhello\r\n0\r\n\r\n"
            );
            let (answer, _stream) = talk(&client, address, &request, "ok").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{method}: {answer}");
            wait_until("the body to arrive", || {
                let mut arrived = raw.connections().into_iter();
                arrived.any(|connection| {
                    let behind = connection
                        .text
                        .split(&format!("{method} /{method} "))
                        .nth(1);
                    behind.is_some_and(|text| {
                        text.contains("\r\nTransfer-Encoding: chunked\r\n")
                            && text.contains("\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
                    })
                })
            })
            .await;
        }
    }
}

#[tokio::test]
async fn an_old_client_is_served_by_a_backend_of_http2() {
    for node in NODES {
        let mut bed = Bed::new();
        bed.node(node);
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let web = web(&server, text("hello")).await;
        let endpoints = [(web.address.ip(), Some(&server))];
        let address = bed.service_that_declares("http2", "web", web.address.port(), &endpoints);
        let request = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        let (answer, mut stream) = talk(&client, address, request, "hello").await;
        assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
        assert_eq!(web.last().version(), Version::HTTP_2);
        // What is said of the connection holds.
        if answer.contains("keep-alive") {
            stream.write_all(request.as_bytes()).await.unwrap();
            assert!(read_until(&mut stream, "hello").await.ends_with("hello"));
        } else {
            assert_eq!(read_until(&mut stream, "never").await, "");
        }
    }
}

#[tokio::test]
async fn trailers_that_are_announced_are_passed_on_both_ways() {
    for node in NODES {
        let mut bed = Bed::new();
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                      2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n";
        let (client, _server, raw, address) = raw(&mut bed, node, answer).await;
        let request = "POST / HTTP/1.1\r\nHost: web\r\nTE: trailers\r\nConnection: TE\r\n\
                       Transfer-Encoding: chunked\r\nTrailer: X-Part\r\n\r\n\
                       5\r\nhello\r\n0\r\nX-Part: 3\r\n\r\n";
        let (answer, _stream) = talk(&client, address, request, "7\r\n\r\n").await;
        assert!(
            answer
                .to_ascii_lowercase()
                .ends_with("0\r\nx-sum: 7\r\n\r\n"),
            "{answer}"
        );
        wait_until("the trailer", || {
            raw.text(0)
                .to_ascii_lowercase()
                .ends_with("0\r\nx-part: 3\r\n\r\n")
        })
        .await;
    }
}

#[tokio::test]
async fn nothing_is_added_to_the_answer_of_an_application_that_ends_behind_it() {
    let mut bed = Bed::new();
    bed.node("node-2");
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let ends_behind_answer = async |mut stream: TcpStream| {
        read_until(&mut stream, "\r\n\r\n").await;
        let _ = stream.write_all(OK.as_bytes()).await;
    };
    let address = super::super::application(&server, ends_behind_answer).await;
    bed.service_that_declares(
        "http",
        "web",
        address.port(),
        &[(address.ip(), Some(&server))],
    );
    for _ in 0..50 {
        let (answer, _stream) = talk(&client, address, REQUEST, "ok").await;
        assert_eq!(answer, OK);
    }
}

#[tokio::test]
async fn a_target_that_is_no_uri_arrives_as_it_was_sent() {
    let targets: [&[u8]; 5] = [
        b"/<a>/\"b\"/`c`/{d}|\\^",
        b"/?q={\"a\":\"<b>\"}",
        "/sch\u{f6}n?q=\u{f6}".as_bytes(),
        b"/sch\xf6n?\xff",
        b"http://web/<a>?\"",
    ];
    for node in NODES {
        let mut bed = Bed::new();
        let (client, _server, raw, service) = raw(&mut bed, node, OK).await;
        for (number, to) in [service, raw.address].into_iter().enumerate() {
            for target in targets {
                // Another request before and behind: each has its own.
                let head = b" HTTP/1.1\r\nHost: web\r\n\r\n";
                let other = [&b"GET /other"[..], head].concat();
                let odd = [b"GET ", target, head].concat();
                let all = [&other[..], &odd, &other].concat();
                let mut stream = client.connect(to).await.unwrap();
                stream.write_all(&all).await.unwrap();
                let mut answers = String::new();
                while answers.matches("HTTP/1.1 200 ").count() < 3 {
                    let more = read_until(&mut stream, "ok").await;
                    assert!(!more.is_empty(), "{node} {to}: {answers}");
                    answers += &more;
                }
                let line = [b"GET ", target, b" HTTP/1.1\r\n"].concat();
                let line = String::from_utf8_lossy(&line).into_owned();
                let arrived = raw.connections();
                let arrived = arrived.iter().map(|one| one.text.matches(&line).count());
                let arrived: usize = arrived.sum();
                assert_eq!(arrived, number + 1, "{node} {to}: {line}");
            }
            let arrived = raw.connections();
            let lines = arrived.iter().flat_map(|one| one.text.lines());
            let others = lines.filter(|line| *line == "GET /other HTTP/1.1").count();
            assert_eq!(others, 2 * targets.len() * (number + 1), "{node}");
        }
    }
}

#[tokio::test]
async fn a_path_that_a_rule_changes_is_sent_encoded() {
    let mut bed = Bed::new();
    let (client, _server, raw, service) = raw(&mut bed, "node-2", OK).await;
    let mut changing = below("/a", rule(vec![backend("web", 1)]));
    changing.filters = vec![Filter::Rewrite(Rewrite {
        hostname: None,
        path: Some(PathModifier::Prefix("/b".into())),
    })];
    route(&bed, RouteKind::Http, "web", vec![changing]);
    let request = "GET /a/<x>?\" HTTP/1.1\r\nHost: web\r\n\r\n";
    let (answer, _stream) = talk(&client, service, request, "ok").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let arrived = raw.text(0);
    assert!(
        arrived.starts_with("GET /b/%3Cx%3E?%22 HTTP/1.1\r\n"),
        "{arrived}"
    );
}

#[tokio::test]
async fn chunks_say_where_a_response_ends_whatever_its_length_does() {
    for node in NODES {
        for length in [1, 2, 99] {
            let mut bed = Bed::new();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n\
                 2\r\nok\r\n0\r\n\r\n"
            );
            let (client, _server, raw, service) = raw(&mut bed, node, answer).await;
            for to in [service, raw.address] {
                let (answer, mut stream) = talk(&client, to, REQUEST, "0\r\n\r\n").await;
                assert!(answer.ends_with("\r\n\r\n2\r\nok\r\n0\r\n\r\n"), "{answer}");
                assert!(!answer.contains("Content-Length"), "{answer}");
                // The next request gets its own response.
                stream.write_all(REQUEST.as_bytes()).await.unwrap();
                let answer = read_until(&mut stream, "0\r\n\r\n").await;
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn http10_asks_for_no_other_protocol() {
    for node in NODES {
        let mut bed = Bed::new();
        let (client, _server, raw, service) = raw(&mut bed, node, OK).await;
        for to in [service, raw.address] {
            let request =
                "GET / HTTP/1.0\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            let (answer, _stream) = talk(&client, to, request, "never").await;
            assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
        }
        for connection in raw.connections() {
            let text = connection.text.to_ascii_lowercase();
            assert!(!text.contains("upgrade"), "{text}");
        }
    }
}
