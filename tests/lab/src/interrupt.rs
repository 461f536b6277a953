//! Being told to stop: Ctrl-C, SIGTERM, a closed terminal.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code of a command that was interrupted, as shells have it.
pub(crate) const EXIT_CODE: i32 = 130;

/// Calls `handle` once, on a thread of its own, when this process is told to stop.
/// Programs that it starts don't inherit any of this.
///
/// # Errors
/// When the handlers can't be installed.
pub(crate) fn on_interrupt(handle: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    let signals: io::Result<Vec<_>> =
        runtime.block_on(async { kinds.map(signal).into_iter().collect() });
    let mut signals = signals?;
    std::thread::spawn(move || {
        runtime.block_on(any(&mut signals));
        handle();
    });
    Ok(())
}

async fn any(signals: &mut [Signal]) {
    std::future::poll_fn(|context| {
        let come = signals
            .iter_mut()
            .any(|signal| signal.poll_recv(context).is_ready());
        if come {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}
