//! Lines on their way to standard error: gathered in memory, and written by a thread of their own, many at a time.
//!
//! A request hands its line over and goes on; it wakes nobody while others wait, too. After each writing the thread
//! pauses for [`PAUSE`], so a busy gateway has some hundred writings a second, however many its lines are, and a line
//! stands in memory for that long at most. News is written at once, with all that came before it. Must not know what a
//! line says. Read `../log.rs` before.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How many bytes of lines may wait for a slow terminal. Beyond it lines are dropped rather than requests held up.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// How long lines are gathered before they are written.
const PAUSE: Duration = Duration::from_millis(5);

/// A buffer that has once been larger is not kept.
const BUFFER_KEPT_BYTES_MAX: usize = 1 << 20;

/// Where lines are handed over.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines(Arc<State>);

/// Writes the lines that are handed over; dropping it writes what waits, and then no more.
#[derive(Debug)]
pub(super) struct Writer {
    lines: Lines,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Mutex<Waiting>,
    /// Told when there is something for a thread that had nothing to do, and when it shall end.
    awake: Condvar,
    dropped: AtomicUsize,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    lines: usize,
    /// The thread has nothing to do, and will not look by itself.
    is_idle: bool,
    /// There is news among the lines.
    is_urgent: bool,
    is_closed: bool,
}

impl Lines {
    /// Hands over a line with its end, one of many.
    pub(super) fn put(&self, text: &[u8]) {
        self.hand_over(text, false);
    }

    fn hand_over(&self, text: &[u8], is_urgent: bool) {
        let mut waiting = self.waiting();
        if waiting.is_closed || waiting.bytes.len().saturating_add(text.len()) > WAITING_BYTES_MAX {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes.extend_from_slice(text);
        waiting.lines += 1;
        let wakes = std::mem::take(&mut waiting.is_idle) || (is_urgent && !waiting.is_urgent);
        waiting.is_urgent |= is_urgent;
        drop(waiting);
        if wakes {
            self.0.awake.notify_one();
        }
    }

    /// Lines that were dropped so far, because whoever reads was too slow or has gone.
    pub(super) fn dropped(&self) -> usize {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Begins to write the lines.
    pub(super) fn written_to(&self, out: impl Write + Send + 'static) -> io::Result<Writer> {
        let lines = self.clone();
        let thread = Builder::new().name("onceway-log".to_owned()).spawn(move || lines.write_all(out))?;
        Ok(Writer { lines: self.clone(), thread: Some(thread) })
    }

    fn write_all(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        while let Some(lines) = self.next(&mut batch) {
            if out.write_all(&batch).and_then(|()| out.flush()).is_err() {
                self.0.dropped.fetch_add(lines, Ordering::Relaxed);
            }
            batch.clear();
            batch.shrink_to(BUFFER_KEPT_BYTES_MAX);
        }
    }

    /// Waits for lines and takes all that there are in place of `batch`, which is empty. Answers how many they are;
    /// `None`: there are none and there will be no more.
    fn next(&self, batch: &mut Vec<u8>) -> Option<usize> {
        let awake = &self.0.awake;
        let may_wait = |waiting: &mut Waiting| !waiting.is_urgent && !waiting.is_closed;
        let paused = awake.wait_timeout_while(self.waiting(), PAUSE, may_wait);
        let (mut waiting, _) = paused.unwrap_or_else(PoisonError::into_inner);
        while waiting.bytes.is_empty() {
            if waiting.is_closed {
                return None;
            }
            waiting.is_idle = true;
            waiting = awake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        (waiting.is_idle, waiting.is_urgent) = (false, false);
        std::mem::swap(&mut waiting.bytes, batch);
        Some(std::mem::take(&mut waiting.lines))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each event of `tracing` comes as one write. It is news: the lines of requests come otherwise.
impl Write for Lines {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.hand_over(text, true);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.lines.waiting().is_closed = true;
        self.lines.0.awake.notify_one();
        // One that panicked has nothing more to write.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Takes what is written, and each time waits until it may go on.
    struct Slow {
        written: mpsc::Sender<Vec<u8>>,
        may_go_on: mpsc::Receiver<()>,
    }

    impl Write for Slow {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.written.send(text.to_vec()).unwrap();
            self.may_go_on.recv().ok();
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Lines, Writer, mpsc::Receiver<Vec<u8>>, mpsc::Sender<()>) {
        let (written, seen) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel();
        let lines = Lines::default();
        let writer = lines.written_to(Slow { written, may_go_on }).unwrap();
        (lines, writer, seen, go_on)
    }

    #[test]
    fn lines_that_wait_are_written_together_and_in_order() {
        let (lines, writer, seen, go_on) = slow();
        lines.put(b"one\n");
        assert_eq!(seen.recv().unwrap(), b"one\n");
        lines.put(b"two\n");
        lines.put(b"three\n");
        go_on.send(()).unwrap();
        assert_eq!(seen.recv().unwrap(), b"two\nthree\n");
        drop(go_on);
        drop(writer);
        assert_eq!(lines.dropped(), 0);
    }

    #[test]
    fn the_end_of_the_writer_writes_what_waits() {
        let (lines, writer, seen, go_on) = slow();
        drop(go_on);
        for number in 0..100 {
            lines.put(format!("{number}\n").as_bytes());
        }
        drop(writer);
        let all: Vec<u8> = seen.into_iter().flatten().collect();
        assert_eq!(all, (0..100).flat_map(|number| format!("{number}\n").into_bytes()).collect::<Vec<_>>());
        lines.put(b"too late\n");
        assert_eq!(lines.dropped(), 1);
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let (lines, writer, seen, go_on) = slow();
        lines.put(b"first\n");
        assert_eq!(seen.recv().unwrap(), b"first\n");
        lines.put(&vec![b'a'; WAITING_BYTES_MAX]);
        lines.put(b"one too many\n");
        assert_eq!(lines.dropped(), 1);
        drop(go_on);
        drop(writer);
        assert_eq!(seen.into_iter().map(|text| text.len()).sum::<usize>(), WAITING_BYTES_MAX);
    }
}
