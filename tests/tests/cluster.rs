//! A whole cluster: do its parts work together as on real machines, and is everything
//! gone afterwards?

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// How long it takes is worth knowing.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use weft_tests::cluster::{Binaries, Cluster, ClusterOptions, KubeProxy};
use weft_tests::image::Image;
use weft_tests::wait_for;

const APP: &str = env!("CARGO_BIN_EXE_weft-test-app");
const LIMIT: Duration = Duration::from_secs(60);
const WEB: &str = include_str!("cluster/web.yaml");
const AGENT: &str = include_str!("cluster/agent.yaml");

fn up(kube_proxy: KubeProxy) -> Cluster {
    weft_tests::run::collect_leftovers();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let binaries = Binaries::ensure(workspace).unwrap();
    let mut options = ClusterOptions::new(APP);
    options.kube_proxy = kube_proxy;
    let begin = Instant::now();
    let cluster = Cluster::up(&binaries, &options).unwrap();
    println!("up after {:.1} s", begin.elapsed().as_secs_f32());
    cluster
}

/// A pod of `web` on each node, with a Service, and with curl beside each.
fn run_web(cluster: &Cluster) {
    let image = Image::of_program("weft.test/app:1", Path::new(APP)).unwrap();
    cluster.load_image(&image).unwrap();
    let curl = Path::new("/usr/bin/curl");
    let mut image = Image::of_program("weft.test/client:1", Path::new(APP)).unwrap();
    image.add_program(curl, "curl").unwrap();
    cluster.load_image(&image).unwrap();
    cluster.kubectl().apply(WEB).unwrap();
    for deployment in ["web", "client"] {
        cluster.wait_until_available("default", deployment).unwrap();
    }
}

fn pods(cluster: &Cluster, app: &str) -> Vec<(String, String)> {
    let label = format!("-l=app={app}");
    let columns = "-o=jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName}{\"\\n\"}{end}";
    let text = cluster.kubectl().run(&["get", "pods", &label, columns]);
    let text = text.unwrap();
    let pods = text.lines().map(|line| line.split_once(' ').unwrap());
    pods.map(|(pod, node)| (pod.to_owned(), node.to_owned()))
        .collect()
}

fn curl(cluster: &Cluster, pod: &str, url: &str) -> Result<String, String> {
    let line = ["exec", pod, "--", "/curl", "-sS", "--max-time", "5", url];
    cluster
        .kubectl()
        .run(&line)
        .map_err(|error| error.to_string())
}

/// Asks until every one of the pods has answered.
fn wait_for_answers(cluster: &Cluster, from: &str, url: &str, of: &[(String, String)]) {
    let mut missing: Vec<_> = of.iter().map(|(pod, _)| pod.clone()).collect();
    let what = format!("all pods to answer {from} at {url}");
    wait_for(&what, LIMIT, || {
        let answer = curl(cluster, from, url)?;
        missing.retain(|pod| !answer.contains(pod.as_str()));
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!("still to answer: {missing:?}; last: {answer}"))
    })
    .unwrap();
}

fn check_services(cluster: &Cluster) {
    run_web(cluster);
    let servers = pods(cluster, "web");
    let clients = pods(cluster, "client");
    for pods in [&servers, &clients] {
        let mut nodes: Vec<_> = pods.iter().map(|(_, node)| node.as_str()).collect();
        nodes.sort_unstable();
        assert_eq!(nodes, ["node-1", "node-2"], "{pods:?}");
    }
    let address = ["get", "service", "web", "-o=jsonpath={.spec.clusterIP}"];
    let address = cluster.kubectl().run(&address).unwrap();
    for (client, _) in &clients {
        for host in [address.as_str(), "web", "web.default.svc.cluster.local"] {
            wait_for_answers(cluster, client, &format!("http://{host}/"), &servers);
        }
    }
    // From a node itself too.
    let url = format!("http://{address}/");
    let line = ["curl", "-sS", "--max-time", "5", &url];
    let answer = cluster.run_on("node-1", &line, LIMIT).unwrap();
    assert!(answer.contains("web-"), "{answer}");
}

fn down(cluster: Cluster) {
    let run = cluster.topology().run().name("");
    let directory = cluster.directory().to_owned();
    let processes: Vec<_> = cluster
        .nodes()
        .map(|node| cluster.process_of(node).unwrap())
        .collect();
    let begin = Instant::now();
    drop(cluster);
    println!("down after {:.1} s", begin.elapsed().as_secs_f32());
    assert!(!directory.exists());
    for process in processes {
        assert!(!Path::new(&format!("/proc/{process}")).exists());
    }
    let left = Command::new("find")
        .args(["/sys/fs/cgroup", "/run/netns", "/sys/fs/bpf"])
        .args(["-name", &format!("{run}*")])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&run), "{mounts}");
}

#[test]
fn services_and_names_work_across_nodes_with_iptables_and_nodes_come_back_from_a_crash() {
    let mut cluster = up(KubeProxy::Iptables);
    check_services(&cluster);

    let process = cluster.process_of("node-2").unwrap();
    cluster.crash_node("node-2").unwrap();
    assert!(!Path::new(&format!("/proc/{process}")).exists());
    let begin = Instant::now();
    cluster.wait_until_lost("node-2").unwrap();
    println!("lost after {:.1} s", begin.elapsed().as_secs_f32());
    let begin = Instant::now();
    cluster.start_node("node-2").unwrap();
    cluster.wait_until_ready("node-2").unwrap();
    println!("back after {:.1} s", begin.elapsed().as_secs_f32());
    for deployment in ["web", "client"] {
        cluster.wait_until_available("default", deployment).unwrap();
    }
    let servers = pods(&cluster, "web");
    let client = pods(&cluster, "client")
        .into_iter()
        .find(|(_, node)| node == "node-2");
    wait_for_answers(&cluster, &client.unwrap().0, "http://web/", &servers);
    down(cluster);
}

#[test]
fn services_and_names_work_across_nodes_with_nftables() {
    let cluster = up(KubeProxy::Nftables);
    check_services(&cluster);
    down(cluster);
}

/// What an agent on every node builds on: a privileged pod in the node's network sees
/// all processes, the network namespaces of pods, their cgroups, and the node's bpffs.
fn check_agent(cluster: &Cluster) {
    let mut image = Image::of_program("weft.test/agent:1", Path::new(APP)).unwrap();
    for program in ["cat", "ls", "mkdir", "stat", "ip", "hostname"] {
        let inside = format!("/bin/{program}");
        let places =
            ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(|place| Path::new(place).join(program));
        let source = places.iter().find(|path| path.is_file()).unwrap();
        image.add_program(source, &inside).unwrap();
    }
    cluster.load_image(&image).unwrap();
    let kubectl = cluster.kubectl();
    kubectl.apply(AGENT).unwrap();
    let rollout = "rollout status daemonset/agent --timeout=60s";
    kubectl
        .run(&rollout.split(' ').collect::<Vec<_>>())
        .unwrap();
    let agents = pods(cluster, "agent");
    assert_eq!(agents.len(), 2, "{agents:?}");
    for (agent, node) in &agents {
        let run = |line: &str| {
            let mut arguments = vec!["exec", agent, "--"];
            arguments.extend(line.split(' '));
            kubectl.run(&arguments).unwrap()
        };
        assert!(run("cat /proc/1/cmdline").contains("--inside"), "{node}");
        assert!(run("ip -brief address show eth0").contains("10.99.0.1"));
        assert!(run("stat -f -c %T /sys/fs/bpf").contains("bpf"));
        run("mkdir /sys/fs/bpf/agent");
        let pinned = cluster.run_on(node, &["ls", "/sys/fs/bpf"], LIMIT).unwrap();
        assert!(pinned.contains("agent"), "{pinned}");
        let cgroups = run("ls /host/cgroup /host/cgroup/unified");
        assert!(cgroups.contains("kubepods"), "{cgroups}");
    }
    let dns = [
        "get",
        "pods",
        "-A",
        "-l=k8s-app=kube-dns",
        "-o=jsonpath={.items[0].spec.nodeName}",
    ];
    let dns = kubectl.run(&dns).unwrap();
    let (beside_dns, _) = agents.iter().find(|(_, node)| *node == dns).unwrap();
    let namespaces = kubectl.run(&["exec", beside_dns, "--", "ls", "/host/netns"]);
    assert!(namespaces.unwrap().contains("cni-"));
}

#[test]
fn a_node_looks_like_a_machine_of_its_own() {
    let cluster = up(KubeProxy::Iptables);
    let run = |line: &[&str]| cluster.run_on("node-1", line, LIMIT).unwrap();
    assert_eq!(run(&["hostname"]), "node-1\n");
    assert!(run(&["ls", "/etc/cni/net.d"]).contains("10-pods.conflist"));
    assert!(run(&["ls", "/opt/cni/bin"]).contains("bridge"));
    assert!(run(&["stat", "-f", "-c", "%T", "/sys/fs/bpf"]).contains("bpf"));
    let memberships = run(&["cat", "/proc/1/cgroup"]);
    assert!(memberships.contains("0::/\n"), "{memberships}");
    assert!(run(&["mount", "-t", "cgroup2"]).contains("cgroup2"));
    run(&["mkdir", "/etc/only-here", "/sys/fs/bpf/only-here"]);
    assert!(!Path::new("/etc/only-here").exists());
    assert!(!Path::new("/sys/fs/bpf/only-here").exists());
    check_agent(&cluster);
    down(cluster);
}
