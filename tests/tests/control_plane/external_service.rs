//! ExternalServices of a cluster: taken, refused, told to agents.

use serde_json::{Value, json};
use weft_proto::v1::resource::Resource;
use weft_tests::wait_for;

use crate::bed::{Bed, LIMIT};

fn service(namespace: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "ExternalService",
        "metadata": { "name": "pay", "namespace": namespace }, "spec": spec,
    })
    .to_string()
}

fn ports(protocol: &str) -> Value {
    json!([{ "number": 443, "protocol": protocol }])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_service_is_checked_by_its_schema() {
    let bed = Bed::new();
    bed.namespace("shop", &json!({}));
    for (spec, why) in [
        (json!({ "hosts": [], "ports": ports("TLS") }), "spec.hosts"),
        (json!({ "hosts": ["pay.example"] }), "spec.ports"),
        (
            json!({ "hosts": ["pay.example"], "ports": ports("UDP") }),
            "supported values",
        ),
        (
            json!({ "hosts": ["pay.example"], "ports": ports("TCP") }),
            "needs spec.addresses",
        ),
        (
            json!({ "hosts": ["pay.example"], "ports": [{ "number": 0, "protocol": "TLS" }] }),
            "spec.ports[0].number",
        ),
    ] {
        let error = bed.kubectl().apply(&service("shop", &spec)).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_service_is_told_to_agents_and_says_so() {
    let bed = Bed::new();
    let control_plane = bed.start("a");
    bed.namespace("shop", &json!({ "weft.dev/mesh": "enabled" }));
    let good = json!({ "hosts": ["pay.example"], "ports": ports("TLS") });
    for namespace in ["shop", "weft-system"] {
        bed.kubectl().apply(&service(namespace, &good)).unwrap();
    }
    // Columns: name, hosts, TLS (none here), accepted, age.
    let table = ["get", "extsvc", "-n", "shop", "--no-headers"];
    bed.kubectl()
        .wait("the table", LIMIT, &table, |text| {
            text.contains("pay.example") && text.split_whitespace().any(|word| word == "True")
        })
        .unwrap();
    for name in ["shop/pay", "weft-system/pay"] {
        wait_for("the resource", LIMIT, || {
            control_plane
                .workload(name)
                .ok_or_else(|| control_plane.log())
        })
        .unwrap();
    }
    let token = bed.agent_token("node-1");
    let agent = bed.agent(&control_plane, "node-1", &token).await;
    let all = agent.subscribe().await.unwrap().synchronize().await;
    let externals = all.into_iter().filter_map(|one| match one.resource {
        Some(Resource::ExternalService(service)) => Some((service.namespace, service.mesh_wide)),
        _ => None,
    });
    let externals: Vec<_> = externals.collect();
    let wanted = [("shop".to_owned(), false), ("weft-system".to_owned(), true)];
    assert_eq!(externals, wanted, "only the mesh's own are for everybody");

    // What only the control plane can tell is in the status where no webhook is.
    let bad = json!({ "hosts": ["*"], "ports": ports("TLS") });
    bed.kubectl().apply(&service("shop", &bad)).unwrap();
    wait_until_refused(&bed, 2);
    // Its last good content stays in force.
    assert!(control_plane.workload("shop/pay").is_some());
}

/// Waits until the status of the one in shop says that this generation isn't followed.
fn wait_until_refused(bed: &Bed, generation: i64) {
    let get = ["get", "extsvc", "pay", "-n", "shop"];
    wait_for("the status", LIMIT, || {
        let object = bed
            .kubectl()
            .json(&get)
            .map_err(|error| error.to_string())?;
        let condition = &object["status"]["conditions"][0];
        let current = condition["observedGeneration"] == generation;
        match current && condition["status"] == "False" {
            true => Ok(()),
            false => Err(object.to_string()),
        }
    })
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespaces_egress_mode_reaches_its_workloads() {
    let bed = Bed::new();
    let control_plane = bed.start("a");
    bed.namespace("shop", &json!({ "weft.dev/mesh": "enabled" }));
    let uid = bed.pod("shop", "web", "node-1", "default");
    control_plane.wait_for_workload(&uid, "egress_mode", "AllowAny");
    let annotate = |value: &str| {
        let annotation = format!("weft.dev/egress-mode={value}");
        let change = ["annotate", "--overwrite", "namespace", "shop", &annotation];
        bed.kubectl().run(&change).unwrap();
    };
    annotate("RegisteredOnly");
    control_plane.wait_for_workload(&uid, "egress_mode", "RegisteredOnly");
    annotate("AllowAny");
    control_plane.wait_for_workload(&uid, "egress_mode", "AllowAny");
    // Whoever wrote something didn't mean "anything".
    annotate("some");
    control_plane.wait_for_workload(&uid, "egress_mode", "RegisteredOnly");
}
