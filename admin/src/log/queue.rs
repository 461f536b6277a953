//! Lines of the log on their way to standard error. Whoever reads that may be slow, or have
//! stopped, and pods decide how many lines there are: connections never wait for it. Lines for
//! which there is no room are counted instead.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Bytes that may wait.
const MOST_WAITING: usize = 8 << 20;
/// Time for which the last lines are waited for when the program ends.
const LAST_MOMENT: Duration = Duration::from_secs(1);
/// Interval of looking whether they are written.
const PAUSE: Duration = Duration::from_millis(1);

/// Takes lines; never waits.
#[derive(Clone, Debug)]
pub(super) struct LineQueue {
    lines: Sender<Vec<u8>>,
    state: Arc<QueueState>,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

/// The thread that writes the lines. Dropped, it waits a moment for those that are on their way.
#[derive(Debug)]
pub struct LogGuard {
    state: Arc<QueueState>,
    _writer: JoinHandle<()>,
}

/// A queue that is written to `sink` from now on.
///
/// # Errors
/// When there is no thread for it.
pub(super) fn start(sink: impl Write + Send + 'static) -> io::Result<(LineQueue, LogGuard)> {
    let (sender, receiver) = channel();
    let state = Arc::<QueueState>::default();
    let of_writer = Arc::clone(&state);
    let writer = thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write_lines(&receiver, &of_writer, sink))?;
    let queue = LineQueue {
        lines: sender,
        state: Arc::clone(&state),
    };
    let guard = LogGuard {
        state,
        _writer: writer,
    };
    Ok((queue, guard))
}

fn write_lines(lines: &Receiver<Vec<u8>>, state: &QueueState, mut sink: impl Write) {
    for line in lines {
        // There is nobody left to tell.
        let _ = sink.write_all(&line);
        let dropped = state.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let loss = format!("{dropped} lines of the log had no room and are lost\n");
            let _ = sink.write_all(loss.as_bytes());
        }
        state.waiting.fetch_sub(line.len(), Ordering::Release);
    }
}

impl Write for LineQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let waiting = self.state.waiting.fetch_add(line.len(), Ordering::Relaxed);
        let sent = match waiting + line.len() <= MOST_WAITING {
            true => self.lines.send(line.to_vec()).is_ok(),
            false => false,
        };
        if !sent {
            self.state.waiting.fetch_sub(line.len(), Ordering::Relaxed);
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineQueue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let deadline = Instant::now() + LAST_MOMENT;
        while self.state.waiting.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Takes one line at a time, when it is let.
    struct SlowReader {
        turns: Receiver<()>,
        taken: SyncSender<String>,
    }

    impl Write for SlowReader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.turns.recv();
            let _ = self.taken.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_of_the_log_that_takes_nothing_holds_up_nobody_and_fills_no_memory() {
        let (turn, turns) = channel();
        let (taken, lines) = sync_channel(1024);
        let (mut queue, guard) = start(SlowReader { turns, taken }).unwrap();
        let line = vec![b'x'; 1 << 20];
        for _ in 0..20 {
            queue.write_all(&line).unwrap();
        }
        assert!(guard.state.waiting.load(Ordering::Relaxed) <= MOST_WAITING);
        // It reads again: what waited, and how much is lost.
        drop(turn);
        let loss = lines.iter().find(|line| line.contains("lines of the log"));
        assert!(loss.unwrap().starts_with("12 "));
        drop(guard);
        assert_eq!(queue.state.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_last_lines_are_written_before_the_end() {
        let (taken, lines) = sync_channel(1024);
        let (turn, turns) = channel();
        drop(turn);
        let (mut queue, guard) = start(SlowReader { turns, taken }).unwrap();
        for number in 0..100 {
            queue.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        drop(guard);
        assert_eq!(lines.try_iter().last().as_deref(), Some("99\n"));
    }
}
