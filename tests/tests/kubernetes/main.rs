//! Weft on a real Kubernetes of two nodes, installed as its users do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod bed;
mod conformance;
mod shop;
mod sidecars;

use std::time::Duration;

use weft_tests::cluster::KubeProxy;
use weft_tests::wait_for;

use bed::{Bed, LIMIT};
use shop::{CLIENT, WEB};

/// One cluster for a whole story: each part begins with what the last has left.
#[test]
fn pods_join_without_a_restart_stay_through_every_upheaval_and_leave_again() {
    let mut bed = Bed::up();
    shop::open(&bed);
    bed.install();
    pods_from_before_are_enrolled_live(&bed);
    strict_pods_pass_their_probes_and_refuse_strangers(&bed);
    pods_are_captured_before_their_first_connect(&bed);
    a_root_rotation_is_begun_and_taken_back(&bed);
    a_rolling_restart_under_load_fails_no_request(&bed);
    a_deleted_agent_comes_back(&bed);
    a_crashed_node_comes_back(&mut bed);
    opting_out_takes_effect_live(&bed);
}

#[test]
fn services_are_captured_where_kube_proxy_uses_nftables() {
    let Some(bed) = Bed::up_with(KubeProxy::Nftables) else {
        return;
    };
    shop::open(&bed);
    bed.install();
    pods_from_before_are_enrolled_live(&bed);
    a_rolling_restart_under_load_fails_no_request(&bed);
}

#[test]
fn pods_with_injected_sidecars_live_as_others_do() {
    let bed = Bed::up();
    shop::open(&bed);
    bed.install();
    sidecars::a_deployment_gets_sidecars_and_answers_strict_by_mutual_tls(&bed);
    sidecars::a_job_with_a_sidecar_completes(&bed);
    sidecars::probes_of_every_kind_pass_a_strict_pods_sidecar(&bed);
    sidecars::by_tproxy_an_application_sees_its_clients_addresses(&bed);
    sidecars::the_pods_of_a_stateful_set_are_reached_one_by_one(&bed);
    a_rolling_restart_under_load_fails_no_request(&bed);
    sidecars::a_namespace_changes_its_mode_under_load_and_no_request_fails(&bed);
    sidecars::the_classic_shape_serves_and_its_job_completes(&bed);
    sidecars::while_the_webhook_is_away_pods_are_made_and_their_nodes_capture_them(&bed);
}

fn pods_from_before_are_enrolled_live(bed: &Bed) {
    let before = shop::pods(bed);
    shop::wait_for_answers_across_nodes(bed);
    assert!(
        !bed.agents_saw(&["security=\"mutual_tls\""]),
        "nobody has opted in"
    );

    bed.kubectl("label namespace shop weft.dev/mesh=enabled");
    shop::wait_until_captured(bed);
    assert_eq!(shop::pods(bed), before, "nothing was restarted");
    let host = bed.pods("shop", "host");
    assert_eq!(host.len(), 2);
    assert!(host.iter().all(|pod| pod.captured.is_none()), "{host:?}");

    shop::wait_for_answers_across_nodes(bed);
    shop::wait_for_mutual_tls_across_nodes(bed);
}

fn strict_pods_pass_their_probes_and_refuse_strangers(bed: &Bed) {
    bed.kubectl("annotate namespace shop weft.dev/mtls-mode=strict");
    let web = bed.pods("shop", "web");
    for pod in &web {
        let url = format!("http://{}:8080/", pod.address);
        wait_for("a stranger to be refused", LIMIT, || {
            match bed.curl("default", "stranger", &url) {
                Err(_) => Ok(()),
                Ok(answer) => Err(answer),
            }
        })
        .unwrap();
        // A process of the node itself is no kubelet, whatever it asks.
        if let Some(cluster) = &bed.own {
            for path in ["", "ready"] {
                let url = format!("{url}{path}");
                let line = ["curl", "-sS", "--max-time", "5", &url];
                let answer = cluster.run_on(&pod.node, &line, LIMIT);
                assert!(answer.is_err(), "{url} was answered {answer:?}");
            }
            bed.wait_for_record(&[
                &format!("destination.workload=\"{}\"", pod.name),
                "kubelet alone",
            ]);
        }
        let refused = format!("destination.workload=\"{}\"", pod.name);
        bed.wait_for_record(&[&refused, "security=\"plaintext\"", "flags=\"DENY\""]);
    }
    // More probes than it takes to lose readiness.
    bed.kubectl(r#"annotate namespace shop weft.dev/access-log={"probes":true}"#);
    for pod in &web {
        let probed = || bed.probes_of(&pod.name);
        let enough = probed() + 5;
        wait_for("probes of a strict pod", LIMIT, || match probed() {
            count if count >= enough => Ok(()),
            count => Err(format!("{count} of {enough}")),
        })
        .unwrap();
    }
    let after = bed.pods("shop", "web");
    assert!(after.iter().all(|pod| pod.is_ready), "{after:?}");
    shop::wait_for_answers_across_nodes(bed);
}

/// Each does nothing but connect to a strict service, once, as its first act: it would
/// be refused if it weren't captured yet.
fn pods_are_captured_before_their_first_connect(bed: &Bed) {
    let pods: Vec<_> = (0..6).map(|n| format!("early-{n}")).collect();
    let service = bed.service_address("shop", "web");
    let manifests = pods.iter().map(|name| {
        format!(
            r#"---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{app: early}}}}
spec:
  serviceAccountName: client
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: early
    image: weft.test/client:1
    command: [/curl, -sS, --max-time, "5", "http://{service}/"]
"#
        )
    });
    let manifests: String = manifests.collect();
    bed.kubectl.apply(&manifests).unwrap();
    for name in &pods {
        let phase = [
            "get",
            "pod",
            name,
            "-n",
            "shop",
            "-o=jsonpath={.status.phase}",
        ];
        let ended = |phase: &str| phase == "Succeeded" || phase == "Failed";
        let wait = bed.kubectl.wait("its end", LIMIT, &phase, ended);
        if wait.unwrap() != "Succeeded" {
            let log = bed.kubectl.run(&["logs", name, "-n", "shop"]);
            panic!("{name} was refused: {log:?}\n{}", bed.agent_logs());
        }
    }
    bed.kubectl("delete pods -n shop -l app=early");
}

/// With what the control plane's pod has: its own program, its own permissions.
fn a_root_rotation_is_begun_and_taken_back(bed: &Bed) {
    let rotate = |step: &str| {
        bed.try_kubectl(&format!(
            "exec deploy/weft-control-plane -n weft-system -- weft-control-plane rotate-root {step}"
        ))
    };
    let roots = |count: usize| {
        wait_for("the published roots", LIMIT, || {
            let published = bed.try_kubectl(
                "get configmap weft-root-certificates -n weft-system -o=jsonpath={.data.ca\\.crt}",
            )?;
            match published.matches("BEGIN CERTIFICATE").count() == count {
                true => Ok(()),
                false => Err(published),
            }
        })
        .unwrap();
    };
    roots(1);
    rotate("start").unwrap();
    roots(2);
    let early = rotate("switch").unwrap_err();
    assert!(early.contains("too early"), "{early}");
    shop::wait_for_answers_across_nodes(bed);
    rotate("abort").unwrap();
    roots(1);
}

fn a_rolling_restart_under_load_fails_no_request(bed: &Bed) {
    let before = shop::pods(bed);
    let traffic = shop::traffic(bed);
    bed.kubectl("rollout restart deployment/web -n shop");
    bed.kubectl("rollout status deployment/web -n shop --timeout=120s");
    shop::wait_until_gone(bed, &before, "web");
    shop::wait_until_captured(bed);
    let answered = traffic.finish_without_a_failure();
    let new = bed.pods("shop", "web");
    for pod in &new {
        assert!(answered.contains(&pod.name), "{} of {answered:?}", pod.name);
    }
}

fn a_deleted_agent_comes_back(bed: &Bed) {
    let agents = bed.pods("weft-system", "weft-node-agent");
    let gone = &agents[0];
    bed.kubectl(&format!("delete pod {} -n weft-system", gone.name));
    let status = "rollout status daemonset/weft-node-agent -n weft-system --timeout=120s";
    bed.kubectl(status);
    let before = shop::pods(bed);
    shop::wait_until_captured(bed);
    let now = bed.pods("weft-system", "weft-node-agent");
    assert!(now.iter().all(|agent| agent.name != gone.name), "{now:?}");
    shop::wait_for_answers_across_nodes(bed);
    // Strict ever since: whoever is answered is in.
    assert_eq!(shop::pods(bed), before);
}

fn a_crashed_node_comes_back(bed: &mut Bed) {
    // Nobody crashes the nodes of others.
    let Some(cluster) = &mut bed.own else {
        return;
    };
    cluster.crash_node("node-2").unwrap();
    cluster.wait_until_lost("node-2").unwrap();
    cluster.start_node("node-2").unwrap();
    cluster.wait_until_ready("node-2").unwrap();
    for rollout in [
        "deployment/web -n shop",
        "daemonset/weft-node-agent -n weft-system",
    ] {
        bed.kubectl(&format!("rollout status {rollout} --timeout=180s"));
    }
    shop::wait_until_captured(bed);
    shop::wait_for_answers_across_nodes(bed);
    let stranger = bed.pods("shop", "web")[0].address.clone();
    let url = format!("http://{stranger}:8080/");
    wait_for(
        "a stranger to be refused after the crash",
        Duration::from_secs(30),
        || match bed.curl("default", "stranger", &url) {
            Err(_) => Ok(()),
            Ok(answer) => Err(answer),
        },
    )
    .unwrap();
}

fn opting_out_takes_effect_live(bed: &Bed) {
    let before = shop::pods(bed);
    bed.kubectl("label namespace shop weft.dev/mesh-");
    for app in [WEB, CLIENT] {
        wait_for("everybody to be released", LIMIT, || {
            let pods = bed.pods("shop", app);
            match pods
                .iter()
                .all(|pod| pod.captured.as_deref() == Some("False"))
            {
                true => Ok(()),
                false => Err(format!("{pods:?}")),
            }
        })
        .unwrap();
    }
    assert_eq!(shop::pods(bed), before, "nothing was restarted");
    let url = format!("http://{}/", bed.service_address("shop", "web"));
    wait_for("a stranger to be answered", LIMIT, || {
        bed.curl("default", "stranger", &url)
    })
    .unwrap();
    shop::wait_for_answers_across_nodes(bed);
}
