//! Nodes and pods as network namespaces.
//!
//! Nodes hang on one bridge, the fabric, which carries everything that goes from node
//! to node. Pods hang behind their node on a link of their own and reach everything by
//! routes, as with most CNI plugins.
//!
//! | what | IPv4 | IPv6 |
//! | --- | --- | --- |
//! | fabric (control plane) | 10.99.0.1 | fd00:99::1 |
//! | node N | 10.99.0.(10+N) | fd00:99::(10+N) |
//! | pods of node N | 10.244.N.0/24 | fd00:10:244:N::/64 |

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::netns::Namespace;
use crate::process::Place;
use crate::run::RunId;

/// Name of the bridge that joins the nodes, in the fabric's namespace.
pub const FABRIC_BRIDGE: &str = "fabric";
/// Where pods send everything: their node, under an address that all nodes share.
const GATEWAY: (&str, &str) = ("169.254.1.1", "fe80::1");

/// A network namespace with addresses and a cgroup.
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
    addresses: [IpAddr; 2],
    place: Place,
}

impl Host {
    fn new(namespace: Namespace, addresses: [IpAddr; 2], cgroup: PathBuf) -> Self {
        let place = Place {
            namespace: namespace.path(),
            cgroup,
        };
        Self {
            namespace,
            addresses,
            place,
        }
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Where its processes run.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its IPv4 address.
    pub fn ipv4(&self) -> IpAddr {
        self.addresses[0]
    }

    /// Its IPv6 address.
    pub fn ipv6(&self) -> IpAddr {
        self.addresses[1]
    }

    /// Both, IPv4 first.
    pub fn addresses(&self) -> [IpAddr; 2] {
        self.addresses
    }
}

/// A machine of the cluster.
#[derive(Debug)]
pub struct Node {
    /// The node's own namespace; its place is for processes of the node itself.
    pub host: Host,
    /// Its name, such as `node-1`.
    pub name: String,
    number: u8,
    cgroup: PathBuf,
    /// Host number that the last pod got.
    last_pod: u8,
}

impl Node {
    /// Its number, counted from 1.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// The cgroup that holds everything on this node.
    pub fn cgroup(&self) -> &PathBuf {
        &self.cgroup
    }

    /// The cgroup that holds the cgroups of its pods.
    pub fn pods_cgroup(&self) -> PathBuf {
        self.cgroup.join("kubepods")
    }

    /// The cgroup for its kubelet.
    pub fn kubelet_cgroup(&self) -> PathBuf {
        self.cgroup.join("kubelet")
    }

    /// Where its kubelet runs.
    pub fn kubelet(&self) -> Place {
        Place {
            cgroup: self.kubelet_cgroup(),
            ..self.host.place().clone()
        }
    }
}

/// A pod: a host behind a node.
#[derive(Debug)]
pub struct Pod {
    /// The pod's own namespace.
    pub host: Host,
    /// Name of its node.
    pub node: String,
}

/// Fabric, nodes and pods; all gone when dropped, with every process in them.
#[derive(Debug)]
pub struct Topology {
    // Dropped first: with the processes go their sockets.
    cgroup: Cgroup,
    run: RunId,
    fabric: Host,
    nodes: Vec<Node>,
    pods: BTreeMap<String, Pod>,
}

impl Topology {
    /// A fabric with `count` nodes, `node-1` and so on.
    ///
    /// # Errors
    /// When the kernel or iproute2 refuses; whatever was made is removed then.
    pub fn create(count: u8) -> Result<Self> {
        let run = RunId::new()?;
        let cgroup = Cgroup::create(&run.name(""))?;
        let numbers = || 1..=count;
        let names: Vec<_> = std::iter::once(run.name("fabric"))
            .chain(numbers().map(|number| run.name(&node_name(number))))
            .collect();
        let mut namespaces = Namespace::create_all(&names)?.into_iter();
        let missing = || Error::Missing("a namespace that was just made".to_owned());
        let fabric = namespaces.next().ok_or_else(missing)?;
        let fabric = Host::new(fabric, fabric_addresses(1), cgroup.child("fabric")?);
        let mut nodes = Vec::new();
        for (number, namespace) in numbers().zip(namespaces) {
            nodes.push(node(&cgroup, number, namespace)?);
        }
        let topology = Self {
            cgroup,
            run,
            fabric,
            nodes,
            pods: BTreeMap::new(),
        };
        topology.connect()?;
        Ok(topology)
    }

    fn connect(&self) -> Result<()> {
        let mut fabric = vec![
            format!("link add {FABRIC_BRIDGE} type bridge mcast_snooping 0"),
            format!("link set {FABRIC_BRIDGE} up"),
        ];
        fabric.extend(assign(self.fabric.addresses, FABRIC_BRIDGE, [24, 64]));
        self.fabric.namespace.ip(&fabric)?;
        for node in &self.nodes {
            self.join(node)?;
        }
        self.fabric
            .namespace
            .ip(&self.routes(0).collect::<Vec<_>>())
    }

    /// Hangs a node on the fabric.
    fn join(&self, node: &Node) -> Result<()> {
        let (name, namespace) = (&node.name, node.host.namespace.name());
        self.fabric.namespace.ip(&[
            format!("link add {name} type veth peer name eth0 netns {namespace}"),
            format!("link set {name} master {FABRIC_BRIDGE} up"),
        ])?;
        let mut commands = vec!["link set eth0 up".to_owned()];
        commands.extend(assign(node.host.addresses, "eth0", [24, 64]));
        commands.extend(self.routes(node.number));
        node.host.namespace.ip(&commands)
    }

    /// Gives a node a new network namespace, as after a crash: nothing is left of its
    /// interfaces, rules and connections. Its processes have to be gone.
    ///
    /// # Errors
    /// When there is no such node, or the kernel or iproute2 refuses.
    pub fn replace_namespace(&mut self, number: u8) -> Result<()> {
        let node = self.nodes.iter_mut().find(|node| node.number == number);
        let node = node.ok_or_else(|| Error::Missing(format!("there is no node {number}")))?;
        // The link would go with the old namespace, but nobody knows when.
        let link = format!("link del {}", node.name);
        self.fabric.namespace.ip(&[link])?;
        node.host.namespace.recreate()?;
        self.join(self.node(number)?)
    }

    /// Routes to the pods of every node but one.
    fn routes(&self, except: u8) -> impl Iterator<Item = String> + '_ {
        let others = self.nodes.iter().filter(move |node| node.number != except);
        others.flat_map(|node| {
            let [pods_v4, pods_v6] = pod_blocks(node.number);
            let [v4, v6] = node.host.addresses;
            [
                format!("route add {pods_v4} via {v4}"),
                format!("route add {pods_v6} via {v6}"),
            ]
        })
    }

    /// Adds a pod to the node of that number, counted from 1.
    ///
    /// # Errors
    /// When there is no such node, or the kernel or iproute2 refuses.
    pub fn add_pod(&mut self, name: &str, node: u8) -> Result<&Pod> {
        let Some(node) = self.nodes.iter_mut().find(|known| known.number == node) else {
            return Err(Error::Missing(format!("there is no node {node}")));
        };
        node.last_pod += 1;
        let number = node.last_pod;
        let addresses = pod_addresses(node.number, number);
        let names = [self.run.name(name)];
        let mut made = Namespace::create_all(&names)?;
        let namespace = made
            .pop()
            .ok_or_else(|| Error::Missing("a namespace that was just made".to_owned()))?;
        let (link, [v4, v6]) = (format!("pod{number}"), addresses);
        let (gateway_v4, gateway_v6) = GATEWAY;
        node.host.namespace.ip(&[
            format!(
                "link add {link} type veth peer name eth0 netns {}",
                namespace.name()
            ),
            format!("link set {link} up"),
            format!("addr add {gateway_v4}/32 dev {link}"),
            format!("addr add {gateway_v6}/64 dev {link} nodad"),
            format!("route add {v4}/32 dev {link}"),
            format!("route add {v6}/128 dev {link}"),
        ])?;
        namespace.ip(&[
            "link set eth0 up".to_owned(),
            format!("addr add {v4}/32 dev eth0"),
            format!("addr add {v6}/128 dev eth0 nodad"),
            format!(
                "addr add fe80::{:x}/64 dev eth0 nodad",
                u16::from(number) + 1
            ),
            format!("route add {gateway_v4}/32 dev eth0"),
            format!("route add default via {gateway_v4} dev eth0 src {v4}"),
            format!("route add default via {gateway_v6} dev eth0 src {v6}"),
        ])?;
        let cgroup = self
            .cgroup
            .child(&format!("{}/kubepods/{name}", node.name))?;
        let pod = Pod {
            host: Host::new(namespace, addresses, cgroup),
            node: node.name.clone(),
        };
        Ok(self
            .pods
            .entry(name.to_owned())
            .insert_entry(pod)
            .into_mut())
    }

    /// Removes a pod with all its processes and its interface. The next pod of the node gets the
    /// addresses of the last one.
    ///
    /// # Errors
    /// When its processes survive.
    pub fn remove_pod(&mut self, name: &str) -> Result<()> {
        let Some(pod) = self.pods.remove(name) else {
            return Ok(());
        };
        crate::cgroup::empty(&pod.host.place.cgroup)?;
        let mut nodes = self.nodes.iter_mut();
        if let Some(node) = nodes.find(|node| node.name == pod.node)
            && pod_addresses(node.number, node.last_pod) == pod.host.addresses()
        {
            let link = format!("link del pod{}", node.last_pod);
            node.last_pod -= 1;
            return node.host.namespace.ip(&[link]);
        }
        Ok(())
    }

    /// The run that everything here belongs to.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// The network between the nodes, where the control plane runs.
    pub fn fabric(&self) -> &Host {
        &self.fabric
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node by its number, counted from 1.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, number: u8) -> Result<&Node> {
        let node = self.nodes.iter().find(|node| node.number == number);
        node.ok_or_else(|| Error::Missing(format!("there is no node {number}")))
    }

    /// A pod by its name.
    ///
    /// # Errors
    /// When there is none.
    pub fn pod(&self, name: &str) -> Result<&Pod> {
        self.pods
            .get(name)
            .ok_or_else(|| Error::Missing(format!("there is no pod {name}")))
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        for node in &self.nodes {
            // There is none where nothing was pinned.
            let _ = std::fs::remove_dir_all(self.run.pin_directory(&node.name));
        }
    }
}

fn node(cgroup: &Cgroup, number: u8, namespace: Namespace) -> Result<Node> {
    let name = node_name(number);
    cgroup.child(&format!("{name}/kubepods"))?;
    cgroup.child(&format!("{name}/kubelet"))?;
    let system = cgroup.child(&format!("{name}/system"))?;
    let host = Host::new(namespace, fabric_addresses(10 + number), system);
    let cgroup = cgroup.path().join(&name);
    Ok(Node {
        host,
        name,
        number,
        cgroup,
        last_pod: 1,
    })
}

fn node_name(number: u8) -> String {
    format!("node-{number}")
}

fn fabric_addresses(number: u8) -> [IpAddr; 2] {
    let v6 = Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0, hexadecimal(number));
    [Ipv4Addr::new(10, 99, 0, number).into(), v6.into()]
}

fn pod_addresses(node: u8, number: u8) -> [IpAddr; 2] {
    let (node_v6, number_v6) = (hexadecimal(node), hexadecimal(number));
    let v6 = Ipv6Addr::new(0xfd00, 0x10, 0x244, node_v6, 0, 0, 0, number_v6);
    [Ipv4Addr::new(10, 244, node, number).into(), v6.into()]
}

/// The group that reads like the decimal number: 12 is `::12`.
fn hexadecimal(number: u8) -> u16 {
    let (hundreds, tens, ones) = (number / 100, number / 10 % 10, number % 10);
    u16::from(hundreds) << 8 | u16::from(tens) << 4 | u16::from(ones)
}

fn pod_blocks(node: u8) -> [String; 2] {
    let [v4, v6] = pod_addresses(node, 0);
    [format!("{v4}/24"), format!("{v6}/64")]
}

fn assign(addresses: [IpAddr; 2], interface: &str, lengths: [u8; 2]) -> Vec<String> {
    let [v4, v6] = addresses;
    vec![
        format!("addr add {v4}/{} dev {interface}", lengths[0]),
        format!("addr add {v6}/{} dev {interface} nodad", lengths[1]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_number_hosts_alike() {
        let [v4, v6] = pod_addresses(2, 12);
        assert_eq!(v4.to_string(), "10.244.2.12");
        assert_eq!(v6.to_string(), "fd00:10:244:2::12");
        assert_eq!(pod_blocks(1), ["10.244.1.0/24", "fd00:10:244:1::/64"]);
    }
}
