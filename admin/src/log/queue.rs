//! Lines of the log on their way to standard error. Whoever reads that may be slow, or have
//! stopped, and pods decide how many lines there are: connections never wait for it. Lines for
//! which there is no room are counted instead.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Bytes that may wait.
const MOST_WAITING: usize = 8 << 20;
/// Time for which lines are collected before they are written: to wake the writer for each of
/// them costs more than the line. It is woken for the first of them only, and looks by itself
/// after that as long as more come.
const COLLECTED: Duration = Duration::from_millis(20);
/// Bytes that are written at once.
const CHUNK: usize = 64 << 10;
/// Time for which the last lines are waited for when the program ends.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// Takes lines; never waits for their reader.
#[derive(Clone, Debug)]
pub(super) struct LineQueue {
    shared: Arc<Shared>,
}

/// The thread that writes the lines. Dropped, it waits a moment for those that are on their way.
#[derive(Debug)]
pub struct LogGuard {
    shared: Arc<Shared>,
    _writer: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// There is something to write.
    filled: Condvar,
    /// All is written.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Bytes that the writer has taken and not written yet.
    taken: usize,
    /// Lines for which there was no room.
    dropped: u64,
    /// The writer has to be woken for the next line: a call to the kernel, whoever waits.
    is_writer_asleep: bool,
    /// Somebody waits until all is written.
    is_end_awaited: bool,
}

/// A queue that is written to `sink` from now on.
///
/// # Errors
/// When there is no thread for it.
pub(super) fn start(sink: impl Write + Send + 'static) -> io::Result<(LineQueue, LogGuard)> {
    let shared = Arc::<Shared>::default();
    let of_writer = Arc::clone(&shared);
    let writer = thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write_lines(&of_writer, sink))?;
    let queue = LineQueue {
        shared: Arc::clone(&shared),
    };
    let guard = LogGuard {
        shared,
        _writer: writer,
    };
    Ok((queue, guard))
}

fn write_lines(shared: &Shared, mut sink: impl Write) {
    let mut lines = Vec::new();
    loop {
        thread::sleep(COLLECTED);
        let dropped = shared.take(&mut lines);
        if lines.is_empty() && dropped == 0 {
            shared.wait_for_lines();
            continue;
        }
        for chunk in lines.chunks(CHUNK) {
            // There is nobody left to tell.
            let _ = sink.write_all(chunk);
            shared.wrote(chunk.len());
        }
        if dropped > 0 {
            let loss = format!("{dropped} lines of the log had no room and are lost\n");
            let _ = sink.write_all(loss.as_bytes());
        }
        lines.clear();
        lines.shrink_to(CHUNK);
    }
}

impl Shared {
    /// Whoever holds it changes a few fields: no panic leaves them half changed.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_lines(&self) {
        let mut waiting = self.lock();
        waiting.is_writer_asleep = true;
        let waited = self
            .filled
            .wait_while(waiting, |waiting| waiting.is_empty());
        let mut waiting = waited.unwrap_or_else(PoisonError::into_inner);
        waiting.is_writer_asleep = false;
    }

    /// Takes all lines into an empty buffer; returns how many others are lost.
    fn take(&self, lines: &mut Vec<u8>) -> u64 {
        let mut waiting = self.lock();
        std::mem::swap(lines, &mut waiting.lines);
        waiting.taken = lines.len();
        std::mem::take(&mut waiting.dropped)
    }

    fn wrote(&self, bytes: usize) {
        let mut waiting = self.lock();
        waiting.taken = waiting.taken.saturating_sub(bytes);
        if waiting.is_end_awaited && waiting.bytes() == 0 {
            self.emptied.notify_all();
        }
    }
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.lines.len() + self.taken
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }
}

impl Write for LineQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.shared.lock();
        match waiting.bytes() + line.len() <= MOST_WAITING {
            true => waiting.lines.extend_from_slice(line),
            false => waiting.dropped += 1,
        }
        let is_writer_asleep = std::mem::take(&mut waiting.is_writer_asleep);
        drop(waiting);
        if is_writer_asleep {
            self.shared.filled.notify_one();
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
        let mut waiting = self.shared.lock();
        waiting.is_end_awaited = true;
        while waiting.bytes() > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.emptied.wait_timeout(waiting, left);
            (waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

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
        queue.write_all(&line).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while guard.shared.lock().taken == 0 {
            assert!(Instant::now() < deadline, "nobody takes the first line");
            thread::yield_now();
        }
        for _ in 1..20 {
            queue.write_all(&line).unwrap();
        }
        assert!(guard.shared.lock().bytes() <= MOST_WAITING);
        // It reads again: what waited, and how much is lost.
        drop(turn);
        let loss = lines.iter().find(|line| line.contains("lines of the log"));
        assert!(loss.unwrap().starts_with("12 "));
        drop(guard);
        assert_eq!(queue.shared.lock().bytes(), 0);
    }

    #[test]
    fn the_writer_is_woken_for_the_first_of_many_lines_only() {
        let (taken, _lines) = sync_channel(1024);
        let (turn, turns) = channel();
        let (mut queue, guard) = start(SlowReader { turns, taken }).unwrap();
        let is_asleep = || guard.shared.lock().is_writer_asleep;
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_asleep() {
            assert!(Instant::now() < deadline, "nobody waits for lines");
            thread::yield_now();
        }
        let mut woken = 0;
        for _ in 0..1000 {
            woken += u32::from(is_asleep());
            queue.write_all(b"line\n").unwrap();
        }
        assert_eq!(woken, 1);
        drop(turn);
        // Whoever writes after all of them were written wakes it again.
        while !is_asleep() {
            assert!(Instant::now() < deadline, "nobody waits for further lines");
            thread::yield_now();
        }
        queue.write_all(b"line\n").unwrap();
        while queue.shared.lock().bytes() > 0 {
            assert!(Instant::now() < deadline, "nobody writes a further line");
            thread::yield_now();
        }
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
        let written: Vec<_> = lines.try_iter().collect();
        assert!(written.concat().ends_with("98\n99\n"));
        assert!(written.len() < 100, "each line was written alone");
    }
}
