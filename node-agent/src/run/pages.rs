//! The agent's pages: where they are served, and until when.

use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weft_proxy::admin::{self, Endpoint, Limits};

use super::args::RunArguments;
use super::error::RunError;
use crate::admin::AdminPages;

/// Where the agent's pages are served.
pub(super) struct PageListeners {
    admin: TcpListener,
    monitoring: Option<TcpListener>,
    probes: Option<TcpListener>,
}

impl PageListeners {
    pub(super) async fn open(arguments: &RunArguments) -> Result<Self, RunError> {
        let admin = listen(arguments.admin, "--admin").await?;
        if !arguments.admin.ip().is_loopback() {
            tracing::warn!(address = %arguments.admin, "the admin endpoint is open to the network, without authentication");
        }
        Ok(Self {
            admin,
            monitoring: listen_where_set(arguments.monitoring, "--monitoring").await?,
            probes: listen_where_set(arguments.probes, "--probes").await?,
        })
    }

    /// Probes are answered by this thread, so that one that is stuck fails them; everything
    /// else by another, so that nobody who asks keeps this one from its work.
    pub(super) fn serve(self, pages: AdminPages) -> io::Result<ServedPages> {
        let AdminPages {
            probes,
            monitoring,
            all,
        } = pages;
        let mut here = JoinSet::new();
        if let Some(listener) = self.probes {
            here.spawn(admin::serve(Endpoint::new(
                listener,
                probes,
                Limits::PROBES,
            )));
        }
        let mut apart = vec![Endpoint::new(self.admin, all, Limits::OPERATOR)];
        if let Some(listener) = self.monitoring {
            apart.push(Endpoint::new(listener, monitoring, Limits::MONITORING));
        }
        let end = CancellationToken::new();
        let apart = admin::serve_apart_until(apart, end.clone().cancelled_owned())?;
        Ok(ServedPages {
            here,
            end,
            apart: Some(apart),
        })
    }
}

/// Pages that are served until they are ended, or the process is.
pub(super) struct ServedPages {
    here: JoinSet<()>,
    end: CancellationToken,
    apart: Option<JoinHandle<()>>,
}

impl ServedPages {
    /// Frees their addresses for a successor.
    pub(super) async fn end(&mut self) {
        self.end.cancel();
        self.here.shutdown().await;
        if let Some(apart) = self.apart.take() {
            // A thread that has panicked serves nothing either.
            let _ = tokio::task::spawn_blocking(move || apart.join()).await;
        }
    }
}

async fn listen_where_set(
    address: Option<SocketAddr>,
    option: &'static str,
) -> Result<Option<TcpListener>, RunError> {
    match address {
        Some(address) => listen(address, option).await.map(Some),
        None => Ok(None),
    }
}

async fn listen(address: SocketAddr, option: &'static str) -> Result<TcpListener, RunError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| RunError::Listen {
        address,
        option,
        error,
    })
}
