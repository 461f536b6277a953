//! What comes from the API server, and what doesn't for a while.

use std::time::Duration;

use serde_json::json;
use weft_tests::cluster::Endpoint;
use weft_tests::wait_for;

use crate::bed::{Bed, LIMIT};
use crate::forwarder::Forwarder;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_the_api_server_is_away_and_nothing_is_told_twice() {
    let bed = Bed::new();
    let direct = bed.server.endpoint();
    let address = direct.url.strip_prefix("https://").unwrap();
    let forwarder = Forwarder::start(address.parse().unwrap());
    let endpoint = Endpoint {
        url: format!("https://{}", forwarder.address),
        authority: direct.authority.clone(),
    };
    bed.namespace("shop", &json!({ "weft.dev/mesh": "enabled" }));
    let pods: Vec<_> = (0..20)
        .map(|n| bed.pod("shop", &format!("web-{n}"), "node-1", "default"))
        .collect();
    let control_plane = bed.start_at("a", &endpoint);
    let token = bed.agent_token("node-1");
    let agent = bed.agent(&control_plane, "node-1", &token).await;
    let mut stream = agent.subscribe().await.unwrap();
    let all = stream.synchronize().await;
    for uid in &pods {
        assert!(all.iter().any(|resource| resource.name == *uid), "{uid}");
    }

    forwarder.cut();
    let delete = ["delete", "pod", "web-0", "-n", "shop", "--force"];
    bed.kubectl().run(&delete).unwrap();
    let new = bed.pod("shop", "new", "node-1", "default");
    let annotate = [
        "annotate",
        "pod",
        "web-1",
        "-n",
        "shop",
        "weft.dev/mesh=disabled",
    ];
    bed.kubectl().run(&annotate).unwrap();
    forwarder.mend();

    wait_for("what happened meanwhile", LIMIT, || {
        let gone = control_plane.workload(&pods[0]).is_none();
        let outside = control_plane.workload(&pods[1]);
        let outside = outside.is_some_and(|workload| workload["enrolment"] == "Outside");
        let there = control_plane.workload(&new).is_some();
        match gone && outside && there {
            true => Ok(()),
            false => Err(format!("gone {gone}, outside {outside}, there {there}")),
        }
    })
    .unwrap();
    let told = stream.count_until_quiet(Duration::from_secs(1)).await;
    assert_eq!(told, 3, "one gone, one changed, one new");
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_follow_their_slices() {
    let bed = Bed::new();
    let control_plane = bed.start("a");
    bed.namespace("shop", &json!({}));
    bed.pod("shop", "web", "node-1", "default");
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "clusterIP": "10.96.0.77", "ports": [{ "port": 80 }] },
    });
    let slice = |ready: bool| {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": "web-1", "namespace": "shop",
                "labels": { "kubernetes.io/service-name": "web" },
            },
            "ports": [{ "port": 8080 }],
            "endpoints": [{
                "addresses": ["10.244.1.7"],
                "conditions": { "ready": ready },
                "targetRef": { "kind": "Pod", "name": "web", "namespace": "shop" },
            }],
        });
        bed.kubectl().apply(&slice.to_string()).unwrap();
    };
    bed.kubectl().apply(&service.to_string()).unwrap();
    slice(true);
    let token = bed.agent_token("node-1");
    let agent = bed.agent(&control_plane, "node-1", &token).await;
    let mut stream = agent.subscribe().await.unwrap();
    let name = "shop/web/10.244.1.7";
    wait_for("the endpoint", LIMIT, || {
        control_plane
            .workload(name)
            .ok_or_else(|| "not there".to_owned())
    })
    .unwrap();
    stream.synchronize().await;
    slice(false);
    let changed = loop {
        let response = stream.receive().await.unwrap().unwrap();
        if let Some(changed) = response.changed.into_iter().find(|one| one.name == name) {
            break changed;
        }
    };
    let Some(weft_proto::v1::resource::Resource::Endpoint(endpoint)) = changed.resource else {
        panic!("{changed:?}");
    };
    if endpoint.ready {
        // The stream began before the first slice came.
        let next = stream.receive().await.unwrap().unwrap();
        assert_eq!(next.changed[0].name, name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_where_its_node_says_it_is() {
    let bed = Bed::new();
    let control_plane = bed.start("a");
    bed.namespace("shop", &json!({}));
    let uid = bed.pod("shop", "web", "node-1", "default");
    let token = bed.agent_token("node-1");
    let agent = bed.agent(&control_plane, "node-1", &token).await;
    let mut stream = agent.subscribe().await.unwrap();
    for zone in ["eu-west-1a", "eu-west-1b"] {
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": "node-1", "labels": {
                "topology.kubernetes.io/region": "eu-west-1",
                "topology.kubernetes.io/zone": zone,
            } },
        });
        bed.kubectl().apply(&node.to_string()).unwrap();
        let told = stream
            .workload(&uid, |workload| workload.zone == zone)
            .await;
        assert_eq!(told.region, "eu-west-1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_config_that_can_not_be_read_stays_in_force_also_for_a_replica_that_starts() {
    let bed = Bed::new();
    bed.namespace("shop", &json!({ "weft.dev/mesh": "enabled" }));
    let uid = bed.pod("shop", "web", "node-1", "default");
    let first = bed.start("a");
    let config = |spec: &serde_json::Value| {
        let config = json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig",
            "metadata": { "name": "default" }, "spec": spec,
        });
        bed.kubectl().apply(&config.to_string()).unwrap();
    };
    config(&json!({ "trustDomain": "example.org", "mtls": { "mode": "strict" } }));
    first.wait_for_workload(&uid, "mtls_mode", "strict");
    let get = ["get", "meshcfg", "default", "-o", "jsonpath={.status}"];
    bed.kubectl()
        .wait("the spec in the status", LIMIT, &get, |text| {
            text.contains("lastAcceptedSpec")
        })
        .unwrap();

    // The kinds of a newer version are there already, and somebody uses what they have.
    let field = json!([{
        "op": "add",
        "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/future",
        "value": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
    }]);
    let crd = ["patch", "crd", "meshconfigs.weft.dev", "--type=json", "-p"];
    let field = field.to_string();
    bed.kubectl().run(&[&crd[..], &[&field]].concat()).unwrap();
    // Watches from before see objects without the field, until the API server ends them.
    let mut number = 0;
    wait_for("a status that refuses it", LIMIT, || {
        number += 1;
        let future = json!({ "spec": { "future": { "of": number } } }).to_string();
        let patch = ["patch", "meshcfg", "default", "--type=merge", "-p", &future];
        let run = |arguments: &[&str]| bed.kubectl().run(arguments);
        run(&patch).map_err(|error| error.to_string())?;
        let status = run(&get).map_err(|error| error.to_string())?;
        match status.contains("Invalid") && status.contains("stays in force") {
            true => Ok(()),
            false => Err(status),
        }
    })
    .unwrap();
    let weaker = r#"{"spec":{"mtls":{"mode":"permissive"}}}"#;
    let weaken = ["patch", "meshcfg", "default", "--type=merge", "-p", weaker];
    bed.kubectl().run(&weaken).unwrap();
    let second = bed.start("b");
    for replica in [&first, &second] {
        let workload = replica.workload(&uid).unwrap();
        assert_eq!(workload["mtls_mode"], "strict");
        let identity = "spiffe://example.org/ns/shop/sa/default";
        assert_eq!(workload["identity"], identity);
    }
}
