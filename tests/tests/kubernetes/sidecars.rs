//! Pods with a sidecar, injected by the webhook, run by a real kubelet.

use weft_tests::wait_for;

use crate::bed::{Bed, LIMIT};
use crate::shop::{self, WEB};

/// A job whose pod has a sidecar: it needs the network in an init container, too.
const JOB: &str = r#"
apiVersion: batch/v1
kind: Job
metadata: {name: order, namespace: shop}
spec:
  backoffLimit: 0
  template:
    metadata: {labels: {app: order}}
    spec:
      serviceAccountName: client
      restartPolicy: Never
      initContainers:
      - name: first
        image: weft.test/client:1
        command: [/curl, -sSf, --retry, "5", --max-time, "5", "http://SERVICE/"]
      containers:
      - name: order
        image: weft.test/client:1
        command: [/curl, -sSf, --retry, "5", --max-time, "5", "http://SERVICE/"]
"#;

/// Waits until the pods of an application have been captured by their sidecars.
fn wait_for_sidecars(bed: &Bed, app: &str) {
    let path = r#"{.items[*].status.conditions[?(@.type=="weft.dev/Captured")].reason}"#;
    let label = format!("-l=app={app}");
    let output = format!("-o=jsonpath={path}");
    wait_for("pods captured by their sidecars", LIMIT, || {
        let line = ["get", "pods", "-n=shop", &label, &output];
        let reasons = bed.kubectl.run(&line).map_err(|error| error.to_string())?;
        let mut found = reasons.split_whitespace().peekable();
        match found.peek().is_some() && found.all(|reason| reason == "Sidecar") {
            true => Ok(()),
            false => Err(format!("{reasons}\n{}", describe(bed, app))),
        }
    })
    .unwrap();
}

fn describe(bed: &Bed, app: &str) -> String {
    let logs = format!("logs -n shop -l app={app} -c weft-proxy --tail=20");
    let pods = format!("describe pods -n shop -l app={app}");
    format!("{:?}\n{:?}", bed.try_kubectl(&pods), bed.try_kubectl(&logs))
}

pub(crate) fn a_deployment_gets_sidecars_and_answers_strict_by_mutual_tls(bed: &Bed) {
    bed.kubectl("label namespace shop weft.dev/mesh=enabled weft.dev/mode=sidecar");
    bed.kubectl("annotate namespace shop weft.dev/mtls-mode=strict");
    let before = shop::pods(bed);
    bed.kubectl("rollout restart deployment/web -n shop");
    let rolled = bed.try_kubectl("rollout status deployment/web -n shop --timeout=180s");
    if let Err(error) = rolled {
        panic!("{error}\n{}", describe(bed, WEB));
    }
    shop::wait_until_gone(bed, &before, WEB);
    wait_for_sidecars(bed, WEB);
    shop::wait_until_captured(bed);
    // From pods that agents serve to those with sidecars. Ready they are by kubelet's probes.
    shop::wait_for_answers_across_nodes(bed);
    bed.wait_for_record(&[
        "direction=\"outbound\"",
        "source.identity=\"spiffe://cluster.local/ns/shop/sa/client\"",
        "destination.identity=\"spiffe://cluster.local/ns/shop/sa/web\"",
        "security=\"mutual_tls\"",
        "flags=\"-\"",
    ]);
}

pub(crate) fn a_job_with_a_sidecar_completes(bed: &Bed) {
    let job = JOB.replace("SERVICE", &bed.service_address("shop", "web"));
    bed.kubectl.apply(&job).unwrap();
    let done = bed.try_kubectl("wait job/order -n shop --for=condition=Complete --timeout=120s");
    if let Err(error) = done {
        panic!("{error}\n{}", describe(bed, "order"));
    }
    let path = "-o=jsonpath={.items[0].spec.initContainers[*].name}";
    let names = bed.kubectl(&format!("get pods -n shop -l app=order {path}"));
    assert_eq!(names, "weft-init weft-proxy first");
}
