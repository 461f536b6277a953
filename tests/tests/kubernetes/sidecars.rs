//! Pods with a sidecar, injected by the webhook, run by a real kubelet.

use std::path::Path;
use std::process::Command;

use weft_tests::wait_for;

use crate::bed::{Bed, LIMIT};
use crate::shop::{self, CLIENT, WEB};

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

/// A pod whose application is to see its clients' own addresses.
const SEEING: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: seeing
  namespace: shop
  labels: {app: seeing}
  annotations: {weft.dev/sidecar-capture: tproxy}
spec:
  serviceAccountName: web
  terminationGracePeriodSeconds: 1
  containers:
  - name: http
    image: weft.test/client:1
    args: [http, "--listen=[::]:8080", "--name=seeing"]
    readinessProbe: {periodSeconds: 1, failureThreshold: 1, httpGet: {path: /ready, port: 8080}}
  - name: tcp
    image: weft.test/client:1
    args: [echo, "--listen=[::]:9000"]
    readinessProbe: {periodSeconds: 1, failureThreshold: 1, tcpSocket: {port: 9000}}
"#;

/// Waits until the pods of an application have been captured by their sidecars.
fn wait_for_sidecars(bed: &Bed, app: &str) {
    wait_until_captured_by(bed, app, "Sidecar");
}

/// Waits until that is the reason why the pods of an application are captured.
fn wait_until_captured_by(bed: &Bed, app: &str, expected: &str) {
    let path = r#"{.items[*].status.conditions[?(@.type=="weft.dev/Captured")].reason}"#;
    let label = format!("-l=app={app}");
    let output = format!("-o=jsonpath={path}");
    wait_for(&format!("pods captured: {expected}"), LIMIT, || {
        let line = ["get", "pods", "-n=shop", &label, &output];
        let reasons = bed.kubectl.run(&line).map_err(|error| error.to_string())?;
        let mut found = reasons.split_whitespace().peekable();
        match found.peek().is_some() && found.all(|reason| reason == expected) {
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

/// Kubelet's probes of every kind succeed, without being rewritten, and one that the application
/// fails fails; strangers are refused.
pub(crate) fn probes_of_every_kind_pass_a_strict_pods_sidecar(bed: &Bed) {
    bed.kubectl.apply(include_str!("sidecars.yaml")).unwrap();
    let path = r"{range .status.containerStatuses[*]}{.name}={.ready} {end}";
    let output = format!("-o=jsonpath={path}");
    wait_for("probes of every kind", LIMIT, || {
        let line = ["get", "pod", "probed", "-n=shop", &output];
        let ready = bed.kubectl.run(&line).map_err(|error| error.to_string())?;
        let mut ready: Vec<_> = ready.split_whitespace().collect();
        ready.sort_unstable();
        match ready
            == [
                "exec=true",
                "grpc=true",
                "http=true",
                "never=false",
                "tcp=true",
            ] {
            true => Ok(()),
            false => Err(format!("{ready:?}\n{}", describe(bed, "probed"))),
        }
    })
    .unwrap();
    wait_for_sidecars(bed, "probed");
    let probed = bed.pods("shop", "probed").remove(0);
    for port in [8080, 9000, 9090] {
        let url = format!("http://{}:{port}/", probed.address);
        let answer = bed.curl("default", "stranger", &url);
        assert!(answer.is_err(), "a stranger was answered: {answer:?}");
    }
    bed.kubectl("delete pod probed -n shop");
}

/// By TPROXY the application of a strict pod sees its client's address, of the same node and of the
/// other, its probes pass, and strangers are refused.
pub(crate) fn by_tproxy_an_application_sees_its_clients_addresses(bed: &Bed) {
    bed.kubectl.apply(SEEING).unwrap();
    let ready = bed.try_kubectl("wait pod/seeing -n shop --for=condition=Ready --timeout=120s");
    if let Err(error) = ready {
        panic!("{error}\n{}", describe(bed, "seeing"));
    }
    wait_for_sidecars(bed, "seeing");
    let seeing = bed.pods("shop", "seeing").remove(0);
    let url = format!("http://{}:8080/", seeing.address);
    for client in bed.pods("shop", CLIENT) {
        let seen = format!("\"peer\":\"{}:", client.address);
        wait_for("an application that sees its client", LIMIT, || {
            let answer = bed.curl("shop", &client.name, &url)?;
            answer.contains(&seen).then_some(()).ok_or(answer)
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", describe(bed, "seeing")));
    }
    let answer = bed.curl("default", "stranger", &url);
    assert!(answer.is_err(), "a stranger was answered: {answer:?}");
    assert!(bed.pods("shop", "seeing").remove(0).is_ready);
    bed.kubectl("delete pod seeing -n shop");
}

/// Each of its pods is reached by its own name. They are strict: whoever is answered is in the mesh.
pub(crate) fn the_pods_of_a_stateful_set_are_reached_one_by_one(bed: &Bed) {
    let rolled = bed.try_kubectl("rollout status statefulset/db -n shop --timeout=120s");
    if let Err(error) = rolled {
        panic!("{error}\n{}", describe(bed, "db"));
    }
    wait_for_sidecars(bed, "db");
    let client = bed.pods("shop", CLIENT).remove(0);
    for name in ["db-0", "db-1"] {
        let url = format!("http://{name}.db.shop.svc.cluster.local:8080/");
        wait_for("an answer", LIMIT, || {
            let answer = bed.curl("shop", &client.name, &url)?;
            match answer.contains(&format!("\"{name}\"")) {
                true => Ok(()),
                false => Err(answer),
            }
        })
        .unwrap();
    }
    bed.kubectl("delete statefulset/db -n shop");
}

/// From sidecars to the node's agents and back: pods are made anew, and nobody notices.
pub(crate) fn a_namespace_changes_its_mode_under_load_and_no_request_fails(bed: &Bed) {
    for (mode, reason) in [("node", "Captured"), ("sidecar", "Sidecar")] {
        let before = shop::pods(bed);
        let traffic = shop::traffic(bed);
        bed.kubectl(&format!(
            "label --overwrite namespace shop weft.dev/mode={mode}"
        ));
        bed.kubectl("rollout restart deployment/web -n shop");
        bed.kubectl("rollout status deployment/web -n shop --timeout=120s");
        shop::wait_until_gone(bed, &before, WEB);
        wait_until_captured_by(bed, WEB, reason);
        let answered = traffic.finish_without_a_failure();
        for pod in bed.pods("shop", WEB) {
            assert!(answered.contains(&pod.name), "{mode}: {answered:?}");
        }
    }
}

/// Injected by `weft-control-plane inject`, as an API server without native sidecars would have it.
pub(crate) fn the_classic_shape_serves_and_its_job_completes(bed: &Bed) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let service = "classic.shop.svc.cluster.local";
    let manifests = include_str!("classic.yaml").replace("SERVICE", service);
    std::fs::write(file.path(), manifests).unwrap();
    let program =
        Path::new(env!("CARGO_BIN_EXE_weft-test-app")).with_file_name("weft-control-plane");
    let injected = Command::new(program)
        .args(["inject", "--sidecar-shape=classic", "-f"])
        .arg(file.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&injected.stderr);
    assert!(injected.status.success(), "{said}");
    bed.kubectl
        .apply(&String::from_utf8(injected.stdout).unwrap())
        .unwrap();
    let rolled = bed.try_kubectl("rollout status deployment/classic -n shop --timeout=120s");
    if let Err(error) = rolled {
        panic!("{error}\n{}", describe(bed, "classic"));
    }
    wait_for_sidecars(bed, "classic");
    let path = "-o=jsonpath={.items[0].spec.containers[*].name}";
    let names = bed.kubectl(&format!("get pods -n shop -l app=classic {path}"));
    assert_eq!(names, "weft-proxy classic");
    let client = bed.pods("shop", CLIENT).remove(0);
    let url = format!("http://{}/", bed.service_address("shop", "classic"));
    wait_for("an answer", LIMIT, || bed.curl("shop", &client.name, &url)).unwrap();
    let done = bed.try_kubectl("wait job/classic -n shop --for=condition=Complete --timeout=120s");
    if let Err(error) = done {
        panic!("{error}\n{}", describe(bed, "classic-job"));
    }
    bed.kubectl("delete deployment/classic job/classic -n shop");
}

/// Pods are made without a sidecar, and the node's agent captures them, once it is told of them.
pub(crate) fn while_the_webhook_is_away_pods_are_made_and_their_nodes_capture_them(bed: &Bed) {
    let scale = |replicas: u8| {
        bed.kubectl(&format!(
            "scale deployment/weft-control-plane -n weft-system --replicas={replicas}"
        ));
    };
    scale(0);
    let list = "get pods -n weft-system -l app.kubernetes.io/name=weft-control-plane -o=name";
    wait_for("no control plane", LIMIT, || {
        match bed.try_kubectl(list)? {
            none if none.trim().is_empty() => Ok(()),
            some => Err(some),
        }
    })
    .unwrap();
    bed.kubectl(
        "run unattended -n shop --image=weft.test/client:1 --labels=app=unattended -- \
         echo --listen=[::]:9000",
    );
    let path = "-o=jsonpath={.spec.containers[*].name}/{.spec.initContainers[*].name}";
    let names = bed.kubectl(&format!("get pod unattended -n shop {path}"));
    assert_eq!(names, "unattended/");
    scale(2);
    bed.kubectl("rollout status deployment/weft-control-plane -n weft-system --timeout=120s");
    wait_until_captured_by(bed, "unattended", "Captured");
    bed.kubectl("delete pod unattended -n shop --grace-period=1");
}
