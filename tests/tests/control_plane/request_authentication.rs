//! RequestAuthentications of a real API server: what its schema refuses, what agents are told, and
//! what the status says.

use serde_json::{Value, json};
use weft_proto::v1::{AuthorizationAction, resource};
use weft_tests::wait_for;

use crate::bed::{Bed, LIMIT};

const KEYS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"}]}"#;

fn authentication(name: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "RequestAuthentication",
        "metadata": { "name": name, "namespace": "shop" }, "spec": spec,
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_about_tokens_is_told_to_the_agent_and_missing_keys_to_its_author() {
    let bed = Bed::new();
    let control_plane = bed.start("a");
    bed.namespace("shop", &json!({ "weft.dev/mesh": "enabled" }));
    let token = bed.agent_token("node-1");
    let agent = bed.agent(&control_plane, "node-1", &token).await;
    let mut stream = agent.subscribe().await.unwrap();
    stream.synchronize().await;
    let spec = json!({ "providers": [
        { "issuer": "https://one.example", "jwks": KEYS },
        // Nobody is asked over plain http.
        { "issuer": "https://two.example", "jwksUri": "http://two.example/keys" },
    ] });
    bed.kubectl().apply(&authentication("jwt", &spec)).unwrap();
    bed.pod("shop", "web", "node-1", "default");
    let told = stream
        .changed(|resource| resource.name.contains("jwt"))
        .await;
    assert_eq!(told.name, "shop/RequestAuthentication:jwt");
    let Some(resource::Resource::AuthorizationPolicy(content)) = told.resource else {
        panic!("no policy")
    };
    assert_eq!(content.action(), AuthorizationAction::Authenticate);
    let providers = content.authentication.unwrap().providers;
    let keys: Vec<_> = providers
        .iter()
        .map(|provider| provider.keys.len())
        .collect();
    assert_eq!(keys, [1, 0]);
    let get = ["get", "reqauth", "jwt", "-n", "shop"];
    wait_for("its status", LIMIT, || {
        let object = bed.kubectl().json(&get);
        let status = object.map_err(|error| error.to_string())?["status"].take();
        let message = status["conditions"][0]["message"]
            .as_str()
            .unwrap_or_default();
        match status["workloads"] == 1 && message.contains("--jwks-allow-http") {
            true => Ok(()),
            false => Err(status.to_string()),
        }
    })
    .unwrap();
}

#[test]
fn an_object_about_tokens_that_can_not_be_meant_is_refused_with_its_field() {
    let bed = Bed::new();
    bed.namespace("shop", &json!({}));
    let provider = || json!({ "issuer": "https://one.example", "jwks": KEYS });
    let labels = json!({ "matchLabels": { "app": "web" } });
    let targets = json!([{ "kind": "Service", "name": "web" }]);
    for (spec, words) in [
        (json!({}), "providers"),
        (json!({ "providers": [] }), "spec.providers"),
        (json!({ "providers": [{ "jwks": KEYS }] }), "issuer"),
        (
            json!({ "providers": [provider()], "ports": [70000] }),
            "spec.ports[0]",
        ),
        (
            json!({ "providers": [provider()], "selector": labels, "targetRefs": targets }),
            "not by both",
        ),
    ] {
        let refused = bed
            .kubectl()
            .apply(&authentication("bad", &spec))
            .unwrap_err();
        let refused = refused.to_string();
        assert!(refused.contains(words), "{spec}: {refused}");
    }
}
