//! Workloads on the wire.

use std::sync::Arc;

use weft_model::egress::EgressMode;
use weft_model::identity::{InvalidIdentity, SpiffeId};
use weft_model::route::path::PathNormalization;
use weft_model::workload::{
    CaptureExclusions, Enrolment, Locality, Workload, WorkloadLabels, WorkloadUid,
};

use crate::access_log;
use crate::address::{InvalidAddress, address_bytes, parse_address, parse_port};
use crate::authorization;
use crate::idle;
use crate::mtls::{self, InvalidMtlsModes};
use crate::network_policy::{membership, membership_message};
use crate::node_access::{self, node_access};
use crate::v1;

/// The reason why a message is not a workload.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidWorkload {
    /// A field that must not be empty is.
    #[error("field {0} is empty")]
    Missing(&'static str),
    /// Trust domain, namespace or service account.
    #[error(transparent)]
    Identity(#[from] InvalidIdentity),
    /// One of the addresses.
    #[error("field addresses: {0}")]
    Address(InvalidAddress),
    /// One of the excluded blocks.
    #[error("field exclusions.blocks: {0}")]
    Block(InvalidAddress),
    /// One of the excluded ports.
    #[error("field exclusions.ports: {0} is not a port")]
    Port(u32),
    /// One of the named ports.
    #[error("field network_policies.ports: {0} is not a port")]
    NamedPort(u32),
    /// Mutual TLS modes.
    #[error(transparent)]
    MtlsModes(#[from] InvalidMtlsModes),
    /// An enumeration's value that this version doesn't know.
    #[error("field {0} has a value that this version doesn't know: {1}")]
    Unknown(&'static str, i32),
}

impl TryFrom<v1::Workload> for Workload {
    type Error = InvalidWorkload;

    fn try_from(message: v1::Workload) -> Result<Self, Self::Error> {
        let enrolment = enrolment(message.enrolment)?;
        let (mtls_mode, port_modes) = mtls::modes(&message)?;
        for (field, value) in [
            ("uid", &message.uid),
            ("name", &message.name),
            ("node", &message.node),
        ] {
            if value.is_empty() {
                return Err(InvalidWorkload::Missing(field));
            }
        }
        let addresses = message.addresses.iter().map(|bytes| parse_address(bytes));
        let addresses = addresses
            .collect::<Result<Vec<_>, _>>()
            .map_err(InvalidWorkload::Address)?;
        let trust_domain = message.trust_domain.parse()?;
        let network_policies = message.network_policies.unwrap_or_default();
        let network_policies = membership(network_policies, &message.namespace);
        Ok(Self {
            uid: WorkloadUid::from(message.uid.as_str()),
            name: message.name.into(),
            identity: SpiffeId::new(trust_domain, &message.namespace, &message.service_account)?,
            addresses,
            node: message.node.into(),
            locality: Locality {
                region: message.region.into(),
                zone: message.zone.into(),
            },
            enrolment,
            is_sidecar: message.sidecar,
            mtls_mode,
            port_modes,
            node_access: node_access(message.node_access),
            egress_mode: egress_mode(message.egress_mode)?,
            path_normalization: path_normalization(message.path_normalization)?,
            idle_limits: message.idle_limits.unwrap_or_default().into(),
            access_log: Arc::new(access_log::settings(message.access_log.unwrap_or_default())),
            exclusions: exclusions(message.exclusions.unwrap_or_default())?,
            network_namespace: message.network_namespace.into(),
            labels: WorkloadLabels {
                workload: message.workload_name.into(),
                app: message.app.into(),
                version: message.app_version.into(),
            },
            network_policies: network_policies
                .map(Arc::new)
                .map_err(InvalidWorkload::NamedPort)?,
            authorization: Arc::new(authorization::membership(message.authorization)),
        })
    }
}

impl From<&Workload> for v1::Workload {
    fn from(workload: &Workload) -> Self {
        let Workload {
            exclusions,
            labels,
            identity,
            ..
        } = workload;
        Self {
            uid: workload.uid.to_string(),
            name: workload.name.to_string(),
            namespace: identity.namespace().to_owned(),
            service_account: identity.service_account().to_owned(),
            trust_domain: identity.trust_domain().to_string(),
            addresses: workload.addresses.iter().map(address_bytes).collect(),
            node: workload.node.to_string(),
            enrolment: match workload.enrolment {
                Enrolment::Outside => v1::Enrolment::Outside,
                Enrolment::Pending => v1::Enrolment::Pending,
                Enrolment::Captured => v1::Enrolment::Captured,
            }
            .into(),
            sidecar: workload.is_sidecar,
            mtls_mode: mtls::strictest(workload),
            egress_mode: match workload.egress_mode {
                EgressMode::AllowAny => v1::EgressMode::AllowAny,
                EgressMode::RegisteredOnly => v1::EgressMode::RegisteredOnly,
            }
            .into(),
            path_normalization: path_normalization_message(workload.path_normalization).into(),
            idle_limits: idle::message(workload.idle_limits),
            access_log: access_log::message(&workload.access_log),
            exclusions: (*exclusions != CaptureExclusions::default()).then(|| {
                v1::CaptureExclusions {
                    ports: exclusions
                        .ports
                        .iter()
                        .map(|port| u32::from(*port))
                        .collect(),
                    blocks: exclusions
                        .blocks
                        .iter()
                        .map(v1::AddressBlock::from)
                        .collect(),
                }
            }),
            network_namespace: workload.network_namespace.to_string(),
            workload_name: labels.workload.to_string(),
            app: labels.app.to_string(),
            app_version: labels.version.to_string(),
            region: workload.locality.region.to_string(),
            zone: workload.locality.zone.to_string(),
            network_policies: membership_message(&workload.network_policies),
            node_access: Some(node_access::message(&workload.node_access)),
            authorization: authorization::membership_message(&workload.authorization),
            mtls_modes: mtls::modes_message(workload),
        }
    }
}

/// An unknown value is refused: taking it for the nearest known one could let
/// plaintext through where a newer control plane meant otherwise.
fn enrolment(value: i32) -> Result<Enrolment, InvalidWorkload> {
    match v1::Enrolment::try_from(value) {
        Ok(v1::Enrolment::Outside) => Ok(Enrolment::Outside),
        Ok(v1::Enrolment::Pending) => Ok(Enrolment::Pending),
        Ok(v1::Enrolment::Captured) => Ok(Enrolment::Captured),
        Ok(v1::Enrolment::Unspecified) => Err(InvalidWorkload::Missing("enrolment")),
        Err(_) => Err(InvalidWorkload::Unknown("enrolment", value)),
    }
}

/// Whoever doesn't know of it means the default.
fn egress_mode(value: i32) -> Result<EgressMode, InvalidWorkload> {
    match v1::EgressMode::try_from(value) {
        Ok(v1::EgressMode::AllowAny | v1::EgressMode::Unspecified) => Ok(EgressMode::AllowAny),
        Ok(v1::EgressMode::RegisteredOnly) => Ok(EgressMode::RegisteredOnly),
        Err(_) => Err(InvalidWorkload::Unknown("egress_mode", value)),
    }
}

/// Whoever doesn't know of it means the default.
fn path_normalization(value: i32) -> Result<PathNormalization, InvalidWorkload> {
    match v1::PathNormalization::try_from(value) {
        Ok(v1::PathNormalization::Strict | v1::PathNormalization::Unspecified) => {
            Ok(PathNormalization::Strict)
        }
        Ok(v1::PathNormalization::None) => Ok(PathNormalization::None),
        Ok(v1::PathNormalization::Base) => Ok(PathNormalization::Base),
        Ok(v1::PathNormalization::MergeSlashes) => Ok(PathNormalization::MergeSlashes),
        Ok(v1::PathNormalization::DecodeAndMergeSlashes) => {
            Ok(PathNormalization::DecodeAndMergeSlashes)
        }
        Err(_) => Err(InvalidWorkload::Unknown("path_normalization", value)),
    }
}

fn path_normalization_message(normalization: PathNormalization) -> v1::PathNormalization {
    match normalization {
        PathNormalization::Strict => v1::PathNormalization::Strict,
        PathNormalization::None => v1::PathNormalization::None,
        PathNormalization::Base => v1::PathNormalization::Base,
        PathNormalization::MergeSlashes => v1::PathNormalization::MergeSlashes,
        PathNormalization::DecodeAndMergeSlashes => v1::PathNormalization::DecodeAndMergeSlashes,
    }
}

fn exclusions(message: v1::CaptureExclusions) -> Result<CaptureExclusions, InvalidWorkload> {
    let ports = message
        .ports
        .iter()
        .map(|n| parse_port(*n).ok_or(InvalidWorkload::Port(*n)));
    let blocks = message.blocks.into_iter().map(TryInto::try_into);
    Ok(CaptureExclusions {
        ports: ports.collect::<Result<_, _>>()?,
        blocks: blocks
            .collect::<Result<_, _>>()
            .map_err(InvalidWorkload::Block)?,
    })
}

#[cfg(test)]
mod tests;
