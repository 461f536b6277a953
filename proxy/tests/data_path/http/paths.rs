//! Paths that servers read in more than one way: no rule is walked around by them, and where no
//! rule is about paths they arrive as they were sent.

use std::sync::Arc;

use weft_model::route::filter::Redirect;
use weft_model::route::path::PathNormalization;
use weft_model::workload::Workload;

use super::raw_server::{OK, RawServer, raw, talk};
use super::*;

/// The status of the answer to a request for a path.
async fn status_of(client: &Pod, to: SocketAddr, line: &str) -> (String, String) {
    let request = format!("{line} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n");
    let (answer, _stream) = talk(client, to, request, "never").await;
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    (status, answer)
}

/// A client whose paths are normalized so, and a server with a rule of its own for `/admin`,
/// which redirects.
async fn guarded(bed: &mut Bed, by: PathNormalization) -> (Pod, Pod, RawServer, SocketAddr) {
    let (client, server, raw, address) = raw(bed, "node-2", OK).await;
    bed.tell(&Change::Workload(Workload {
        path_normalization: by,
        ..Workload::clone(&client.workload)
    }));
    let mut admin = below("/admin", rule(Vec::new()));
    admin.filters = vec![Filter::Redirect(Redirect {
        scheme: None,
        hostname: Some("elsewhere".into()),
        path: None,
        port: None,
        status: StatusCode::FOUND,
    })];
    let rules = vec![admin, rule(vec![backend("web", 1)])];
    route(bed, RouteKind::Http, "web", rules);
    (client, server, raw, address)
}

#[tokio::test]
async fn a_rule_for_a_path_is_not_walked_around() {
    let mut bed = Bed::new();
    let (client, _server, raw, address) = guarded(&mut bed, PathNormalization::Strict).await;
    for (line, status) in [
        ("GET /admin/x", "302"),
        ("GET /%61dmin/x", "302"),
        ("GET /admin//x", "302"),
        ("\r\nGET /admin/x", "302"),
        ("get /admin/x", "302"),
        ("GET http://web/admin/x", "302"),
        ("GET /x/../admin/x", "400"),
        ("GET //admin/x", "400"),
        ("GET /./admin/x", "400"),
        ("GET /x/%2e%2e/admin/x", "400"),
        ("GET /x/..%2Fadmin", "400"),
        ("GET /admin%2fx", "400"),
        ("GET /admin%5Cx", "400"),
        ("GET /x/..\\admin", "400"),
        ("GET /x/..;/admin", "400"),
        ("GET /admin;v=1/x", "400"),
        ("GET /admin%00", "400"),
        ("GET http://web//admin", "400"),
        ("GET  /admin/x", "400"),
        (" GET /admin/x", "400"),
        ("GET /x/%61//b%2Fc/./d;e?y=/../admin", "200"),
    ] {
        let (found, answer) = status_of(&client, address, line).await;
        assert_eq!(found, status, "{line:?}: {answer}");
    }
    let (_, answer) = status_of(&client, address, "GET //admin").await;
    assert!(
        answer.contains("\r\nx-weft-reason: AMBIGUOUS_PATH\r\n"),
        "{answer}"
    );
    // What is passed on is passed on as it came.
    let passed = "GET /x/%61//b%2Fc/./d;e?y=/../admin HTTP/1.1\r\n";
    assert!(raw.text(0).starts_with(passed), "{}", raw.text(0));
    assert_eq!(raw.connections().len(), 1);
}

#[tokio::test]
async fn a_path_that_is_normalized_arrives_as_it_was_compared() {
    use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes, None};
    for (by, path, status, arrives) in [
        (None, "//admin?q=/..", "200", "//admin?q=/.."),
        (None, "/x/../admin", "200", "/x/../admin"),
        (Base, "/x/../admin", "302", ""),
        (Base, "//admin/./x?q=//", "200", "//admin/x?q=//"),
        (Base, "/x%", "400", ""),
        (MergeSlashes, "//admin", "302", ""),
        (
            MergeSlashes,
            "/a//b%2F..%2Fadmin",
            "200",
            "/a/b%2F..%2Fadmin",
        ),
        (DecodeAndMergeSlashes, "/b%2F..%2Fadmin", "302", ""),
        (DecodeAndMergeSlashes, "/b%2f%5Cc", "200", "/b/c"),
    ] {
        let mut bed = Bed::new();
        let (client, _server, raw, address) = guarded(&mut bed, by).await;
        let (found, answer) = status_of(&client, address, &format!("GET {path}")).await;
        assert_eq!(found, status, "{path:?} by {by}: {answer}");
        match arrives {
            "" => assert!(raw.connections().is_empty(), "{path} by {by}"),
            arrives => {
                let head = raw.text(0);
                let line = format!("GET {arrives} HTTP/1.1\r\n");
                assert!(head.starts_with(&line), "{path} by {by}: {head}");
            }
        }
    }
}

#[tokio::test]
async fn where_no_rule_is_about_paths_every_path_arrives_as_it_was_sent() {
    for has_route in [false, true] {
        let mut bed = Bed::new();
        let (client, _server, raw, address) = raw(&mut bed, "node-2", OK).await;
        if has_route {
            let rules = vec![rule(vec![backend("web", 1)])];
            route(&bed, RouteKind::Http, "web", rules);
        }
        let paths: Arc<[&str]> = Arc::new([
            "//bucket//key",
            "/api/v4/projects/group%2Fproject",
            "/@scope%2fname",
            "/a/../b/./c",
            "/a\\b;v=1",
            "/100%",
        ]);
        for path in paths.iter() {
            let (status, answer) = status_of(&client, address, &format!("GET {path}")).await;
            assert_eq!(status, "200", "{path}: {answer}");
        }
        let arrived: Vec<_> = raw.connections().into_iter().collect();
        assert!(!arrived.is_empty());
        let all: String = (0..arrived.len()).map(|number| raw.text(number)).collect();
        for path in paths.iter() {
            assert!(
                all.contains(&format!("GET {path} HTTP/1.1\r\n")),
                "{path}: {all}"
            );
        }
    }
}
