//! One connection that arrives for a pod, as the inbound walk hands it on from phase to
//! phase.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use weft_model::Mesh;
use weft_model::authorization::PlaintextGrant;
use weft_model::detect::protocol::DeclaredProtocol;
use weft_model::idle::IdleTimeouts;
use weft_model::node_access::ProbePort;
use weft_model::workload::Workload;

use super::authorization_policies::{PodPolicies, PolicySubject};
use super::authorize::{Credentials, Grant};
use super::error::InboundError;
use super::under_way::RequestsUnderWay;
use crate::pod::Pod;
use crate::policy_verdict::{AuthorizationVerdict, PolicyVerdict};
use crate::telemetry::{ConnectionInfo, ConnectionRecord, Hop, Peer, Security, StillAllowed};
use crate::traffic::RateLimitedClient;

/// A connection that arrives: for which address of the pod, from whom.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    /// The pod.
    pub(super) pod: Arc<Pod>,
    /// The one snapshot that everything about this connection is decided by.
    pub(super) mesh: Arc<Mesh>,
    /// The pod as that snapshot knows it.
    pub(super) workload: Arc<Workload>,
    pub(super) credentials: Credentials,
    /// The client, as the application will see it.
    pub(super) client: SocketAddr,
    /// The pod that the client is, where the mesh knows it.
    pub(super) source: Option<Arc<Workload>>,
    /// Address and port of the pod that it is for.
    pub(super) destination: SocketAddr,
    /// When it came.
    pub(super) began: Instant,
    /// Its requests, where they are looked at.
    pub(super) under_way: Arc<RequestsUnderWay>,
}

impl Arrival {
    /// A connection that arrives now. The source is found by its address.
    pub(super) fn new(
        pod: &Arc<Pod>,
        credentials: Credentials,
        client: SocketAddr,
        destination: SocketAddr,
    ) -> Self {
        let mesh = pod.node.store.snapshot();
        Self {
            workload: pod.workload(&mesh),
            source: mesh.workload_by_address(client.ip()).map(Arc::clone),
            pod: Arc::clone(pod),
            mesh,
            credentials,
            client,
            destination,
            began: Instant::now(),
            under_way: Arc::default(),
        }
    }

    /// Whether it may reach the pod, and what it may carry.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) fn authorize(&self) -> Result<Grant, InboundError> {
        let (credentials, workload) = (&self.credentials, &self.workload);
        let plaintext = credentials.authorize(workload, self.destination)?;
        let (client, port) = (self.client.ip(), self.destination.port());
        credentials.authorize_by_network_policy(&self.mesh, workload, client, port)?;
        self.authorize_by_policies(plaintext)
    }

    /// AuthorizationPolicies come last: they decide about everything but what kubelet may ask.
    fn authorize_by_policies(&self, plaintext: PlaintextGrant) -> Result<Grant, InboundError> {
        if let PlaintextGrant::Probes(_) = plaintext {
            return Ok(Grant::new(plaintext, false));
        }
        let is_http = self.is_for_http();
        let port = self.destination.port();
        let exemption = self.credentials.exemption(&self.workload, port);
        // Who only may be kubelet is decided about as anybody; denied, it may still probe.
        let may_see_requests = is_http && (exemption.is_none() || !self.credentials.is_of_node());
        let subject = self.policy_subject();
        match (subject.authorize(&self.mesh, may_see_requests), exemption) {
            (Ok(admitted), _) => {
                // Of the node's requests nobody has a record, unless something depends on them.
                let is_looked_at = !self.credentials.is_of_node() || admitted.depends_on_requests;
                Ok(Grant {
                    plaintext,
                    sees_requests: is_http && is_looked_at,
                    note: admitted.note,
                })
            }
            (Err(_), Some(exempt)) => Ok(Grant::new(exempt, false)),
            (Err(denied), None) => Err(denied.into()),
        }
    }

    /// What policies see of it.
    pub(super) fn policy_subject(&self) -> PolicySubject {
        let (client, port) = (self.client.ip(), self.destination.port());
        let identity = self.credentials.identity();
        PolicySubject::new(
            self.pod.last_known(),
            &self.pod.tokens,
            identity,
            client,
            port,
        )
    }

    /// The client as rate limits count it: a workload that the mesh knows by the address that the
    /// connection comes from, if that is who it has proven to be.
    pub(super) fn rate_limited_client(&self) -> RateLimitedClient {
        if let Credentials::SameNode { workload, .. } = &self.credentials {
            return RateLimitedClient::Workload(workload.clone());
        }
        let identity = self.credentials.identity();
        let is_proven =
            |source: &&Arc<Workload>| identity.is_none_or(|proven| *proven == source.identity);
        match (self.source.as_ref().filter(is_proven), identity) {
            (Some(source), _) => RateLimitedClient::Workload(source.uid.clone()),
            (None, Some(identity)) => RateLimitedClient::Identity(identity.clone()),
            (None, None) => RateLimitedClient::stranger(self.client.ip()),
        }
    }

    /// The probes that its client may send whatever policies say, if it is kubelet.
    pub(super) fn exempt_probes(&self) -> Option<ProbePort> {
        let port = self.destination.port();
        match self.credentials.exemption(&self.workload, port)? {
            PlaintextGrant::Probes(port) => Some(port),
            _ => None,
        }
    }

    /// The same question, to be asked again whenever the mesh changes: whether it may still
    /// carry what was granted.
    pub(super) fn still_allowed(&self, granted: &Grant) -> StillAllowed {
        let (granted, sees_requests) = (granted.plaintext.clone(), granted.sees_requests);
        let (subject, by_authorization) = (self.policy_subject(), AuthorizationVerdict::default());
        let (credentials, destination) = (self.credentials.clone(), self.destination);
        let (client, port) = (self.client.ip(), self.destination.port());
        let by_policy = PolicyVerdict::default();
        let (under_way, node) = (Arc::clone(&self.under_way), Arc::clone(&self.pod.node));
        Box::new(move |mesh: &Mesh, now: &Arc<Workload>| {
            let source = credentials.source(mesh, client);
            let ends = by_policy.ends(mesh, now, source, || {
                credentials.authorize_by_network_policy(mesh, now, client, port)
            });
            let grant = credentials.authorize(now, destination);
            let grant = grant.ok().filter(|grant| grant.includes(&granted));
            let exemption = credentials.exemption(now, port);
            let is_exempt = exemption.is_some_and(|exempt| exempt.includes(&granted));
            let is_revoked = match subject.policies(mesh) {
                PodPolicies::Known(policies) if !is_exempt => {
                    by_authorization.ends(&policies, |now| subject.is_revoked(now, sees_requests))
                }
                _ => false,
            };
            let is_allowed = !ends && !is_revoked && grant.is_some();
            if is_allowed && sees_requests {
                // Some may have come by a newer snapshot than this.
                under_way.revoke_denied(&subject, &node.store.snapshot());
            }
            is_allowed
        })
    }

    /// The services of that port declare it as HTTP.
    fn is_for_http(&self) -> bool {
        let declared = self
            .mesh
            .declared_protocol(&self.workload.uid, self.destination.port());
        matches!(declared, DeclaredProtocol::Http | DeclaredProtocol::Http2)
    }

    /// How long it may be silent.
    pub(super) fn idle_timeouts(&self) -> IdleTimeouts {
        let port = self.destination.port();
        let limits = self.mesh.inbound_idle_limits(&self.workload, port);
        limits.timeouts(self.pod.node.settings.idle)
    }

    /// What telemetry knows of it.
    pub(super) fn info(&self) -> ConnectionInfo {
        let (security, hop) = match &self.credentials {
            Credentials::MutualTls { .. } => (Security::MutualTls, Hop::CrossNode),
            Credentials::SameNode { .. } => (Security::SameNode, Hop::SameNode),
            Credentials::Plaintext { .. } => (Security::Plaintext, Hop::Outside),
        };
        let source = Peer::from_address(self.source.as_ref(), self.client);
        let source = match self.credentials.identity() {
            Some(identity) => source.with_identity(identity.clone()),
            None => source,
        };
        let port = self.destination.port();
        // Where the whole node is let in, or may be anybody, nobody tells probes from the rest.
        let exemption = self.credentials.exemption(&self.workload, port);
        let is_declared = matches!(exemption, Some(PlaintextGrant::Probes(_)));
        let is_probe = is_declared && self.credentials.is_of_node();
        ConnectionInfo {
            is_probe,
            ..ConnectionInfo::inbound(&self.workload, source, self.destination, security, hop)
        }
    }

    /// The record of a tunnel connection of whose client nothing is proven.
    pub(super) fn unidentified(
        pod: &Arc<Pod>,
        peer: SocketAddr,
        connection: SocketAddr,
    ) -> ConnectionRecord {
        let workload = pod.workload(&pod.node.store.snapshot());
        let source = Peer::from_address(None, peer);
        let (security, hop) = (Security::MutualTls, Hop::CrossNode);
        let info = ConnectionInfo::inbound(&workload, source, connection, security, hop);
        ConnectionRecord::start(&pod.telemetry, Arc::new(info), Instant::now())
    }

    /// Begins its record.
    pub(super) fn record(&self) -> ConnectionRecord {
        let info = Arc::new(self.info());
        ConnectionRecord::start(&self.pod.telemetry, info, self.began)
    }
}
