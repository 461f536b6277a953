//! Workloads for the tests of the pods' decisions.

use std::sync::Arc;

use weft_model::SpiffeId;
use weft_model::mtls::MtlsMode;
use weft_model::workload::{CaptureExclusions, Enrolment, Workload, WorkloadLabels, WorkloadUid};

/// A pod of `node-1` that is to be captured, with the service account of its name.
pub(super) fn workload(name: &str) -> Workload {
    Workload {
        uid: WorkloadUid::from(name),
        name: name.into(),
        identity: identity(name),
        addresses: vec!["10.0.0.1".parse().unwrap()],
        node: "node-1".into(),
        enrolment: Enrolment::Pending,
        is_sidecar: false,
        mtls_mode: MtlsMode::Permissive,
        port_modes: weft_model::mtls::PortModes::default(),
        node_access: Default::default(),
        egress_mode: Default::default(),
        path_normalization: Default::default(),
        idle_limits: Default::default(),
        access_log: Arc::default(),
        exclusions: CaptureExclusions::default(),
        locality: Default::default(),
        network_namespace: "".into(),
        labels: WorkloadLabels::default(),
        network_policies: Arc::default(),
        authorization: Arc::default(),
    }
}

/// The identity of a service account of the namespace `default`.
pub(super) fn identity(account: &str) -> SpiffeId {
    let trust_domain = "cluster.local".parse().unwrap();
    SpiffeId::new(trust_domain, "default", account).unwrap()
}

/// A pod of `node-1` whose enrolment has come so far.
pub(super) fn enrolled_as(name: &str, enrolment: Enrolment) -> Arc<Workload> {
    Arc::new(Workload {
        enrolment,
        ..workload(name)
    })
}
