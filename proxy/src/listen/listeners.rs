//! The sockets inside a pod's namespace on which its proxy takes connections.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener};

use socket2::SockRef;
use weft_model::ports::{HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT};

use crate::sockets::{Sockets, set_data_path_options};

/// A listener of one kind, in each family that the pod has.
#[derive(Debug)]
pub struct Listener {
    /// On 127.0.0.1; the one for captured connections on all of 127.0.0.0/8 where that can be.
    pub v4: TcpListener,
    /// On ::1; `None` where the namespace has no IPv6.
    pub v6: Option<TcpListener>,
}

/// The listeners inside a pod.
#[derive(Debug)]
pub struct Listeners {
    /// For the pod's own captured connections.
    pub outbound: Listener,
    /// For plaintext that arrives.
    pub plaintext: Listener,
    /// For tunnels that arrive.
    pub hbone: Listener,
}

impl Listeners {
    /// Opens the listeners; nothing reaches them until capture is set up. No application can
    /// hinder that: where one has taken a port the kernel chooses another, and hands over
    /// connections by the socket, not by its port.
    ///
    /// # Errors
    /// When one can't be opened; IPv6 may be missing.
    pub fn bind(sockets: &dyn Sockets) -> io::Result<Self> {
        Ok(Self {
            outbound: Listener {
                v4: at_port(OUTBOUND_PORT, |port| sockets.bind_to_loopback(port))?,
                v6: bind_v6(OUTBOUND_PORT, |address| sockets.bind(address))?,
            },
            plaintext: Listener::bind(sockets, INBOUND_PLAINTEXT_PORT)?,
            hbone: Listener::bind(sockets, HBONE_PORT)?,
        })
    }

    /// Resets what was not accepted yet, and frees the ports for a successor.
    pub(super) fn shut_down(&self) {
        let kinds = [&self.outbound, &self.plaintext, &self.hbone];
        let all = kinds
            .into_iter()
            .flat_map(|kind| std::iter::once(&kind.v4).chain(&kind.v6));
        for listener in all {
            // Closing wouldn't do: the accept loops hold the sockets, too.
            if let Err(error) = SockRef::from(listener).shutdown(Shutdown::Read) {
                tracing::debug!(%error, "shutting down a listener");
            }
        }
    }
}

impl Listener {
    fn bind(sockets: &dyn Sockets, port: u16) -> io::Result<Self> {
        let bind = |address: SocketAddr| sockets.bind_inbound(address);
        let v4 = at_port(port, |port| bind((Ipv4Addr::LOCALHOST, port).into()))?;
        let v6 = bind_v6(port, bind)?;
        Ok(Self { v4, v6 })
    }

    /// The sockets, for the current runtime to accept from. What they accept has their options.
    pub(super) fn accepting(&self) -> io::Result<Vec<tokio::net::TcpListener>> {
        let socket = |listener: &TcpListener| {
            set_data_path_options(listener);
            tokio::net::TcpListener::from_std(listener.try_clone()?)
        };
        std::iter::once(&self.v4)
            .chain(&self.v6)
            .map(socket)
            .collect()
    }
}

/// A listener on ::1; `None` where the namespace has no IPv6, or none on its loopback.
fn bind_v6(
    port: u16,
    bind: impl Fn(SocketAddr) -> io::Result<TcpListener>,
) -> io::Result<Option<TcpListener>> {
    match at_port(port, |port| bind((Ipv6Addr::LOCALHOST, port).into())) {
        Ok(listener) => Ok(Some(listener)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
            ) || error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Binds to a port, or to one that the kernel chooses where that one is taken.
fn at_port(port: u16, bind: impl Fn(u16) -> io::Result<TcpListener>) -> io::Result<TcpListener> {
    match bind(port) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let chosen = bind(0)?;
            tracing::info!(port, "taken in the pod; the kernel has chosen another port");
            Ok(chosen)
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_accepted_has_the_options_of_the_data_path() {
        let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        v4.set_nonblocking(true).unwrap();
        let address = v4.local_addr().unwrap();
        let listener = Listener { v4, v6: None };
        let accepting = listener.accepting().unwrap();
        let _client = tokio::net::TcpStream::connect(address).await.unwrap();
        let (accepted, _) = accepting[0].accept().await.unwrap();
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap());
        assert!(accepted.keepalive().unwrap());
        assert!(accepted.out_of_band_inline().unwrap());
        assert!(accepted.tcp_keepalive_time().unwrap() < std::time::Duration::from_secs(120));
    }
}
