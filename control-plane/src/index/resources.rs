//! The resources as they go over the wire, each with its version.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use prost::Message;
use weft_model::mesh::Change;
use weft_proto::v1::{Resource, ResourceKind, resource};

/// Bytes of a content hash that make a version.
const VERSION_BYTES: usize = 12;

/// Kind and name, ordered so that no resource comes before what it refers to:
/// workloads, services, endpoints.
pub(crate) type ResourceKey = (ResourceKind, String);

/// One resource with its version.
#[derive(Clone, Debug)]
pub(crate) struct Versioned {
    /// What it is.
    pub(crate) change: Change,
    /// A hash of its content: the same from every replica and after every restart.
    pub(crate) version: String,
    /// As it goes over the wire.
    pub(crate) message: Resource,
}

/// Everything that agents are told, at one moment.
#[derive(Debug, Default)]
pub(crate) struct Resources {
    by_key: BTreeMap<ResourceKey, Versioned>,
}

impl Resources {
    pub(super) fn new(changes: Vec<Change>) -> Self {
        let entry = |change: Change| {
            let (kind, name) = weft_proto::kind_and_name(&change);
            let content = match &change {
                Change::Workload(workload) => resource::Resource::Workload(workload.into()),
                Change::Service(service) => resource::Resource::Service(service.into()),
                Change::Endpoint(endpoint) => resource::Resource::Endpoint(endpoint.into()),
                Change::WorkloadGone(_) | Change::ServiceGone(_) | Change::EndpointGone(_) => {
                    return None;
                }
            };
            let mut message = Resource {
                name: name.clone(),
                version: String::new(),
                resource: Some(content),
            };
            let version = version(&message.encode_to_vec());
            message.version.clone_from(&version);
            Some((
                (kind, name),
                Versioned {
                    change,
                    version,
                    message,
                },
            ))
        };
        Self {
            by_key: changes.into_iter().filter_map(entry).collect(),
        }
    }

    /// The resource of that kind and name.
    pub(crate) fn get(&self, key: &ResourceKey) -> Option<&Versioned> {
        self.by_key.get(key)
    }

    /// All, in the order in which they may be applied.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ResourceKey, &Versioned)> {
        self.by_key.iter()
    }

    /// The workloads among them.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = &weft_model::workload::Workload> {
        self.by_key
            .values()
            .filter_map(|versioned| match &versioned.change {
                Change::Workload(workload) => Some(workload),
                _ => None,
            })
    }
}

fn version(content: &[u8]) -> String {
    let hash = digest(&SHA256, content);
    hash.as_ref()
        .iter()
        .take(VERSION_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
