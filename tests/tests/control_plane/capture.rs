//! Pods on their way into the mesh.

use serde_json::{Value, json};
use weft_proto::v1::{CaptureState, Enrolment};
use weft_tests::wait_for;

use crate::bed::{Bed, LIMIT};

fn condition(bed: &Bed, pod: &str) -> Option<Value> {
    let pod = bed.kubectl().json(&["get", "pod", pod, "-n", "shop"]);
    let pod = pod.unwrap();
    let conditions = pod["status"]["conditions"].as_array()?;
    let is_ours = |condition: &&Value| condition["type"] == "weft.dev/Captured";
    conditions.iter().find(is_ours).cloned()
}

pub(crate) fn wait_for_condition(bed: &Bed, pod: &str, status: &str, reason: &str) -> Value {
    let found = wait_for(
        &format!("{pod} to be {reason}"),
        LIMIT,
        || match condition(bed, pod) {
            Some(found) if found["status"] == status && found["reason"] == reason => Ok(found),
            other => Err(format!("{other:?}")),
        },
    );
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_pod_is_told_at_once_and_captured_for_every_replica_once_its_node_says_so() {
    let bed = Bed::new();
    let (first, second) = (bed.start("a"), bed.start("b"));
    bed.namespace("shop", &json!({ "weft.dev/mesh": "enabled" }));
    let token = bed.agent_token("node-1");
    let agent = bed.agent(&first, "node-1", &token).await;
    let mut stream = agent.subscribe().await.unwrap();
    stream.synchronize().await;

    let uid = bed.pod("shop", "web", "node-1", "default");
    let told = stream.workload(&uid, |_| true).await;
    assert_eq!(told.enrolment(), Enrolment::Pending);
    assert!(told.addresses.is_empty(), "{told:?}");
    assert_eq!((&*told.node, &*told.network_namespace), ("node-1", ""));

    // Whoever doesn't run the pod has no say.
    let token = bed.agent_token("node-2");
    let foreign = bed.agent(&second, "node-2", &token).await;
    let mut elsewhere = foreign.subscribe().await.unwrap();
    elsewhere.synchronize().await;
    elsewhere.report(&uid, CaptureState::Captured, "").await;

    stream.report(&uid, CaptureState::Failed, "no room").await;
    let found = wait_for_condition(&bed, "web", "False", "CaptureFailed");
    assert_eq!(found["message"], "no room");
    stream.report(&uid, CaptureState::Captured, "").await;
    wait_for_condition(&bed, "web", "True", "Captured");
    let is_captured =
        |workload: &weft_proto::v1::Workload| workload.enrolment() == Enrolment::Captured;
    stream.workload(&uid, is_captured).await;
    elsewhere.workload(&uid, is_captured).await;
    second.wait_for_workload(&uid, "enrolment", "Captured");
    assert!(second.log().contains("reported a pod that isn't its own"));

    // `kubectl describe` says so, too.
    let events = [
        "get",
        "events",
        "-n",
        "shop",
        "-o",
        "jsonpath={range .items[*]}{.type} {.reason} {.message}{\"\\n\"}{end}",
    ];
    bed.kubectl()
        .wait("events", LIMIT, &events, |text| {
            text.contains("Warning CaptureFailed no room") && text.contains("Normal Captured")
        })
        .unwrap();

    // A stream that ends with "these are all" takes back what isn't among them.
    let again = agent.subscribe().await.unwrap();
    again.complete().await;
    wait_for_condition(&bed, "web", "False", "Released");
    second.wait_for_workload(&uid, "enrolment", "Pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn opting_in_and_out_takes_effect_at_once_and_the_pod_has_the_last_word() {
    let bed = Bed::new();
    let control_plane = bed.start("a");
    bed.namespace("shop", &json!({}));
    let uid = bed.pod("shop", "web", "node-1", "default");
    let is = |enrolment| control_plane.wait_for_workload(&uid, "enrolment", enrolment);
    let run = |arguments: &str| {
        let arguments: Vec<_> = arguments.split(' ').collect();
        bed.kubectl().run(&arguments).unwrap();
    };
    is("Outside");
    run("label namespace shop weft.dev/mesh=enabled");
    is("Pending");
    run("annotate pod web -n shop weft.dev/mesh=disabled");
    is("Outside");
    run("annotate pod web -n shop weft.dev/mesh=enabled --overwrite");
    run("label namespace shop weft.dev/mesh-");
    is("Pending");
    run("annotate pod web -n shop weft.dev/mesh-");
    is("Outside");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_an_annotation_is_told_on_the_pod_and_never_opens_it() {
    let bed = Bed::new();
    let control_plane = bed.start("a");
    bed.namespace("shop", &json!({ "weft.dev/mesh": "enabled" }));
    let uid = bed.pod("shop", "web", "node-1", "default");
    let annotate = [
        "annotate",
        "pod",
        "web",
        "-n",
        "shop",
        "weft.dev/mtls-mode=strikt",
        "weft.dev/netns=somebody-elses",
    ];
    bed.kubectl().run(&annotate).unwrap();
    control_plane.wait_for_workload(&uid, "mtls_mode", "strict");
    control_plane.wait_for_workload(&uid, "enrolment", "Pending");
    let events = ["get", "events", "-n", "shop"];
    bed.kubectl()
        .wait("an event", LIMIT, &events, |text| {
            text.contains("InvalidMeshConfiguration") && text.contains("strikt")
        })
        .unwrap();
}
