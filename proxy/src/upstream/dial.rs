//! Connecting to a candidate, the way that leads there.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use weft_model::mesh::{Candidate, Transport};
use weft_model::workload::Workload;

use super::connection::UpstreamConnection;
use super::error::DialError;
use super::same_node::{Neighbours, SameNodeArrival};
use super::tls::Originations;
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
}

impl Dialer {
    /// Connects to a candidate on behalf of `client`, the application's end of a connection
    /// of the pod `source`.
    ///
    /// # Errors
    /// When the endpoint, or the proxy of the pod behind it, doesn't take the connection.
    pub(crate) async fn dial(
        &self,
        candidate: &Candidate,
        source: &Arc<Workload>,
        client: SocketAddr,
    ) -> Result<UpstreamConnection, DialError> {
        let address = candidate.address;
        match &candidate.transport {
            Transport::Plaintext { .. } => {
                let stream = Stream::Tcp(self.connect(address).await?);
                Ok(UpstreamConnection::new(stream))
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
                let tcp = self.connect(address).await?;
                let limit = self.settings.handshake_timeout;
                let stream = self
                    .originations
                    .connect(origination, server_name, &[], tcp, limit);
                let stream = Stream::Tls(Box::new(stream.await?.into()));
                Ok(UpstreamConnection::new(stream))
            }
        }
    }

    async fn connect(&self, address: SocketAddr) -> Result<TcpStream, DialError> {
        let limit = self.settings.connect_timeout;
        let connected = sockets::connect(&*self.sockets, address, Purpose::Upstream, limit).await;
        connected.map_err(DialError::Connect)
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
