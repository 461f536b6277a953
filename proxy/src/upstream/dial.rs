//! Connecting to a candidate, the way that leads there.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpStream;
use weft_model::mesh::{Candidate, Transport};
use weft_model::workload::Workload;

use super::connection::UpstreamConnection;
use super::error::DialError;
use super::same_node::{Neighbours, SameNodeArrival};
use super::tls::Originations;
use crate::admission::{DescriptorShare, PodDescriptors};
use crate::settings::Settings;
use crate::sockets::{self, Purpose, Sockets};
use crate::stream::Stream;
use crate::tunnel::{TunnelPeer, TunnelPool};

/// Opens the connections of one pod, from its own network namespace.
#[derive(Debug)]
pub(crate) struct Dialer {
    pub(crate) sockets: Arc<dyn Sockets>,
    /// Its connections to the proxies of peers.
    pub(crate) tunnels: TunnelPool,
    pub(crate) originations: Arc<Originations>,
    pub(crate) neighbours: Arc<Neighbours>,
    pub(crate) settings: Settings,
    /// What its connections have of the process's.
    pub(crate) descriptors: Arc<PodDescriptors>,
}

impl Dialer {
    /// Connects to a candidate on behalf of `client`, the application's end of a connection
    /// of the pod `source`; without a tunnel, from the address `bound` where there is one.
    ///
    /// # Errors
    /// When the endpoint, or the proxy of the pod behind it, doesn't take the connection.
    pub(crate) async fn dial(
        &self,
        candidate: &Candidate,
        source: &Arc<Workload>,
        client: SocketAddr,
        bound: Option<IpAddr>,
    ) -> Result<UpstreamConnection, DialError> {
        let address = candidate.address;
        match &candidate.transport {
            Transport::Plaintext { .. } => {
                let (tcp, descriptor) = self.connect(bound, address).await?;
                Ok(UpstreamConnection::new(Stream::Tcp(tcp)).with_descriptor(descriptor))
            }
            Transport::Tunnel { workload, gateway } => {
                self.tunnel(address, workload, *gateway, client).await
            }
            Transport::SameNode { workload, gateway } => match self.neighbours.get(&workload.uid) {
                Some(inbound) => {
                    let arrival = SameNodeArrival {
                        source: Arc::clone(source),
                        client,
                        destination: address,
                    };
                    Ok(inbound.hand_over(arrival).await?)
                }
                // Captured, but not by this process (any more): whoever has the pod now
                // answers at its HBONE port.
                None => self.tunnel(address, workload, *gateway, client).await,
            },
            Transport::Tls {
                origination,
                server_name,
            } => {
                let (tcp, descriptor) = self.connect(bound, address).await?;
                let limit = self.settings.handshake_timeout;
                let stream = self
                    .originations
                    .connect(origination, server_name, &[], tcp, limit);
                let stream = Stream::Tls(Box::new(stream.await?.into()));
                Ok(UpstreamConnection::new(stream).with_descriptor(descriptor))
            }
        }
    }

    async fn connect(
        &self,
        bound: Option<IpAddr>,
        to: SocketAddr,
    ) -> Result<(TcpStream, DescriptorShare), DialError> {
        let descriptor = self.descriptors.take().ok_or(DialError::NoDescriptor)?;
        let (sockets, limit) = (&*self.sockets, self.settings.connect_timeout);
        let connected = sockets::connect_from(sockets, bound, to, Purpose::Upstream, limit);
        let connected = connected.await.map_err(DialError::Connect)?;
        Ok((connected, descriptor))
    }

    async fn tunnel(
        &self,
        destination: SocketAddr,
        workload: &Workload,
        gateway: SocketAddr,
        client: SocketAddr,
    ) -> Result<UpstreamConnection, DialError> {
        let peer = TunnelPeer {
            identity: workload.identity.clone(),
            gateway,
            workload: workload.uid.clone(),
        };
        let opened = self
            .tunnels
            .open(&*self.sockets, &peer, destination, client)
            .await?;
        Ok(UpstreamConnection::new(Stream::Tunnel(opened)))
    }
}
