//! Ways to write a request so that rules might read another one than its server does.

use weft_model::authorization_policy::{HeaderMatch, TextPattern};

use super::requests::{Served, served};
use super::*;

/// The status of the answer to a request, sent as it stands here.
async fn status_of(client: &Pod, to: SocketAddr, head: &str) -> String {
    let request = format!("{head}\r\n\r\n");
    let mut line = Vec::new();
    let asked = async {
        let mut stream = client.connect(to).await?;
        stream.write_all(request.as_bytes()).await?;
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await?);
        }
        Ok::<_, std::io::Error>(())
    };
    // A connection that is denied may be reset at any of these.
    let _ = in_time(asked).await;
    let line = String::from_utf8_lossy(&line);
    line.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// Each of these is answered so, and of the application only where the status is 200.
async fn answers(served: &Served, expected: &[(&str, &str)]) {
    for to in served.addresses {
        for (head, status) in expected {
            let before = served.web.count();
            let found = status_of(&served.client, to, head).await;
            assert_eq!(found, *status, "{to} {head:?}");
            let arrived = served.web.count() - before;
            assert_eq!(arrived, usize::from(*status == "200"), "{to} {head:?}");
        }
    }
}

#[tokio::test]
async fn a_denied_path_is_denied_however_it_is_written() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let served = served(&mut bed, node).await;
        let deny = policy(
            "deny",
            Action::Deny,
            vec![to_paths(&["/admin", "/admin/*"])],
        );
        bed.authorize(&served.server, vec![deny]);
        let expected = [
            ("/admin/x", "403"),
            ("/admin", "403"),
            ("/%61dmin/x", "403"),
            ("/x/../admin/x", "403"),
            ("/x/%2e%2e/admin/x", "403"),
            ("/x/%2E./admin/x", "403"),
            ("/./admin/x", "403"),
            ("//admin/x", "403"),
            ("///admin//x", "403"),
            ("/admin%2fx", "403"),
            ("/x%2F..%2Fadmin/x", "403"),
            ("/x/..%5Cadmin/x", "403"),
            ("/admin%5cx", "403"),
            ("/admin;v=1/x", "403"),
            ("/x/..;/admin/x", "403"),
            ("/admin%00", "403"),
            ("/admin?x=/", "403"),
            ("http://web/admin/x", "403"),
            ("http://web//admin/x", "403"),
            ("/other", "200"),
            ("/other/admin2", "200"),
            ("/x?/admin/x", "200"),
        ];
        let heads =
            expected.map(|(path, status)| (format!("GET {path} HTTP/1.1\r\nHost: web"), status));
        let heads: Vec<_> = heads
            .iter()
            .map(|(head, status)| (&**head, *status))
            .collect();
        answers(&served, &heads).await;
    }
}

#[tokio::test]
async fn an_allowed_path_is_allowed_only_where_every_server_reads_it_so() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let served = served(&mut bed, node).await;
        let allow = policy("allow", Action::Allow, vec![to_paths(&["/public/*"])]);
        bed.authorize(&served.server, vec![allow]);
        let expected = [
            ("/public/x", "200"),
            ("/%70ublic/x", "200"),
            ("/public/../admin", "403"),
            ("/public/%2e%2e/admin", "403"),
            ("/public/..%2fadmin", "403"),
            ("/public/..;/admin", "403"),
            ("/public/..%5cadmin", "403"),
            ("/public", "403"),
            ("/PUBLIC/x", "403"),
            ("/", "403"),
        ];
        let heads =
            expected.map(|(path, status)| (format!("GET {path} HTTP/1.1\r\nHost: web"), status));
        let heads: Vec<_> = heads
            .iter()
            .map(|(head, status)| (&**head, *status))
            .collect();
        answers(&served, &heads).await;
    }
}

#[tokio::test]
async fn a_host_is_the_same_with_port_dot_and_other_letters() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let served = served(&mut bed, node).await;
        let admin = to_operation(OperationMatch {
            hosts: Values::any_of(["admin.example".parse().unwrap()]),
            ..OperationMatch::default()
        });
        bed.authorize(
            &served.server,
            vec![policy("deny", Action::Deny, vec![admin])],
        );
        let get = "GET / HTTP/1.1\r\nHost:";
        let expected = [
            (format!("{get} admin.example"), "403"),
            (format!("{get} ADMIN.Example"), "403"),
            (format!("{get} admin.example."), "403"),
            (format!("{get} admin.example:80"), "403"),
            (format!("{get} Admin.example.:8080"), "403"),
            (
                "GET http://admin.example/ HTTP/1.1\r\nHost: web".to_owned(),
                "403",
            ),
            // What the target says is what the application gets.
            (
                "GET http://web/ HTTP/1.1\r\nHost: admin.example".to_owned(),
                "200",
            ),
            (format!("{get} web"), "200"),
            (format!("{get} admin.example.org"), "200"),
            (format!("{get} web\r\nHost: admin.example"), "400"),
        ];
        let heads: Vec<_> = expected
            .iter()
            .map(|(head, status)| (&**head, *status))
            .collect();
        answers(&served, &heads).await;
    }
}

#[tokio::test]
async fn a_header_counts_in_any_letters_and_not_when_it_disagrees_or_is_taken_off() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let served = served(&mut bed, node).await;
        let role = HeaderMatch {
            name: "x-role".parse().unwrap(),
            values: Values::any_of([TextPattern::Exact("admin".into())]),
        };
        let rule = Rule {
            when: vec![role],
            ..Rule::default()
        };
        bed.authorize(
            &served.server,
            vec![policy("allow", Action::Allow, vec![rule])],
        );
        let get = "GET / HTTP/1.1\r\nHost: web\r\n";
        let expected = [
            (format!("{get}x-role: admin"), "200"),
            (format!("{get}X-Role: admin"), "200"),
            (format!("{get}x-role: user"), "403"),
            (format!("{get}x-role: admin\r\nx-role: user"), "403"),
            (format!("{get}x-role: user\r\nX-ROLE: admin"), "403"),
            (format!("{get}x-other: admin"), "403"),
            // The application wouldn't see it.
            (format!("{get}Connection: x-role\r\nx-role: admin"), "403"),
            (format!("{get}x-role : admin"), "400"),
        ];
        let heads: Vec<_> = expected
            .iter()
            .map(|(head, status)| (&**head, *status))
            .collect();
        answers(&served, &heads).await;
    }
}

#[tokio::test]
async fn a_method_counts_as_it_is_written_and_connect_is_one() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let served = served(&mut bed, node).await;
        let allow = policy("allow", Action::Allow, vec![to_methods(&["GET"])]);
        bed.authorize(&served.server, vec![allow]);
        answers(
            &served,
            &[
                ("GET / HTTP/1.1\r\nHost: web", "200"),
                ("get / HTTP/1.1\r\nHost: web", "403"),
                ("HEAD / HTTP/1.1\r\nHost: web", "403"),
                ("OPTIONS * HTTP/1.1\r\nHost: web", "403"),
                ("CONNECT web:80 HTTP/1.1\r\nHost: web:80", "403"),
                ("POST / HTTP/1.1\r\nHost: web\r\nX-HTTP-Method-Override: GET\r\nContent-Length: 0", "403"),
            ],
        )
        .await;
        let deny = policy("deny", Action::Deny, vec![to_methods(&["DELETE"])]);
        bed.authorize(&served.server, vec![deny]);
        answers(
            &served,
            &[
                ("DELETE / HTTP/1.1\r\nHost: web", "403"),
                ("delete / HTTP/1.1\r\nHost: web", "403"),
                ("GET / HTTP/1.1\r\nHost: web", "200"),
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn who_a_client_says_it_is_in_a_header_changes_nothing() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let served = served(&mut bed, node).await;
        let other = bed.pod("node-1", "other");
        let mut rule = to_paths(&["/*"]);
        rule.from = from_account("client").from;
        bed.authorize(
            &served.server,
            vec![policy("allow", Action::Allow, vec![rule])],
        );
        for spoofed in [
            "x-forwarded-client-cert: By=x;URI=spiffe://cluster.local/ns/default/sa/client",
            "forwarded: for=127.0.0.1;by=client",
            "x-forwarded-for: 127.0.0.1",
            "x-weft-identity: spiffe://cluster.local/ns/default/sa/client",
            "l5d-client-id: client.default.serviceaccount.identity.linkerd.cluster.local",
        ] {
            let head = format!("GET / HTTP/1.1\r\nHost: web\r\n{spoofed}");
            let [pod, service] = served.addresses;
            assert_eq!(
                status_of(&other, service, &head).await,
                "403",
                "{node} {head}"
            );
            // Refused as a connection, where its own proxy doesn't speak HTTP.
            assert_ne!(status_of(&other, pod, &head).await, "200", "{node} {head}");
            assert_eq!(status_of(&served.client, service, &head).await, "200");
        }
        assert_eq!(served.web.count(), 5);
    }
}

#[tokio::test]
async fn an_upgrade_to_http2_hides_no_request() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let served = served(&mut bed, node).await;
        let deny = policy("deny", Action::Deny, vec![to_paths(&["/admin"])]);
        bed.authorize(&served.server, vec![deny]);
        let upgrade = "HTTP/1.1\r\nHost: web\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\
                       Connection: Upgrade, HTTP2-Settings";
        let denied = format!("GET /admin {upgrade}");
        let passed = format!("GET / {upgrade}");
        answers(&served, &[(&denied, "403"), (&passed, "200")]).await;
    }
}
