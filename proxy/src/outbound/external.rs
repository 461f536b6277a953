//! Connections to what is neither a service nor a pod: external services, and whatever
//! else an application may reach.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use weft_model::egress::EgressMode;
use weft_model::external::{ExternalAddress, MatchedExternalService};
use weft_model::mesh::{Candidate, Transport};
use weft_model::service::{Service, ServiceKind};

use super::connection::OutboundConnection;
use super::destination::Destination;
use super::error::OutboundError;
use crate::detect::{PrefixedStream, read_requested_host};

/// How long a client may take to say whom it wants when it may go on without. Those that
/// speak first do at once, and a server that does is held up no longer.
const FIRST_WORD: Duration = Duration::from_millis(500);

/// Finds out where a connection goes that the mesh has no address for.
pub(super) async fn resolve(
    connection: &OutboundConnection,
    downstream: Option<&mut PrefixedStream>,
    address: SocketAddr,
) -> Result<Destination, OutboundError> {
    let OutboundConnection { mesh, workload, .. } = connection;
    let matched = match mesh.external_service_by_address(workload.namespace(), address) {
        Some(matched) => Some(matched),
        None => match_by_name(connection, downstream, address).await?,
    };
    if let Some(matched) = matched {
        return Ok(Destination {
            candidates: candidates(connection, &matched).await?,
            service: Some(Arc::new(as_service(&matched))),
            port: None,
            is_unregistered: false,
        });
    }
    let is_unregistered = !mesh.is_endpoint(address);
    if is_unregistered && workload.egress_mode == EgressMode::RegisteredOnly {
        return Err(OutboundError::EgressDenied(address));
    }
    Ok(Destination {
        is_unregistered,
        ..Destination::endpoint(Candidate::outside_mesh(address))
    })
}

/// The external service that the client asks for by name. Its first bytes are awaited only
/// on ports where clients of external services speak first.
async fn match_by_name(
    connection: &OutboundConnection,
    downstream: Option<&mut PrefixedStream>,
    address: SocketAddr,
) -> Result<Option<MatchedExternalService>, OutboundError> {
    let OutboundConnection {
        pod,
        mesh,
        workload,
        ..
    } = connection;
    let namespace = workload.namespace();
    if !mesh.has_external_service_by_host(namespace, address) {
        return Ok(None);
    }
    let limit = match workload.egress_mode {
        EgressMode::AllowAny => FIRST_WORD,
        EgressMode::RegisteredOnly => pod.node.settings.handshake_timeout,
    };
    let downstream = downstream.ok_or(OutboundError::Undecided)?;
    let requested = read_requested_host(downstream, limit).await?;
    Ok(requested
        .and_then(|requested| mesh.external_service_by_host(namespace, address, &requested)))
}

/// The endpoints of an external service.
async fn candidates(
    connection: &OutboundConnection,
    matched: &MatchedExternalService,
) -> Result<Vec<Candidate>, OutboundError> {
    let node = &connection.pod.node;
    let addresses = match matched.address() {
        ExternalAddress::Addresses(addresses) => addresses,
        ExternalAddress::DnsName { name, port } => {
            let failed = |error| OutboundError::Resolve(Arc::clone(&name), error);
            let limit = node.settings.connect_timeout;
            let found = connection.pod.names.addresses(&name, limit).await;
            let found = found.map_err(failed)?;
            let at = |address: &IpAddr| SocketAddr::new(*address, port);
            found.iter().map(at).collect()
        }
    };
    let mut candidates = Vec::new();
    for address in addresses {
        let candidate = connection.mesh.candidate_for_address(&node.name, address)?;
        candidates.push(match (matched.tls_origination(), candidate.workload()) {
            (Some((origination, server_name)), None) => Candidate {
                transport: Transport::Tls {
                    origination: Arc::clone(origination),
                    server_name,
                },
                ..candidate
            },
            // A pod is reached as pods are.
            _ => candidate,
        });
    }
    Ok(candidates)
}

/// The external service as metrics and the access log know it.
fn as_service(matched: &MatchedExternalService) -> Service {
    let hostname = matched.hostname();
    let key = matched.service.key.clone();
    Service::new(key, Arc::clone(&hostname), ServiceKind::External(hostname))
}
