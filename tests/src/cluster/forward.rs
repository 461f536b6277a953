//! A port of this machine's loopback that leads into a network namespace.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::mpsc::channel;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::netns::Namespace;

/// Forwards while it lives. It needs no process of its own and no interface of this
/// machine: the listening socket stays in the namespace it was made in, and a thread
/// in the other namespace connects.
#[derive(Debug)]
pub(super) struct Forwarder {
    address: SocketAddr,
    // Its end is the thread's end.
    _stop: oneshot::Sender<()>,
}

impl Forwarder {
    /// Forwards from a free port to an address inside the namespace.
    ///
    /// # Errors
    /// When the namespace can't be entered or no port is free.
    pub(super) fn start(into: &Namespace, to: SocketAddr) -> Result<Self> {
        let failed = || Error::system("forward a port to the API server");
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed())?;
        let address = listener.local_addr().map_err(failed())?;
        listener.set_nonblocking(true).map_err(failed())?;
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = channel();
        let enter = into.entrance()?;
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = enter
                .enter()
                .and_then(|()| runtime.map_err(Error::system("start a runtime")));
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener);
                let listener = listener.map_err(Error::system("listen on the forwarded port"));
                match listener {
                    Ok(listener) => {
                        let _ = ready.send(Ok(()));
                        tokio::select! {
                            () = forward(listener, to) => {}
                            _ = stopped => {}
                        }
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        });
        let gone = |_| Error::Missing("the thread that forwards a port is gone".to_owned());
        started.recv().map_err(gone)??;
        Ok(Self {
            address,
            _stop: stop,
        })
    }

    /// The port on this machine.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn forward(listener: TcpListener, to: SocketAddr) {
    loop {
        // What fails here fails for the client, which sees its connection closed.
        let Ok((mut client, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        tokio::spawn(async move {
            if let Ok(mut server) = TcpStream::connect(to).await {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}
