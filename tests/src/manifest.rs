//! A directory of Kubernetes documents, one object a file, as the control plane's
//! standalone source reads it.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Where a pod's proxy is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Shape {
    /// In the agent of its node.
    #[default]
    Node,
    /// In the pod itself.
    Sidecar,
}

/// What is said about a pod beside what its topology says.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// Name; also its service account's.
    pub name: String,
    /// Number of its node, counted from 1.
    pub node: u8,
    /// Whether it opts in.
    pub enrolled: bool,
    /// Labels, for selectors.
    pub labels: BTreeMap<String, String>,
    /// Annotations beside those that say whether it opts in and where it is.
    pub annotations: BTreeMap<String, String>,
    /// Named ports.
    pub ports: Vec<(String, u16)>,
    /// Its readiness probe, null where it has none.
    pub readiness_probe: Value,
    /// Where its proxy is.
    pub shape: Shape,
    /// Its sidecar shows the application its clients' addresses.
    pub by_tproxy: bool,
}

impl PodSpec {
    /// An opted-in pod.
    pub fn new(name: &str, node: u8) -> Self {
        let labels = BTreeMap::from([("app".to_owned(), name.to_owned())]);
        Self {
            name: name.to_owned(),
            node,
            enrolled: true,
            labels,
            annotations: BTreeMap::new(),
            ports: Vec::new(),
            readiness_probe: Value::Null,
            shape: Shape::default(),
            by_tproxy: false,
        }
    }

    /// The same, left out of the mesh.
    #[must_use]
    pub fn outside(mut self) -> Self {
        self.enrolled = false;
        self
    }

    /// The same with its proxy there.
    #[must_use]
    pub fn shape(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self
    }

    /// The same with a sidecar that captures by TPROXY.
    #[must_use]
    pub fn tproxy(self) -> Self {
        Self {
            by_tproxy: true,
            ..self.shape(Shape::Sidecar)
        }
    }

    /// The same with a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The same with a named port.
    #[must_use]
    pub fn port(mut self, name: &str, number: u16) -> Self {
        self.ports.push((name.to_owned(), number));
        self
    }

    /// The same with an annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The same, accepting mutual TLS only.
    #[must_use]
    pub fn strict(self) -> Self {
        self.annotation("weft.dev/mtls-mode", "strict")
    }

    /// The same with a readiness probe.
    #[must_use]
    pub fn readiness_probe(mut self, probe: Value) -> Self {
        self.readiness_probe = probe;
        self
    }

    /// Its document, for a pod that is at these addresses in this network namespace.
    pub(crate) fn document(&self, node: &str, namespace: &str, addresses: [IpAddr; 2]) -> Value {
        let mut annotations = self.annotations.clone();
        let enrolled = if self.enrolled { "enabled" } else { "disabled" };
        annotations.insert("weft.dev/mesh".to_owned(), enrolled.to_owned());
        annotations.insert("weft.dev/netns".to_owned(), namespace.to_owned());
        let addresses = addresses.map(|address| json!({ "ip": address }));
        let ports = self.ports.iter();
        let ports = ports.map(|(name, number)| json!({ "name": name, "containerPort": number }));
        let ports: Vec<_> = ports.collect();
        let app = json!({
            "name": "app",
            "image": "app",
            "ports": ports,
            "readinessProbe": self.readiness_probe,
        });
        let containers = match self.shape {
            Shape::Node => vec![app],
            Shape::Sidecar => vec![
                json!({ "name": "weft-proxy", "image": "weft-sidecar" }),
                app,
            ],
        };
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.name,
                "namespace": "default",
                "labels": self.labels,
                "annotations": annotations,
            },
            "spec": {
                "nodeName": node,
                "serviceAccountName": self.name,
                "containers": containers,
            },
            "status": {
                "phase": "Running",
                "podIP": addresses[0]["ip"],
                "podIPs": addresses,
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        })
    }
}

/// A service over the pods that a label selects.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// Name.
    pub name: String,
    /// Its cluster addresses; none makes it headless.
    pub cluster_ips: Vec<String>,
    /// Value of the label `app` that its pods have.
    pub app: String,
    /// Ports: the service's and the pods'.
    pub ports: Vec<(u16, u16)>,
    /// What the names of its ports begin with: the protocol that they declare.
    pub protocol: &'static str,
}

impl ServiceSpec {
    fn document(&self) -> Value {
        let ports = self.ports.iter().map(|(port, target)| {
            json!({ "name": format!("{}-{port}", self.protocol), "port": port, "targetPort": target, "protocol": "TCP" })
        });
        let mut spec = json!({
            "selector": { "app": self.app },
            "ports": ports.collect::<Vec<_>>(),
        });
        match self.cluster_ips.first() {
            Some(first) => {
                spec["clusterIP"] = json!(first);
                spec["clusterIPs"] = json!(self.cluster_ips);
            }
            None => spec["clusterIP"] = json!("None"),
        }
        let metadata = json!({ "name": self.name, "namespace": "default" });
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec })
    }
}

/// The directory.
#[derive(Debug)]
pub struct Manifests {
    directory: PathBuf,
}

impl Manifests {
    /// An empty directory at that path.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn create(directory: PathBuf) -> Result<Self> {
        let failed = Error::system(format!("create {}", directory.display()));
        fs::create_dir_all(&directory).map_err(failed)?;
        Ok(Self { directory })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes a service's document.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_service(&self, service: &ServiceSpec) -> Result<()> {
        self.write(&format!("service-{}", service.name), &service.document())
    }

    /// Writes the mesh's own settings.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_mesh_config(&self, mtls_mode: &str) -> Result<()> {
        let document = json!({
            "apiVersion": "weft.dev/v1alpha1",
            "kind": "MeshConfig",
            "metadata": { "name": "default" },
            "spec": { "trustDomain": "cluster.local", "mtls": { "mode": mtls_mode } },
        });
        self.write("mesh-config", &document)
    }

    /// Writes a service outside the cluster: its `spec`.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_external_service(&self, name: &str, spec: &Value) -> Result<()> {
        let document = json!({
            "apiVersion": "weft.dev/v1alpha1",
            "kind": "ExternalService",
            "metadata": { "name": name, "namespace": "default" },
            "spec": spec,
        });
        self.write(&format!("external-{name}"), &document)
    }

    /// Writes a NetworkPolicy: its `spec`.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_network_policy(&self, name: &str, spec: &Value) -> Result<()> {
        let document = json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": { "name": name, "namespace": "default" },
            "spec": spec,
        });
        self.write(&format!("network-policy-{name}"), &document)
    }

    /// Writes an AuthorizationPolicy of the namespace of all pods.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_authorization_policy(&self, name: &str, spec: &Value) -> Result<()> {
        let document = json!({
            "apiVersion": "weft.dev/v1alpha1",
            "kind": "AuthorizationPolicy",
            "metadata": { "name": name, "namespace": "default" },
            "spec": spec,
        });
        self.write(&format!("authorization-policy-{name}"), &document)
    }

    /// Writes a namespace with annotations.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_namespace(&self, name: &str, annotations: &Value) -> Result<()> {
        let document = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": name, "annotations": annotations },
        });
        self.write(&format!("namespace-{name}"), &document)
    }

    /// Writes a document at once: nobody sees half of it.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, name: &str, document: &Value) -> Result<()> {
        let path = self.path(name);
        let unfinished = self.directory.join(format!(".{name}.unfinished"));
        let failed = || Error::system(format!("write {}", path.display()));
        fs::write(&unfinished, format!("{document:#}\n")).map_err(failed())?;
        fs::rename(&unfinished, &path).map_err(failed())
    }

    /// Removes a document.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        fs::remove_file(&path).map_err(Error::system(format!("remove {}", path.display())))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_says_where_it_is_and_whether_it_opts_in() {
        let addresses = ["10.244.1.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let pod = PodSpec::new("web", 1).strict().outside();
        let document = pod.document("node-1", "weft-web", addresses);
        let annotations = &document["metadata"]["annotations"];
        assert_eq!(annotations["weft.dev/mesh"], "disabled");
        assert_eq!(annotations["weft.dev/netns"], "weft-web");
        assert_eq!(annotations["weft.dev/mtls-mode"], "strict");
        assert_eq!(document["status"]["podIPs"][1]["ip"], "fd00::2");
    }

    #[test]
    fn a_service_without_addresses_is_headless() {
        let service = ServiceSpec {
            name: "web".into(),
            cluster_ips: vec![],
            app: "web".into(),
            ports: vec![(80, 8080)],
            protocol: "tcp",
        };
        assert_eq!(service.document()["spec"]["clusterIP"], "None");
    }
}
