//! What real clients send, and must pass.

use super::{inspect, with_fields, with_request_line};

#[test]
fn ordinary_requests_pass() {
    assert_eq!(with_fields(""), Ok(1));
    assert_eq!(with_fields("Content-Length: 0\r\n"), Ok(1));
    assert_eq!(
        with_fields("accept:*/*\r\nX-Empty:\r\nX-Spaced: \t a b \t\r\n"),
        Ok(1)
    );
    assert_eq!(with_request_line("OPTIONS * HTTP/1.1"), Ok(1));
    assert_eq!(with_request_line("GET /a?b=c&d=%20 HTTP/1.0"), Ok(1));
    assert_eq!(with_request_line("CONNECT shop:8080 HTTP/1.1"), Ok(1));
    assert_eq!(inspect(b"GET / HTTP/1.0\r\n\r\n"), Ok(1));
    assert_eq!(inspect(b"\r\n\r\nGET / HTTP/1.0\r\n\r\n"), Ok(1));
}

#[test]
fn what_clients_in_use_send_passes() {
    let requests = [
        // curl --http2 -d, and Java's HttpClient: an upgrade is asked for, with a body.
        "POST / HTTP/1.1\r\nHost: shop:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\
         Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nContent-Length: 5\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\nhello",
        // Docker's exec.
        "POST /v1.43/exec/0123/start HTTP/1.1\r\nHost: api.moby.localhost\r\n\
         Connection: Upgrade\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\
         Upgrade: tcp\r\n\r\n{}",
        // Apache HttpClient 5.4.
        "GET / HTTP/1.1\r\nAccept-Encoding: gzip\r\nHost: shop\r\n\
         Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n\r\n",
        // A large upload of curl's.
        "PUT /file HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\
         Expect: 100-continue\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        // Clients of Elasticsearch: GET with a body.
        "GET /_search HTTP/1.1\r\nHost: search\r\nContent-Length: 2\r\n\r\n{}",
        // Health checks of load balancers, and ab.
        "GET /healthz HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\nHost: shop\r\nUser-Agent: ApacheBench/2.3\r\n\r\n",
        // A URI without an authority.
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        // Through a forward proxy; urllib3 names the default port, too.
        "GET http://example.test/x HTTP/1.1\r\nHost: example.test\r\n\
         Proxy-Connection: Keep-Alive\r\n\r\n",
        "GET http://example.test:80/x HTTP/1.1\r\nHost: example.test\r\n\r\n",
        "OPTIONS http://example.test HTTP/1.1\r\nHost: example.test\r\n\r\n",
        // Tunnels of curl, of Python's http.client, and of Node's agents.
        "CONNECT example.test:443 HTTP/1.1\r\nHost: example.test:443\r\n\r\n",
        "CONNECT example.test:443 HTTP/1.0\r\n\r\n",
        "CONNECT example.test:443 HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n\r\n",
        // WebSocket.
        "GET /chat HTTP/1.1\r\nHost: shop\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        // S3's upload with signed chunks: its own framing is within the body.
        "PUT /bucket/key HTTP/1.1\r\nHost: s3\r\nContent-Encoding: aws-chunked\r\n\
         X-Amz-Decoded-Content-Length: 5\r\nContent-Length: 31\r\n\r\n\
         5;chunk-signature=ad80\r\nhello\r\n",
        // gRPC over HTTP/1.1 with trailers; values of any bytes but control characters.
        "POST /shop.Cart/Add HTTP/1.1\r\nHost: shop\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-Checksum\r\n\r\n3;name=\"a b\"\r\nabc\r\n0\r\nX-Checksum: 900150983cd24fb0\r\n\r\n",
        "GET /caf\u{e9} HTTP/1.1\r\nHost: my_shop.example\r\nCookie: a=\"b,c\"; d={e}\r\n\
         X_Request_Id: 1\r\nX-Name: caf\u{e9}\r\nReferer:\r\n\r\n",
        // Old browsers sent a CRLF behind a body that no length counts.
        "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello\r\nGET / HTTP/1.1\r\nHost: shop\r\n\r\n",
        "get / HTTP/1.1\r\nHost: [fd00::1]:8080\r\n\r\n",
    ];
    for request in requests {
        let requests = request.matches(" HTTP/1.").count() as u64;
        assert_eq!(inspect(request.as_bytes()), Ok(requests), "{request}");
    }
}

#[test]
fn requests_may_follow_each_other_without_waiting() {
    let get = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nbody";
    assert_eq!(
        inspect([get, post].concat().repeat(100).as_bytes()),
        Ok(200)
    );
}
