//! Discovery resources from the wire: refused or applied, never a panic, and a
//! snapshot always resolves.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use weft_model::authorization_policy::Source;
use weft_model::{Change, Mesh, OriginalDestination};
use weft_proto::v1::DiscoveryResponse;

fuzz_target!(|bytes: &[u8]| {
    let Ok(response) = DiscoveryResponse::decode(bytes) else { return };
    let mut mesh = Mesh::default();
    for resource in response.changed {
        if let Ok(change) = Change::try_from(resource) {
            mesh.apply(change);
        }
    }
    for removed in &response.removed {
        if let Ok(change) = weft_proto::removal(removed.kind(), &removed.name) {
            mesh.apply(change);
        }
    }
    let source = Source { identity: None, address: [10, 0, 0, 1].into() };
    for workload in mesh.workloads() {
        if let Some(policies) = mesh.authorization_policies(&workload.uid) {
            let _ = policies.connection(&source, 80);
        }
    }
    let addresses: Vec<_> = mesh.workloads().flat_map(|w| w.addresses.clone()).collect();
    for address in addresses {
        let _ = mesh.resolve("node", "default", OriginalDestination::new((address, 80).into()));
    }
});
