//! The surroundings of a kernel test: a process of its own, in a cgroup of its own, with a
//! network namespace that is the node's and one for each pod. Namespaces end with that
//! process; the cgroups are removed by the process that started it, also after a crash.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use weft_model::mtls::MtlsMode;
use weft_model::node_access::NodeAccess;
use weft_model::workload::CaptureExclusions;
use weft_node_agent::namespaces::NetworkNamespace;
use weft_node_agent::pod_sockets::PodSockets;
use weft_node_agent::redirect::{
    ListenerPair, PodAddresses, PodListeners, PodRedirect, PodRedirectConfig, Redirect,
    RedirectError, RedirectOptions, SocketMaps, UnknownPods,
};
use weft_proxy::sockets::{self, Purpose};

/// Tells the process of a test where its cgroup is.
const CGROUP: &str = "WEFT_KERNEL_TEST_CGROUP";
/// Tells a process that it is a helper of a test, and what it shall do.
const HELPER: &str = "WEFT_KERNEL_TEST_HELPER";
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test in a process of its own.
pub(crate) fn isolated<F: FnOnce(&Lab)>(test: F) {
    if let Some(cgroup) = std::env::var_os(CGROUP) {
        match std::env::var(HELPER) {
            Ok(what) => crate::helper::run(&what),
            Err(_) => test(&Lab::new(cgroup.into())),
        }
        return;
    }
    assert!(
        nix::unistd::geteuid().is_root(),
        "the kernel tests need root, to load eBPF programs and to make network namespaces"
    );
    let cgroup = TestCgroup::create();
    let name = test_name::<F>();
    let child = rerun(&name, &cgroup.path, &cgroup.path.join("agent"), true)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the test binary runs again");
    let output = wait(child);
    assert!(
        output.status.success(),
        "{name}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// `module::function` of the test that a closure was written in.
fn test_name<F>() -> String {
    let path = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    path.split_once("::")
        .expect("a path with the crate's name")
        .1
        .to_owned()
}

/// This test binary once more, with one test only, in a cgroup.
fn rerun(test: &str, lab: &Path, cgroup: &Path, own_namespaces: bool) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("our own path"));
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CGROUP, lab);
    let processes = OpenOptions::new()
        .write(true)
        .open(cgroup.join("cgroup.procs"));
    let processes = processes.expect("the test's cgroup can be entered");
    let enter = move || {
        nix::unistd::write(&processes, b"0")?;
        if own_namespaces {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
            // Mounts of a test are seen by nobody else.
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        }
        Ok(())
    };
    // SAFETY: only system calls, on a descriptor opened before.
    unsafe { command.pre_exec(enter) };
    command
}

fn wait(mut child: Child) -> Output {
    let deadline = Instant::now() + PATIENCE;
    // Pipes are read meanwhile, or a talkative child would never end.
    let mut streams = [
        drain(child.stdout.take().expect("piped")),
        drain(child.stderr.take().expect("piped")),
    ]
    .map(Some);
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child to wait for") {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().expect("a child to end");
            break child.wait().expect("a child to wait for");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut text = |n: usize| streams[n].take().expect("once").join().expect("a reader");
    Output {
        status,
        stdout: text(0),
        stderr: text(1),
    }
}

fn drain(mut pipe: impl io::Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// `weft-test-*` below the root of the hierarchy, with `agent`, `kubelet` and `kubepods/pod`
/// in it.
struct TestCgroup {
    path: PathBuf,
}

impl TestCgroup {
    fn create() -> Self {
        let unique = format!("weft-test-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = hierarchy().join(unique);
        let cgroup = Self { path };
        for part in ["", "agent", "kubelet", "kubepods", "kubepods/pod"] {
            fs::create_dir(cgroup.path.join(part)).expect("a cgroup for the test");
        }
        cgroup
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        remove_cgroup(&self.path);
    }
}

/// Removes a cgroup with those below it, whichever a test has added.
fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    // The kernel lets go of an ended process a moment after it was waited for.
    eventually(
        "the test's cgroup is empty",
        || !matches!(fs::remove_dir(path), Err(error) if error.raw_os_error() == Some(libc::EBUSY)),
    );
}

pub(crate) fn hierarchy() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc");
    let line = mounts
        .lines()
        .find(|line| line.contains(" - cgroup2 "))
        .expect("a cgroup2 mount");
    PathBuf::from(line.split(' ').nth(4).expect("a mount point"))
}

/// Waits for a state.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within 5 s: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The node of one test.
pub(crate) struct Lab {
    pub(crate) cgroup: PathBuf,
}

impl Lab {
    fn new(cgroup: PathBuf) -> Self {
        let lab = Self { cgroup };
        for line in [
            "link set lo up",
            "link add weft0 type bridge",
            "addr add 10.9.0.1/24 dev weft0",
            "addr add fd09::1/64 dev weft0 nodad",
            "link set weft0 up",
        ] {
            ip(line);
        }
        lab
    }

    /// Options with everything inside of this test's own cgroup.
    pub(crate) fn options(&self) -> RedirectOptions {
        RedirectOptions {
            cgroup: Some(self.cgroup.clone()),
            pods_cgroup: Some(self.cgroup.join("kubepods")),
            // Whether or not this machine is a node of somebody's.
            kubelet_cgroup: Some(self.cgroup.join("kubelet")),
            unknown_pods: UnknownPods::Allow,
            ..RedirectOptions::default()
        }
    }

    pub(crate) fn redirect(&self) -> Redirect {
        Redirect::load(&self.options()).expect("the programs load and attach")
    }

    /// A pod with the addresses 10.9.0.N and fd09::N, the latter in hexadecimal.
    pub(crate) fn pod(&self, number: u8) -> Pod {
        let namespace = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
            NetworkNamespace::current().expect("the new network namespace")
        });
        let namespace = namespace.join().expect("a thread in a new namespace");
        let path = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            namespace.as_fd().as_raw_fd()
        );
        ip(&format!(
            "link add pod{number} master weft0 type veth peer name eth0 netns {path}"
        ));
        ip(&format!("link set pod{number} up"));
        let inside = || {
            ip("link set lo up");
            ip(&format!("addr add 10.9.0.{number}/24 dev eth0"));
            ip(&format!("addr add fd09::{number:x}/64 dev eth0 nodad"));
            // Without link-local addresses, whose check for duplicates takes a second.
            ip("link set eth0 addrgenmode none");
            ip("link set eth0 up");
            ip("route add default via 10.9.0.1");
            ip("-6 route add default via fd09::1");
            // Carrier comes a moment later, and what IPv6 needs only then.
            let local = format!("local fd09::{number:x} ");
            eventually("the pod's interface is up", || {
                ip("addr show dev eth0").contains("state UP")
                    && ip("-6 route show table local").contains(&local)
            });
        };
        namespace
            .run(inside)
            .expect("the pod's namespace can be entered");
        Pod { namespace, number }
    }

    /// Does something as a process of a pod: sockets stay with the cgroup that they are made in.
    pub(crate) fn as_pod<T>(&self, work: impl FnOnce() -> T) -> T {
        let enter = |cgroup: &str| {
            let processes = self.cgroup.join(cgroup).join("cgroup.procs");
            fs::write(processes, "0").expect("the test's cgroup can be entered");
        };
        enter("kubepods/pod");
        let done = work();
        enter("agent");
        done
    }

    /// Kubelet connects to a listener, which takes it and is done with it.
    pub(crate) fn probe(&self, listener: &TcpListener) -> Output {
        let to = listener.local_addr().expect("a listener's address");
        let listener = listener.try_clone().expect("a free descriptor");
        std::thread::scope(|scope| {
            let kubelet = scope.spawn(|| self.helper("kubelet", &format!("dial {to}")));
            listener.set_nonblocking(true).expect("a listener");
            while !kubelet.is_finished() {
                // Nobody comes when it was refused.
                let _ = listener.accept();
                std::thread::sleep(Duration::from_millis(1));
            }
            kubelet.join().expect("a helper")
        })
    }

    /// A helper process in a cgroup of this test, in the node's network namespace.
    pub(crate) fn helper(&self, cgroup: &str, what: &str) -> Output {
        // Any test will do: the helper's task is looked at first.
        let name = "node::a_process_below_the_pods_cgroup_is_not_the_node";
        let child = rerun(name, &self.cgroup, &self.cgroup.join(cgroup), false)
            .env(HELPER, what)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the test binary runs again");
        wait(child)
    }
}

/// Runs `ip` in the calling thread's network namespace.
fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("`ip` (iproute2)");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A network namespace that stands for a pod.
pub(crate) struct Pod {
    pub(crate) namespace: NetworkNamespace,
    number: u8,
}

impl Pod {
    pub(crate) fn v4(&self) -> IpAddr {
        Ipv4Addr::new(10, 9, 0, self.number).into()
    }

    pub(crate) fn v6(&self) -> IpAddr {
        Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, self.number.into()).into()
    }

    pub(crate) fn addresses(&self) -> [IpAddr; 2] {
        [self.v4(), self.v6()]
    }

    /// Runs a closure in the pod.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        self.namespace
            .run(work)
            .expect("the pod's namespace can be entered")
    }

    /// Runs `ip` in the pod.
    pub(crate) fn ip(&self, arguments: &str) {
        let _ = self.run(|| ip(arguments));
    }

    pub(crate) fn net(&self, redirect: &Redirect) -> PodSockets {
        PodSockets::new(self.reopened(), redirect.sockets())
    }

    /// The namespace once more.
    pub(crate) fn reopened(&self) -> NetworkNamespace {
        let file = self
            .namespace
            .as_fd()
            .try_clone_to_owned()
            .expect("a free descriptor");
        NetworkNamespace::from_file(File::from(file), Path::new("a pod")).expect("a namespace")
    }
}

/// The proxy's listeners in a pod, by family.
pub(crate) struct Listeners {
    pub(crate) outbound: [TcpListener; 2],
    pub(crate) plaintext: [TcpListener; 2],
    pub(crate) hbone: [TcpListener; 2],
}

impl Listeners {
    pub(crate) fn open(net: &PodSockets) -> Self {
        let opened = weft_proxy::listen::Listeners::bind(net).expect("listeners in the pod");
        let families = |listener: weft_proxy::listen::Listener| {
            [listener.v4, listener.v6.expect("the pod has IPv6")]
        };
        Self {
            outbound: families(opened.outbound),
            plaintext: families(opened.plaintext),
            hbone: families(opened.hbone),
        }
    }

    pub(crate) fn pairs(&self) -> PodListeners<'_> {
        PodListeners {
            outbound: pair(&self.outbound),
            holds_outbound: false,
            refuses_closed_ports: false,
            plaintext: pair(&self.plaintext),
            hbone: pair(&self.hbone),
        }
    }

    /// The outbound listener that a connection to an address is handed to.
    pub(crate) fn outbound(&self, to: SocketAddr) -> &TcpListener {
        &self.outbound[usize::from(to.ip().to_canonical().is_ipv6())]
    }
}

fn pair([v4, v6]: &[TcpListener; 2]) -> ListenerPair<'_> {
    ListenerPair {
        v4: v4.as_fd(),
        v6: Some(v6.as_fd()),
    }
}

/// A pod with the proxy's listeners in it, captured.
pub(crate) struct Captured {
    pub(crate) pod: Pod,
    pub(crate) net: PodSockets,
    pub(crate) listeners: Listeners,
    pub(crate) captured: PodRedirect,
    pub(crate) sockets: Arc<SocketMaps>,
}

impl Captured {
    pub(crate) fn new(
        redirect: &Redirect,
        pod: Pod,
        mtls_mode: MtlsMode,
        excluded: &[&str],
    ) -> Self {
        let net = pod.net(redirect);
        let listeners = Listeners::open(&net);
        let exclusions = exclusions(excluded);
        let captured = redirect.capture(&PodRedirectConfig {
            namespace: &pod.namespace,
            addresses: PodAddresses::Assigned(&pod.addresses()),
            exclusions: &exclusions,
            listeners: listeners.pairs(),
            mtls_mode,
            node_access: &NodeAccess::All,
            refused_uncaptured: None,
        });
        Self::from_parts(redirect, pod, net, listeners, captured)
    }

    /// A pod whose connections are held.
    pub(crate) fn holding(redirect: &Redirect, pod: Pod) -> Self {
        let net = pod.net(redirect);
        let listeners = Listeners::open(&net);
        let captured = redirect.capture(&PodRedirectConfig {
            namespace: &pod.namespace,
            addresses: PodAddresses::Assigned(&pod.addresses()),
            exclusions: &CaptureExclusions::default(),
            listeners: PodListeners {
                holds_outbound: true,
                ..listeners.pairs()
            },
            mtls_mode: MtlsMode::Permissive,
            node_access: &NodeAccess::All,
            refused_uncaptured: None,
        });
        Self::from_parts(redirect, pod, net, listeners, captured)
    }

    /// A pod that refuses plaintext where no application listens.
    pub(crate) fn refusing(redirect: &Redirect, pod: Pod, mtls_mode: MtlsMode) -> Self {
        let net = pod.net(redirect);
        let listeners = Listeners::open(&net);
        let captured = redirect.capture(&PodRedirectConfig {
            namespace: &pod.namespace,
            addresses: PodAddresses::Assigned(&pod.addresses()),
            exclusions: &CaptureExclusions::default(),
            listeners: PodListeners {
                refuses_closed_ports: true,
                ..listeners.pairs()
            },
            mtls_mode,
            node_access: &NodeAccess::All,
            refused_uncaptured: None,
        });
        Self::from_parts(redirect, pod, net, listeners, captured)
    }

    fn from_parts(
        redirect: &Redirect,
        pod: Pod,
        net: PodSockets,
        listeners: Listeners,
        captured: Result<PodRedirect, RedirectError>,
    ) -> Self {
        let captured = captured.expect("the pod can be captured");
        Self {
            pod,
            net,
            listeners,
            captured,
            sockets: redirect.sockets(),
        }
    }

    /// Connects as the proxy does.
    pub(crate) fn connect(
        &self,
        to: SocketAddr,
        purpose: Purpose,
    ) -> io::Result<tokio::net::TcpStream> {
        block_on(sockets::connect(&self.net, to, purpose, PATIENCE))
    }

    /// The pod is strict, and open to its node so far.
    pub(crate) fn open_to_node(&mut self, node_access: &NodeAccess) {
        let update = PodRedirectConfig {
            namespace: &self.pod.namespace,
            addresses: PodAddresses::Assigned(&self.pod.addresses()),
            exclusions: &CaptureExclusions::default(),
            listeners: self.listeners.pairs(),
            mtls_mode: MtlsMode::Strict,
            node_access,
            refused_uncaptured: None,
        };
        self.captured
            .update(&update)
            .expect("the pod can be updated");
    }

    pub(crate) fn update(&mut self, mtls_mode: MtlsMode, excluded: &[&str]) {
        let update = PodRedirectConfig {
            namespace: &self.pod.namespace,
            addresses: PodAddresses::Assigned(&self.pod.addresses()),
            exclusions: &exclusions(excluded),
            listeners: self.listeners.pairs(),
            mtls_mode,
            node_access: &NodeAccess::All,
            refused_uncaptured: None,
        };
        self.captured
            .update(&update)
            .expect("the pod can be updated");
    }

    /// The application dials, the proxy accepts and says where to.
    pub(crate) fn dial(&self, to: SocketAddr) -> (TcpStream, io::Result<SocketAddr>) {
        let client = self
            .pod
            .run(|| dial(to))
            .expect("a captured connection is established");
        let accepted = accept(self.listeners.outbound(to));
        (client, self.destination(&accepted))
    }

    pub(crate) fn destination(&self, accepted: &TcpStream) -> io::Result<SocketAddr> {
        self.sockets
            .original_destination(accepted.as_fd())
            .map(|original| original.address())
    }
}

/// Ports, and blocks in CIDR notation.
pub(crate) fn exclusions(texts: &[&str]) -> CaptureExclusions {
    let mut exclusions = CaptureExclusions::default();
    for text in texts {
        match text.parse() {
            Ok(port) => exclusions.ports.push(port),
            Err(_) => exclusions
                .blocks
                .push(text.parse().expect("a port or a block")),
        }
    }
    exclusions
}

/// Connects from the calling thread's network namespace.
pub(crate) fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&to, Duration::from_secs(2))
}

/// Accepts a connection that is on its way.
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).expect("a listener");
    let mut accepted = None;
    eventually("a connection arrives", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (stream, _) = accepted.expect("accepted");
    stream.set_nonblocking(false).expect("a stream");
    stream
}

/// connect(2) with AF_UNSPEC.
pub(crate) fn disconnect(socket: &impl AsRawFd) {
    // SAFETY: an all-zero sockaddr is one of family AF_UNSPEC.
    let result = unsafe {
        let address: libc::sockaddr = std::mem::zeroed();
        libc::connect(
            socket.as_raw_fd(),
            &raw const address,
            size_of_val(&address) as u32,
        )
    };
    assert_eq!(result, 0);
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address with a port")
}

/// Runs a future to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}
