//! An API server alone: what tests of a control plane can rely on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// How long it takes is worth knowing.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weft_provision::go::Kit;
use weft_tests::cluster::{ApiServer, ApiServerOptions, Binaries, Kubectl};

const LIMIT: Duration = Duration::from_secs(30);

fn binaries() -> Binaries {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    Binaries::api_server(workspace).unwrap()
}

fn review(kubectl: &Kubectl, token: &str, audience: &str) -> Value {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "metadata": {"name": "review"},
        "spec": {"token": token, "audiences": [audience]},
    });
    let answer = kubectl.run_with(&review.to_string(), &["create", "-o", "json", "-f", "-"]);
    serde_json::from_str::<Value>(&answer.unwrap()).unwrap()["status"].take()
}

#[test]
fn a_token_is_good_for_its_audience_and_for_no_other() {
    let begin = Instant::now();
    let server = ApiServer::start(&binaries()).unwrap();
    println!("ready after {:.1} s", begin.elapsed().as_secs_f32());
    let kubectl = server.kubectl();
    kubectl.run(&["create", "serviceaccount", "web"]).unwrap();
    let token = kubectl
        .run(&["create", "token", "web", "--audience=weft"])
        .unwrap();
    let token = token.trim();

    let status = review(kubectl, token, "weft");
    assert_eq!(status["authenticated"], true, "{status}");
    assert_eq!(status["audiences"], json!(["weft"]), "{status}");
    assert_eq!(
        status["user"]["username"],
        "system:serviceaccount:default:web"
    );

    let status = review(kubectl, token, "somebody-else");
    assert_ne!(status["authenticated"], true, "{status}");
    let status = review(kubectl, "not.a.token", "weft");
    assert_ne!(status["authenticated"], true, "{status}");
}

#[test]
fn who_one_is_decides_what_one_may_do() {
    let server = ApiServer::start(&binaries()).unwrap();
    let admin = server.kubectl();
    let stranger = server.kubectl_as("stranger", &["nobody"]).unwrap();
    let refusal = stranger.run(&["get", "pods"]).unwrap_err().to_string();
    assert!(refusal.contains("Forbidden"), "{refusal}");

    admin.run(&["create", "serviceaccount", "web"]).unwrap();
    for command in [
        "create clusterrole pods --verb=list --resource=pods",
        "create clusterrolebinding web --clusterrole=pods --serviceaccount=default:web",
    ] {
        let arguments: Vec<_> = command.split(' ').collect();
        admin.run(&arguments).unwrap();
    }
    let token = admin.run(&["create", "token", "web"]).unwrap();
    let web = server.kubectl_with_token("web", token.trim()).unwrap();
    // The API server hears of the binding from its own watch.
    let list = ["get", "pods", "-o", "name"];
    web.wait("the list of pods", LIMIT, &list, str::is_empty)
        .unwrap();
    let refusal = web.run(&["create", "namespace", "mine"]).unwrap_err();
    assert!(refusal.to_string().contains("Forbidden"), "{refusal}");
}

#[test]
fn with_controllers_namespaces_come_with_a_service_account_and_go() {
    let mut binaries = binaries();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    binaries.add_kit(workspace, Kit::ControllerManager).unwrap();
    let options = ApiServerOptions {
        controllers: true,
        ..ApiServerOptions::default()
    };
    let server = ApiServer::start_with(&binaries, &options).unwrap();
    let kubectl = server.kubectl();
    kubectl.run(&["create", "namespace", "shop"]).unwrap();
    kubectl
        .wait(
            "the default service account",
            LIMIT,
            &["get", "serviceaccounts", "-n", "shop", "-o", "name"],
            |names| names.contains("serviceaccount/default"),
        )
        .unwrap();
    kubectl
        .run(&["delete", "namespace", "shop", "--timeout=30s"])
        .unwrap();
}

#[test]
fn nothing_is_left_of_it() {
    let server = ApiServer::start(&binaries()).unwrap();
    let directory = server.directory().to_owned();
    let processes: Vec<_> = server.processes().map(|process| process.pid()).collect();
    assert!(directory.exists());
    drop(server);
    assert!(!directory.exists());
    for process in processes {
        assert!(!Path::new(&format!("/proc/{process}")).exists());
    }
}
