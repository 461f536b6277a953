//! A mesh of any size, as manifests.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

/// Pods behind each Service.
const PODS_PER_SERVICE: usize = 20;
/// Services in each namespace, and in each file.
const SERVICES_PER_NAMESPACE: usize = 25;

/// How large a mesh is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) pods: usize,
    pub(crate) nodes: usize,
}

impl Size {
    /// How many resources agents are told: pods, services and endpoints.
    pub(crate) fn resources(self) -> usize {
        2 * self.pods + self.pods.div_ceil(PODS_PER_SERVICE)
    }
}

pub(crate) fn node(number: usize) -> String {
    format!("node-{number}")
}

/// Writes pods, services and their slices.
pub(crate) fn write(directory: &Path, size: Size) -> io::Result<()> {
    let services: Vec<_> = (0..size.pods.div_ceil(PODS_PER_SERVICE)).collect();
    for (namespace, services) in services.chunks(SERVICES_PER_NAMESPACE).enumerate() {
        let mut text = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{ name: ns-{namespace}, labels: {{ weft.dev/mesh: enabled }} }}\n"
        );
        for service in services {
            let first = service * PODS_PER_SERVICE;
            let pods: Vec<_> = (first..size.pods.min(first + PODS_PER_SERVICE)).collect();
            for pod in &pods {
                let _ = write!(
                    text,
                    "---\napiVersion: v1\nkind: Pod\n\
                     metadata: {{ name: web-{pod}, namespace: ns-{namespace}, uid: 6f1c7a52-0000-4000-8000-{pod:012} }}\n\
                     spec: {{ nodeName: {}, serviceAccountName: web-{service}, containers: [] }}\n\
                     status: {{ podIP: {} }}\n",
                    node(pod % size.nodes),
                    address(*pod),
                );
            }
            let _ = write!(
                text,
                "---\napiVersion: v1\nkind: Service\nmetadata: {{ name: web-{service}, namespace: ns-{namespace} }}\n\
                 spec: {{ clusterIP: 10.96.{}.{}, ports: [{{ port: 80 }}] }}\n",
                service / 250,
                service % 250 + 1,
            );
            if *service != 0 {
                text.push_str("---\n");
                text.push_str(&slice(namespace, *service, &pods, true));
            }
        }
        fs::write(directory.join(format!("ns-{namespace}.yaml")), text)?;
    }
    write_first_slice(directory, size, true)
}

/// The slice of the first Service, alone in its file: whether its first endpoint is
/// ready is what changes.
pub(crate) fn write_first_slice(directory: &Path, size: Size, ready: bool) -> io::Result<()> {
    let pods: Vec<_> = (0..size.pods.min(PODS_PER_SERVICE)).collect();
    let fresh = directory.join(".slice.yaml");
    fs::write(&fresh, slice(0, 0, &pods, ready))?;
    fs::rename(fresh, directory.join("slice.yaml"))
}

/// Name of the resource that changes with the first slice.
pub(crate) fn changing_endpoint() -> String {
    format!("ns-0/web-0/{}", address(0))
}

fn slice(namespace: usize, service: usize, pods: &[usize], first_ready: bool) -> String {
    let mut text = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
         metadata: {{ name: web-{service}-x, namespace: ns-{namespace}, labels: {{ kubernetes.io/service-name: web-{service} }} }}\n\
         ports: [{{ port: 8080 }}]\nendpoints:\n"
    );
    for (index, pod) in pods.iter().enumerate() {
        let _ = writeln!(
            text,
            "- {{ addresses: [{}], conditions: {{ ready: {} }}, targetRef: {{ kind: Pod, name: web-{pod} }} }}",
            address(*pod),
            index > 0 || first_ready,
        );
    }
    text
}

fn address(pod: usize) -> String {
    format!(
        "10.{}.{}.{}",
        128 + pod / 62_500,
        pod / 250 % 250,
        pod % 250 + 1
    )
}
