//! The proxy's listeners, as the tables refer to them.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use socket2::SockRef;

/// One of the proxy's listeners, in a pod's namespace.
#[derive(Clone, Copy, Debug)]
pub struct ListenerPair<'a> {
    /// Bound to an IPv4 address.
    pub v4: BorrowedFd<'a>,
    /// Bound to an IPv6 address; absent where the namespace has no IPv6.
    pub v6: Option<BorrowedFd<'a>>,
}

/// The proxy's listeners in a pod's namespace. The kernel forgets a listener by
/// itself when it is closed, so none of its descriptors may be kept by others.
#[derive(Clone, Copy, Debug)]
pub struct PodListeners<'a> {
    /// Takes everything that isn't HBONE.
    pub plaintext: ListenerPair<'a>,
    /// Takes connections to the HBONE port.
    pub hbone: ListenerPair<'a>,
    /// Takes the pod's own connections.
    pub outbound: ListenerPair<'a>,
    /// They are held there until somebody answers at their destinations.
    pub holds_outbound: bool,
    /// Plaintext to ports where no application listens is refused before they take it.
    pub refuses_closed_ports: bool,
}

/// Cookies of a pod's outbound listeners, zero where its connections aren't held.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct OutboundCookies {
    pub(super) v4: [u8; 8],
    pub(super) v6: [u8; 8],
}

/// A pod's outbound listeners, as its programs need to know them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct OutboundListeners {
    pub(super) cookies: OutboundCookies,
    /// Port of the one for IPv4; zero where there is none.
    pub(super) port_v4: u16,
    /// The same for IPv6.
    pub(super) port_v6: u16,
    /// The one for IPv4 takes connections to all loopback addresses.
    pub(super) is_spread: bool,
}

impl PodListeners<'_> {
    /// The outbound listeners on which connections are held.
    pub(super) fn holding(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let pair = self.holds_outbound.then_some(&self.outbound).into_iter();
        pair.flat_map(|pair| std::iter::once(pair.v4).chain(pair.v6))
    }

    /// The outbound listeners, where they are; without cookies.
    pub(super) fn outbound(&self) -> io::Result<OutboundListeners> {
        let address = |socket: &BorrowedFd<'_>| {
            let address = SockRef::from(socket).local_addr()?.as_socket();
            address.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        };
        let v4 = address(&self.outbound.v4)?;
        let v6 = self.outbound.v6.as_ref().map(address).transpose()?;
        Ok(OutboundListeners {
            cookies: OutboundCookies::default(),
            port_v4: v4.port(),
            port_v6: v6.map_or(0, |address| address.port()),
            is_spread: v4.ip().is_unspecified(),
        })
    }

    /// Their cookies.
    pub(super) fn outbound_cookies(&self) -> io::Result<OutboundCookies> {
        if !self.holds_outbound {
            return Ok(OutboundCookies::default());
        }
        let pair = &self.outbound;
        let cookie = |socket: &BorrowedFd<'_>| {
            let cookie = SockRef::from(socket).cookie()?;
            Ok::<_, io::Error>(cookie.to_ne_bytes())
        };
        Ok(OutboundCookies {
            v4: cookie(&pair.v4)?,
            v6: pair
                .v6
                .as_ref()
                .map(cookie)
                .transpose()?
                .unwrap_or_default(),
        })
    }

    /// Plaintext and HBONE listener for an address.
    pub(super) fn descriptors_for(&self, address: IpAddr) -> (Option<RawFd>, Option<RawFd>) {
        let choose = |pair: &ListenerPair<'_>| match address.is_ipv4() {
            true => Some(pair.v4.as_raw_fd()),
            false => pair.v6.map(|fd| fd.as_raw_fd()),
        };
        (choose(&self.plaintext), choose(&self.hbone))
    }
}
