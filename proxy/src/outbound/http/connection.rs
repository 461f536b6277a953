//! A client's connection that carries requests: what all its requests share.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use weft_model::mesh::{Candidate, DialledService};
use weft_model::service::Service;
use weft_model::{Mesh, NamespacedName, OriginalDestination};

use crate::http::broken_response::ResponseBreak;
use crate::http::half_close::ClientEnd;
use crate::http::interim::InterimResponses;
use crate::http::pool::BoundConnections;
use crate::http::upgrade::UpgradeTasks;
use crate::outbound::connection::{BoundSource, OutboundConnection};
use crate::pod::Pod;
use crate::sync::lock;
use crate::telemetry::ConnectionInfo;

/// Endpoints whose [`ConnectionInfo`] is kept for a client's connection.
const CACHED_INFOS: usize = 64;

/// A client's connection that carries requests. It keeps no snapshot: each request takes
/// its own.
#[derive(Debug)]
pub(super) struct ClientConnection {
    pub(super) pod: Arc<Pod>,
    /// The application's end, with the pod's address.
    pub(super) client: SocketAddr,
    /// The address that the application has bound.
    pub(super) bound_source: BoundSource,
    /// The destination that it dialled.
    pub(super) original: OriginalDestination,
    /// The service of that address.
    pub(super) service: Arc<Service>,
    /// The port of that service.
    pub(super) port: u16,
    /// Where changes of protocol are begun.
    pub(super) upgrades: UpgradeTasks,
    /// The connections to endpoints that belong to it, once it has logged in.
    pub(super) bound: BoundConnections,
    /// Responses ahead of the final one, to a client of HTTP/1.
    pub(super) interim: InterimResponses,
    /// The end of the client's side, while a request of HTTP/1 is under way.
    pub(super) end: ClientEnd,
    /// Told a client of HTTP/1 when the response to it breaks off.
    pub(super) response_break: ResponseBreak,
    infos: Mutex<Vec<CachedInfo>>,
}

/// An endpoint of a service, and what telemetry knows of requests to it.
#[derive(Debug)]
struct CachedInfo {
    candidate: Option<Candidate>,
    service: NamespacedName,
    info: Arc<ConnectionInfo>,
}

impl ClientConnection {
    /// A connection to a service, of which no request was read yet.
    pub(super) fn new(
        connection: OutboundConnection,
        dialled: DialledService,
        upgrades: UpgradeTasks,
    ) -> Self {
        Self {
            pod: connection.pod,
            client: connection.client,
            bound_source: connection.bound_source,
            original: connection.original,
            service: dialled.service,
            port: dialled.port,
            upgrades,
            bound: BoundConnections::default(),
            interim: InterimResponses::default(),
            end: ClientEnd::default(),
            response_break: ResponseBreak::default(),
            infos: Mutex::default(),
        }
    }

    /// What telemetry knows of a request to an endpoint of a service.
    pub(super) fn info(
        &self,
        mesh: &Mesh,
        candidate: Option<&Candidate>,
        service: &NamespacedName,
    ) -> Arc<ConnectionInfo> {
        let mut infos = lock(&self.infos);
        let is_it = |cached: &&CachedInfo| {
            cached.candidate.as_ref() == candidate && cached.service == *service
        };
        if let Some(cached) = infos.iter().find(is_it) {
            return Arc::clone(&cached.info);
        }
        let workload = self.pod.workload(mesh);
        let known = mesh.service(service).unwrap_or(&self.service);
        let (client, original) = (self.client, Some(self.original));
        let info = ConnectionInfo::outbound(&workload, client, original, candidate, Some(known));
        let info = Arc::new(info);
        if infos.len() >= CACHED_INFOS {
            infos.clear();
        }
        infos.push(CachedInfo {
            candidate: candidate.cloned(),
            service: service.clone(),
            info: Arc::clone(&info),
        });
        info
    }
}
