//! How long nothing has happened: one coarse clock for a worker, and a meter on each client's connection, looked at a few times a second. So that no
//! request arms a timer of its own.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

/// The time since the engine began, as of the last tick.
#[derive(Debug, Default)]
pub(crate) struct Clock(Cell<Duration>);

impl Clock {
    pub(crate) fn now(&self) -> Duration {
        self.0.get()
    }

    pub(crate) fn set(&self, now: Duration) {
        self.0.set(now);
    }
}

/// What a client's connection is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing: no request is under way.
    Idle,
    /// The head of a request has begun to come.
    Head,
    /// So many requests are under way.
    Busy(u32),
}

/// Why a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its requests are to be finished, and no more taken.
    Draining,
    /// At once: nothing moves.
    Silent,
    /// At once: its time is over.
    Overdue,
}

/// How long what may last on a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) head: Duration,
    pub(crate) idle: Duration,
    pub(crate) silence: Duration,
}

/// The meter of one connection.
#[derive(Debug)]
pub(crate) struct Meter {
    clock: Rc<Clock>,
    patience: Cell<Patience>,
    phase: Cell<Phase>,
    /// Since when the phase lasts.
    since: Cell<Duration>,
    /// When the last byte moved.
    moved: Cell<Duration>,
    read: Cell<u64>,
    written: Cell<u64>,
    ending: Cell<Option<Ending>>,
    owner: RefCell<Option<Waker>>,
    /// The bytes of a head, from its first, as they came: what a parser has made of them does not tell all.
    head: RefCell<Vec<u8>>,
    /// How many bytes of a head are kept.
    keep: Cell<usize>,
}

impl Meter {
    pub(crate) fn new(clock: &Rc<Clock>, patience: Patience) -> Rc<Self> {
        let now = clock.now();
        Rc::new(Self {
            clock: Rc::clone(clock),
            patience: Cell::new(patience),
            phase: Cell::new(Phase::Idle),
            since: Cell::new(now),
            moved: Cell::new(now),
            read: Cell::new(0),
            written: Cell::new(0),
            ending: Cell::new(None),
            owner: RefCell::new(None),
            head: RefCell::default(),
            keep: Cell::new(0),
        })
    }

    /// From now on the first bytes after each answer are kept, up to so many.
    pub(crate) fn keep_heads(&self, most: usize) {
        self.keep.set(most);
    }

    /// Whether the head that was read last frames its body twice: `content-length` beside `transfer-encoding`. Only a head whose first byte was the first that came after an
    /// answer is known whole; of one that came sooner no more is known than the parser says, which is strict.
    pub(crate) fn is_framed_twice(&self) -> bool {
        let head = self.head.borrow();
        let lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut names = lines
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split(|byte| *byte == b':').next());
        let is = |name: &[u8], wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        let (mut length, mut encoding) = (false, false);
        names.any(|name| {
            length |= is(name, "content-length");
            encoding |= is(name, "transfer-encoding");
            length && encoding
        })
    }

    pub(crate) fn was_read(&self, bytes: &[u8]) {
        self.moved.set(self.clock.now());
        self.read.set(self.read.get().saturating_add(wide(bytes.len())));
        match self.phase.get() {
            // In HTTP/2 not every byte begins a head.
            Phase::Idle if self.keep.get() == 0 => return,
            Phase::Idle => {
                self.enter(Phase::Head);
                self.head.borrow_mut().clear();
            }
            Phase::Head => {}
            Phase::Busy(_) => return,
        }
        let mut head = self.head.borrow_mut();
        let room = self.keep.get().saturating_sub(head.len());
        head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    pub(crate) fn was_written(&self, count: usize) {
        self.moved.set(self.clock.now());
        self.written.set(self.written.get().saturating_add(wide(count)));
    }

    /// Bytes that were read and written.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.read.get(), self.written.get())
    }

    /// How it is ending, if it is.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.ending.get()
    }

    /// Whether a request is under way.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.phase.get(), Phase::Busy(_))
    }

    /// A request begins.
    pub(crate) fn begin(&self) {
        match self.phase.get() {
            Phase::Busy(count) => self.phase.set(Phase::Busy(count.saturating_add(1))),
            Phase::Idle | Phase::Head => self.enter(Phase::Busy(1)),
        }
    }

    /// A request has ended.
    pub(crate) fn end(&self) {
        match self.phase.get() {
            Phase::Busy(count) if count > 1 => self.phase.set(Phase::Busy(count - 1)),
            Phase::Busy(_) | Phase::Idle | Phase::Head => {
                self.enter(Phase::Idle);
                // Bytes that the parser has already are of a head whose begin is not known.
                self.head.borrow_mut().clear();
            }
        }
    }

    /// Another patience: a connection that is relayed has no head.
    pub(crate) fn relays(&self, silence: Duration) {
        self.patience.set(Patience { silence, ..self.patience.get() });
        self.enter(Phase::Busy(1));
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.clock.now());
    }

    /// Ends what has lasted too long.
    pub(crate) fn look(&self) {
        let now = self.clock.now();
        let patience = self.patience.get();
        let lasts = now.saturating_sub(self.since.get());
        match self.phase.get() {
            Phase::Head if lasts >= patience.head => self.finish(Ending::Overdue),
            Phase::Idle if lasts >= patience.idle => self.finish(Ending::Draining),
            Phase::Busy(_) if now.saturating_sub(self.moved.get()) >= patience.silence => self.finish(Ending::Silent),
            Phase::Head | Phase::Idle | Phase::Busy(_) => {}
        }
    }

    /// Ends it, one way or another. What is to end at once is not to be drained any more.
    pub(crate) fn finish(&self, ending: Ending) {
        if matches!(self.ending.get(), Some(Ending::Silent | Ending::Overdue)) || self.ending.get() == Some(ending) {
            return;
        }
        self.ending.set(Some(ending));
        if let Some(owner) = &*self.owner.borrow() {
            owner.wake_by_ref();
        }
    }

    /// Whether it is to end; if not, who asks is woken when it is.
    pub(crate) fn poll_ending(&self, cx: &Context<'_>) -> Option<Ending> {
        let mut owner = self.owner.borrow_mut();
        if !owner.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *owner = Some(cx.waker().clone());
        }
        self.ending.get()
    }
}

/// A length as a count of bytes.
pub(crate) fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter() -> (Rc<Clock>, Rc<Meter>) {
        let clock = Rc::new(Clock::default());
        let second = Duration::from_secs;
        let meter = Meter::new(&clock, Patience { head: second(2), idle: second(10), silence: second(100) });
        meter.keep_heads(1_000);
        (clock, meter)
    }

    #[test]
    fn each_phase_has_its_patience() {
        for (phase, at, want) in [
            (Phase::Idle, 9, None),
            (Phase::Idle, 10, Some(Ending::Draining)),
            (Phase::Head, 1, None),
            (Phase::Head, 2, Some(Ending::Overdue)),
            (Phase::Busy(1), 99, None),
            (Phase::Busy(1), 100, Some(Ending::Silent)),
        ] {
            let (clock, meter) = meter();
            match phase {
                Phase::Idle => {}
                Phase::Head => meter.was_read(b"G"),
                Phase::Busy(_) => meter.begin(),
            }
            clock.set(Duration::from_secs(at));
            meter.look();
            assert_eq!(meter.ending.get(), want, "{phase:?} {at}");
        }
    }

    #[test]
    fn a_head_that_frames_its_body_twice_is_told() {
        for (head, want) in [
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\ntransfer-encoding: chunked", false),
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\nx: y\r\nTransfer-Encoding: chunked\r\n\r\n", true),
            ("POST / HTTP/1.1\nTRANSFER-ENCODING: chunked\ncontent-length:1\n\n", true),
        ] {
            let (_, meter) = meter();
            let (one, other) = head.split_at(head.len() / 2);
            meter.was_read(one.as_bytes());
            meter.was_read(other.as_bytes());
            assert_eq!(meter.is_framed_twice(), want, "{head}");
            meter.begin();
            meter.end();
            assert!(!meter.is_framed_twice(), "{head}");
        }
    }

    #[test]
    fn what_ends_at_once_is_not_drained() {
        let (_, meter) = meter();
        meter.finish(Ending::Draining);
        assert_eq!(meter.ending.get(), Some(Ending::Draining));
        meter.finish(Ending::Silent);
        meter.finish(Ending::Draining);
        assert_eq!(meter.ending.get(), Some(Ending::Silent));
    }
}
