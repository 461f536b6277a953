//! Connections to what is neither a service nor a pod: external services, and whatever
//! else an application may reach.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use weft_model::detect::authority::requested_authority;
use weft_model::detect::client_hello::MAX_CLIENT_HELLO_LENGTH;
use weft_model::egress::EgressMode;
use weft_model::external::{ExternalAddress, MatchedExternalService};
use weft_model::mesh::{Candidate, Mesh, Transport};
use weft_model::service::{Service, ServiceKind};
use weft_model::workload::Workload;

use super::destination::Destination;
use crate::error::OutboundError;
use crate::shared::Shared;
use crate::sniff;

/// How long a client may take to say whom it wants when it may go on without. Those that
/// speak first do at once, and a server that does is held up no longer.
const FIRST_WORD: Duration = Duration::from_millis(500);

/// Where a connection goes that the mesh has no address for.
pub(super) async fn find<N>(
    shared: &Shared<N>,
    source: &Workload,
    accepted: &TcpStream,
    address: SocketAddr,
) -> Result<Destination, OutboundError> {
    let mesh = shared.store.snapshot();
    let found = match mesh.external_service_by_address(source.namespace(), address) {
        Some(external) => Some(external),
        None => by_name(shared, &mesh, source, accepted, address).await?,
    };
    if let Some(external) = found {
        return Ok(Destination {
            candidates: candidates(shared, &mesh, &external).await?,
            service: Some(Arc::new(as_service(&external))),
            port: None,
            is_unregistered: false,
        });
    }
    let is_unregistered = !mesh.is_endpoint_address(address.ip());
    if is_unregistered && source.egress_mode == EgressMode::RegisteredOnly {
        return Err(OutboundError::EgressDenied(address));
    }
    Ok(Destination {
        is_unregistered,
        ..Destination::at(Candidate::outside_mesh(address))
    })
}

/// The external service that the client asks for by name. It is listened to only on ports
/// where clients of external services speak first.
async fn by_name<N>(
    shared: &Shared<N>,
    mesh: &Mesh,
    source: &Workload,
    accepted: &TcpStream,
    address: SocketAddr,
) -> Result<Option<MatchedExternalService>, OutboundError> {
    let namespace = source.namespace();
    if !mesh.has_external_service_by_host(namespace, address) {
        return Ok(None);
    }
    let limit = match source.egress_mode {
        EgressMode::AllowAny => FIRST_WORD,
        EgressMode::RegisteredOnly => shared.settings.handshake_timeout,
    };
    let heard = sniff::peek(accepted, MAX_CLIENT_HELLO_LENGTH, requested_authority);
    let Ok(heard) = tokio::time::timeout(limit, heard).await else {
        return Ok(None);
    };
    let Some(requested) = heard.map_err(sniff::SniffError::Io)?.flatten() else {
        return Ok(None);
    };
    Ok(mesh.external_service_by_host(namespace, address, &requested))
}

/// The places where an external service is.
async fn candidates<N>(
    shared: &Shared<N>,
    mesh: &Mesh,
    external: &MatchedExternalService,
) -> Result<Vec<Candidate>, OutboundError> {
    let addresses = match external.address() {
        ExternalAddress::Addresses(addresses) => addresses,
        ExternalAddress::DnsName { name, port } => {
            let failed = |error| OutboundError::Resolve(Arc::clone(&name), error);
            let limit = shared.settings.connect_timeout;
            let looked_up = tokio::time::timeout(limit, lookup_host((&*name, port))).await;
            let late = |_| std::io::ErrorKind::TimedOut.into();
            looked_up.map_err(late).flatten().map_err(failed)?.collect()
        }
    };
    let mut candidates = Vec::new();
    for address in addresses {
        let candidate = mesh.candidate_for_address(&shared.node, address)?;
        candidates.push(match (external.tls_origination(), candidate.workload()) {
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

/// As metrics and the access log know it.
fn as_service(external: &MatchedExternalService) -> Service {
    let hostname = external.hostname();
    Service {
        key: external.service.key.clone(),
        hostname: Arc::clone(&hostname),
        kind: ServiceKind::External(hostname),
        ports: Vec::new(),
    }
}
