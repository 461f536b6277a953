//! A descriptor that is kept for the moment when the process has no other left.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Mutex;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use crate::sync::lock;

/// The spare descriptor of a process. With it a connection is accepted just to be refused: its
/// client would wait in vain otherwise, and its listener be woken for it again and again.
#[derive(Debug)]
pub(crate) struct SpareDescriptor(Mutex<Option<File>>);

impl Default for SpareDescriptor {
    fn default() -> Self {
        Self(Mutex::new(open()))
    }
}

impl SpareDescriptor {
    /// Accepts a connection that waits and has it refused. False when there was none, or the
    /// spare descriptor is lost for now.
    pub(crate) fn refuse_one(
        &self,
        listener: &TcpListener,
        refuse: impl FnOnce(TcpStream, SocketAddr),
    ) -> bool {
        let mut spare = lock(&self.0);
        let Some(kept) = spare.take() else {
            *spare = open();
            return false;
        };
        drop(kept);
        let refused = accept(listener).map(|(accepted, peer)| refuse(accepted, peer));
        *spare = open();
        refused.is_some()
    }
}

/// Nothing that is ever read.
fn open() -> Option<File> {
    File::open("/dev/null").ok()
}

fn accept(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    let (accepted, peer) = SockRef::from(listener).accept().ok()?;
    accepted.set_nonblocking(true).ok()?;
    let accepted = TcpStream::from_std(accepted.into()).ok()?;
    Some((accepted, peer.as_socket()?))
}
