//! Routes of the Gateway API: what their status says of Services as parents.

use std::path::Path;

use serde_json::{Value, json};
use weft_tests::cluster::Binaries;
use weft_tests::wait_for;

use crate::bed::{Bed, LIMIT};

fn parents(bed: &Bed) -> Result<Vec<Value>, String> {
    let get = ["get", "httproute", "web", "-n", "shop"];
    let route = bed.kubectl().json(&get);
    let route = route.map_err(|error| error.to_string())?;
    let parents = route.pointer("/status/parents").and_then(Value::as_array);
    parents.cloned().ok_or_else(|| route.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_has_no_effect_says_so_whenever_the_gateway_api_was_installed() {
    let bed = Bed::new();
    let control_plane = bed.start("a");
    bed.namespace("shop", &json!({}));
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let crds = Binaries::gateway_api_crds(workspace).unwrap();
    let experimental = crds.join("experimental");
    let install = [
        "apply",
        "--server-side",
        "-k",
        experimental.to_str().unwrap(),
    ];
    bed.kubectl().run(&install).unwrap();
    let route = |port: u16| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": { "name": "web", "namespace": "shop" },
            "spec": {
                "parentRefs": [
                    { "group": "", "kind": "Service", "name": "web", "port": port },
                    { "name": "edge" },
                ],
                "rules": [{ "backendRefs": [{ "name": "web", "port": 80 }] }],
            },
        })
        .to_string()
    };
    wait_for("the kind to be served", LIMIT, || {
        let applied = bed.kubectl().apply(&route(80));
        applied.map_err(|error| error.to_string())
    })
    .unwrap();
    // Also of what the route has become since.
    for port in [80, 81] {
        bed.kubectl().apply(&route(port)).unwrap();
        wait_for("the route's status", LIMIT, || {
            match parents(&bed)?.as_slice() {
                [parent] if parent["parentRef"]["port"] == port => {
                    assert_eq!(parent["controllerName"], "weft.dev/mesh");
                    let accepted = &parent["conditions"][0];
                    assert_eq!(accepted["type"], "Accepted");
                    assert_eq!(accepted["status"], "False");
                    Ok(())
                }
                others => Err(format!("{others:?}; {}", control_plane.log())),
            }
        })
        .unwrap();
    }
}
