//! Connections of one pod, as the walks open them today.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

pub use crate::sockets::{Purpose, Sockets};

/// The sockets of one pod, with a way to connect them.
pub trait Net: Sockets {
    /// A connection from the pod's namespace that is itself never captured.
    ///
    /// # Errors
    /// Whatever the kernel answers.
    fn connect(
        &self,
        to: SocketAddr,
        purpose: Purpose,
    ) -> impl Future<Output = io::Result<TcpStream>> + Send {
        async move { self.socket(to, purpose)?.connect(to).await }
    }
}

impl<S: Sockets> Net for S {}
