//! Being told to stop: the first time gently, the second time at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The exit code of a process that was stopped by SIGTERM before it was done.
const EXIT_CODE: i32 = 143;

/// Becomes true at the first SIGTERM or SIGINT; the second one ends the process.
///
/// # Errors
/// When the signals can't be caught.
pub fn stop() -> std::io::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if sender.send_replace(true) {
                tracing::warn!("told to stop twice; exiting at once");
                std::process::exit(EXIT_CODE);
            }
            tracing::info!("told to stop");
        }
    });
    Ok(receiver)
}
