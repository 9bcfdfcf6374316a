//! Access log lines on their way out: workers append to a bounded buffer, one thread writes it.

use std::{
    cell::RefCell,
    fmt,
    io::Write,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{AccessEntry, AccessEvent, Error, HttpRecord, LogFormat};

/// The most that may wait to be written, in bytes. Lines beyond it are dropped and counted.
const MAX_WAITING: usize = 4 << 20;
/// From this many bytes on, the writer does not gather any longer.
const EAGER: usize = 64 << 10;
/// How long the writer gathers lines after the first: at most so many writes a second, however many lines.
const GATHER: Duration = Duration::from_millis(20);

/// Which events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessDetail {
    /// How connections ended, or that they failed.
    Ends,
    /// That they were opened, too. ztunnel's `access=debug`.
    OpensAndEnds,
}

/// A worker's end of the access log. Clone one for each worker.
pub struct AccessLog {
    format: LogFormat,
    shared: Arc<Shared>,
    /// Where this worker's line is put together, outside of any lock.
    line: RefCell<Vec<u8>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Rung for the writer: there is something to do.
    work: Condvar,
    /// Rung by the writer: what was waiting is written.
    written: Condvar,
    dropped: AtomicU64,
    opens: AtomicBool,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<u8>,
    lines: u64,
    /// The writer has taken a batch and is not done with it.
    writing: bool,
    /// Somebody waits for everything to be written.
    urgent: bool,
    closed: bool,
    /// The writer is gone.
    ended: bool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccessLog {
    /// Starts the writer thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(format: LogFormat, sink: impl Write + Send + 'static) -> Result<Self, Error> {
        let shared = Arc::new(Shared::default());
        let writer = shared.clone();
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_until_closed(&writer, sink))
            .map_err(|source| Error::Thread { source })?;
        Ok(Self { format, shared, line: RefCell::default() })
    }

    /// Which events a log filter asks for: `access=debug` or more asks for the opening of connections, too.
    pub fn follow(&self, filter: &str) {
        let opens = ["access=debug", "access=trace"];
        let asked = filter.split(',').any(|directive| opens.contains(&directive.trim().to_ascii_lowercase().as_str()));
        self.set_detail(if asked { AccessDetail::OpensAndEnds } else { AccessDetail::Ends });
    }

    /// Which events are written from now on, by every worker.
    pub fn set_detail(&self, detail: AccessDetail) {
        self.shared.opens.store(detail == AccessDetail::OpensAndEnds, Relaxed);
    }

    /// Whether such an event would be written: to be asked before an entry is put together.
    pub fn wants(&self, event: AccessEvent) -> bool {
        match event {
            AccessEvent::Opened => self.shared.opens.load(Relaxed),
            AccessEvent::Complete | AccessEvent::Failed => true,
        }
    }

    /// Takes a line. Never waits for the sink: when too much is waiting, the line is dropped and counted.
    pub fn log(&self, entry: &AccessEntry<'_>) {
        if !self.wants(entry.event) {
            return;
        }
        self.take(|format, line| entry.write(format, line));
    }

    /// Takes the line of a request, as [`AccessLog::log`] does that of a connection.
    pub fn log_request(&self, record: &HttpRecord<'_>) {
        self.take(|format, line| record.write(format, line));
    }

    fn take(&self, write: impl FnOnce(LogFormat, &mut Vec<u8>)) {
        let mut line = self.line.borrow_mut();
        line.clear();
        write(self.format, &mut line);
        let mut queue = self.shared.queue();
        let before = queue.waiting.len();
        let after = before + line.len();
        if queue.closed || after > MAX_WAITING {
            self.shared.dropped.fetch_add(1, Relaxed);
            return;
        }
        queue.waiting.extend_from_slice(&line);
        queue.lines += 1;
        drop(queue);
        if before == 0 || (before < EAGER && after >= EAGER) {
            self.shared.work.notify_one();
        }
    }

    /// How many lines were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed)
    }

    /// Waits until everything logged so far is written, at most `within`. Whether it was.
    pub fn flush(&self, within: Duration) -> bool {
        let mut queue = self.shared.queue();
        queue.urgent = true;
        self.shared.work.notify_one();
        self.wait(queue, within, |queue| queue.ended || (queue.waiting.is_empty() && !queue.writing))
    }

    /// Takes no more lines from any worker, and waits until all are written, at most `within`. Whether they were.
    pub fn close(&self, within: Duration) -> bool {
        let mut queue = self.shared.queue();
        queue.closed = true;
        self.shared.work.notify_one();
        self.wait(queue, within, |queue| queue.ended)
    }

    fn wait(&self, mut queue: MutexGuard<'_, Queue>, within: Duration, done: fn(&Queue) -> bool) -> bool {
        let until = Instant::now() + within;
        while !done(&queue) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            queue = self.shared.written.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Clone for AccessLog {
    fn clone(&self) -> Self {
        Self { format: self.format, shared: self.shared.clone(), line: RefCell::default() }
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog")
            .field("format", &self.format)
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}

fn write_until_closed(shared: &Shared, mut sink: impl Write) {
    let mut batch = Vec::new();
    while let Some(lines) = next_batch(shared, &mut batch) {
        // A sink that is gone loses lines, not the data path.
        if sink.write_all(&batch).and_then(|()| sink.flush()).is_err() {
            shared.dropped.fetch_add(lines, Relaxed);
        }
        batch.clear();
        batch.shrink_to(EAGER * 2);
        shared.queue().writing = false;
        shared.written.notify_all();
    }
    shared.queue().ended = true;
    shared.written.notify_all();
}

/// Waits for lines, gathers some more, and takes them all. `None`: closed, and nothing is left.
fn next_batch(shared: &Shared, batch: &mut Vec<u8>) -> Option<u64> {
    let mut queue = shared.queue();
    while queue.waiting.is_empty() {
        if queue.closed {
            return None;
        }
        queue.urgent = false;
        queue = shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
    let until = Instant::now() + GATHER;
    while !queue.urgent && !queue.closed && queue.waiting.len() < EAGER {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        queue = shared.work.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    std::mem::swap(&mut queue.waiting, batch);
    queue.writing = true;
    Some(std::mem::take(&mut queue.lines))
}

#[cfg(test)]
mod tests;
