//! ExternalService: a service outside the cluster that the mesh is told of.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_model::external::ExternalProtocol;

/// A service outside the cluster: by which names and addresses workloads reach it, and
/// what is done on the way. It is there for the workloads of its own namespace; for those
/// of all namespaces when it is in the control plane's.
#[allow(
    clippy::duplicated_attributes,
    reason = "each column says of what type it is"
)]
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "ExternalService",
    plural = "externalservices",
    shortname = "extsvc",
    category = "weft",
    namespaced,
    status = "ExternalServiceStatus",
    derive = "PartialEq",
    doc = "A service outside the cluster. It is there for the workloads of its own namespace; for those of all namespaces when it is in the control plane's.",
    printcolumn(
        name = "Hosts",
        type_ = "string",
        json_path = ".spec.hosts",
        description = "The names that clients ask for."
    ),
    printcolumn(
        name = "TLS",
        type_ = "string",
        json_path = ".spec.tls.mode",
        description = "Whether the proxy speaks TLS for the application."
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status",
        description = "Whether the mesh follows it."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new(
    "self.ports.all(port, port.protocol != 'TCP') || (has(self.addresses) && self.addresses.size() > 0)"
).message(
    "clients of protocol TCP don't say whom they want: a port of that protocol needs spec.addresses"
))]
pub(crate) struct ExternalServiceSpec {
    /// DNS names in lower case; `*.` and a name stands for all names below that one.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 255)))]
    pub(crate) hosts: Vec<String>,
    /// Addresses or blocks (`192.0.2.0/24`) that clients connect to. Left out, clients are
    /// recognized by the name that they ask for: by the Host of HTTP, by the server name
    /// of TLS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 64)))]
    pub(crate) addresses: Vec<String>,
    /// Ports of the service.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) ports: Vec<ExternalPortSpec>,
    /// Addresses where it is. Left out, it is at the address that the client connects to,
    /// or, where clients are recognized by name, where DNS says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 45)))]
    pub(crate) endpoints: Vec<String>,
    /// TLS that the proxy speaks for an application that doesn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<ExternalTlsSpec>,
}

/// A port of an external service.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ExternalPortSpec {
    /// The port that clients connect to.
    #[schemars(range(min = 1, max = 65535))]
    pub(crate) number: i32,
    /// Name of the port.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub(crate) name: String,
    /// What clients speak.
    pub(crate) protocol: ProtocolSpec,
    /// The port at the other end; the same when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub(crate) target_port: Option<i32>,
}

/// What clients speak on a port: `HTTP` in the clear, `HTTPS` and `TLS` by their own TLS,
/// `TCP` for anything.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum ProtocolSpec {
    Http,
    Https,
    Tls,
    Tcp,
}

impl From<ProtocolSpec> for ExternalProtocol {
    fn from(protocol: ProtocolSpec) -> Self {
        match protocol {
            ProtocolSpec::Http => Self::Http,
            ProtocolSpec::Https => Self::Https,
            ProtocolSpec::Tls => Self::Tls,
            ProtocolSpec::Tcp => Self::Tcp,
        }
    }
}

/// TLS that the proxy speaks for an application that doesn't.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ExternalTlsSpec {
    /// `None` (the default) passes on what the application sends, `Originate` sends it by
    /// TLS.
    #[serde(default)]
    pub(crate) mode: TlsModeSpec,
    /// The name to ask for; the one that the client asked for, or the first of the hosts,
    /// when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub(crate) server_name: Option<String>,
    /// Names of which the server's certificate has to have one; the name that is asked for
    /// when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub(crate) subject_alt_names: Vec<String>,
    /// Roots (PEM) that the server's certificate has to be from; those of the proxy's
    /// platform when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262144))]
    pub(crate) ca_certificates: Option<String>,
}

/// Whether the proxy speaks TLS for the application.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub(crate) enum TlsModeSpec {
    #[default]
    None,
    Originate,
}

/// What became of it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExternalServiceStatus {
    /// `Accepted`: whether the mesh follows this object as of `observedGeneration`.
    #[serde(default)]
    pub(crate) conditions: Vec<Condition>,
}
