//! The state of one connection: streams, windows, and what each frame changes.

pub(crate) mod bytes;
mod control;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    ops::Range,
    rc::Rc,
    task::Waker,
    time::Duration,
};

use tokio::time::Instant;
use weir_wire::{
    frame::{self, Code, flag, kind, setting},
    head::{Request, RequestError},
    hpack,
    parser::{ParseError, Parser},
};

use crate::{
    buffer::{Output, Overrun},
    error::Lost,
    settings::{Role, Settings},
    stream::{Half, StreamState},
};

/// Pieces of one stream's bytes handed to the application in one system call.
pub(crate) const MAX_PIECES: usize = 32;

/// A request that came in, or why it was none.
pub(crate) type Arrival = (u32, Result<Request, RequestError>);

/// A connection as its tasks share it. They run on one thread.
pub(crate) struct Conn {
    inner: RefCell<Inner>,
    role: Role,
    settings: Settings,
    /// Streams open now, readable without a borrow.
    open: Cell<usize>,
}

pub(crate) struct Inner {
    pub(crate) out: Output,
    parser: Parser,
    decoder: hpack::Decoder,
    pub(crate) streams: HashMap<u32, StreamState, foldhash::fast::FixedState>,
    next_id: u32,
    last_peer_id: u32,
    pub(crate) send_window: i64,
    recv_window: i64,
    /// Bytes held for applications that do not take them.
    pub(crate) queued: usize,
    peer_initial_window: i64,
    peer_max_frame: usize,
    peer_max_streams: u32,
    /// Streams that wait for a window or for room.
    blocked: Vec<u32>,
    driver: Option<Waker>,
    /// GOAWAY was sent: no new streams, end with the last one.
    pub(crate) draining: Option<&'static str>,
    /// GOAWAY came.
    peer_goaway: Option<Code>,
    pub(crate) arrivals: Vec<Arrival>,
    calm: Calm,
    run: Run,
    pub(crate) lost: Option<Lost>,
    pub(crate) pong: bool,
}

/// Bytes of one stream that lie in the input and were not handed on yet.
#[derive(Default)]
pub(crate) struct Run {
    stream: u32,
    pieces: Vec<Range<usize>>,
    end: bool,
}

/// How much needless work a peer may make: a bucket that fills with time.
struct Calm {
    left: u32,
    since: Instant,
}

impl Calm {
    const BURST: u32 = 1_000;
    const PER: Duration = Duration::from_millis(10);

    fn spend(&mut self, cost: u32) -> Result<(), ParseError> {
        if self.left < cost {
            let gained = self.since.elapsed().as_millis() / Self::PER.as_millis();
            self.left = self.left.saturating_add(u32::try_from(gained).unwrap_or(u32::MAX)).min(Self::BURST);
            self.since = Instant::now();
        }
        self.left = self
            .left
            .checked_sub(cost)
            .ok_or(ParseError { code: Code::Calm, reason: "too many frames that only make work" })?;
        Ok(())
    }
}

impl From<Overrun> for ParseError {
    fn from(Overrun: Overrun) -> Self {
        Self { code: Code::Calm, reason: "the peer does not take in what it asks for" }
    }
}

impl Conn {
    /// A connection that begins with our preface and SETTINGS in its output.
    pub(crate) fn new(role: Role, settings: Settings, mut out: Output) -> Rc<Self> {
        let mut hello = Vec::with_capacity(128);
        if role == Role::Client {
            hello.extend_from_slice(frame::PREFACE);
        }
        frame::write_settings(
            &mut hello,
            &[
                (setting::ENABLE_PUSH, 0),
                (setting::MAX_CONCURRENT_STREAMS, settings.max_streams),
                (setting::INITIAL_WINDOW_SIZE, settings.stream_window),
                (setting::MAX_FRAME_SIZE, settings.max_frame),
                (setting::MAX_HEADER_LIST_SIZE, settings.max_header_list),
            ],
        );
        let extra = settings.connection_window.saturating_sub(frame::INITIAL_WINDOW);
        frame::write_window_update(&mut hello, 0, extra);
        out.append(&hello).expect("an empty output has room for the preface");
        let max_block = usize::try_from(settings.max_header_list).expect("32 bits fit");
        let inner = Inner {
            out,
            parser: match role {
                Role::Client => Parser::new(settings.max_frame, max_block),
                Role::Server => Parser::after_preface(settings.max_frame, max_block),
            },
            decoder: hpack::Decoder::default(),
            streams: HashMap::default(),
            next_id: 1,
            last_peer_id: 0,
            send_window: i64::from(frame::INITIAL_WINDOW),
            recv_window: i64::from(settings.connection_window.max(frame::INITIAL_WINDOW)),
            queued: 0,
            peer_initial_window: i64::from(frame::INITIAL_WINDOW),
            peer_max_frame: usize::try_from(frame::DEFAULT_MAX_FRAME).expect("32 bits fit"),
            peer_max_streams: u32::MAX,
            blocked: Vec::new(),
            driver: None,
            draining: None,
            peer_goaway: None,
            arrivals: Vec::new(),
            calm: Calm { left: Calm::BURST, since: Instant::now() },
            run: Run::default(),
            lost: None,
            pong: false,
        };
        Rc::new(Self { inner: RefCell::new(inner), role, settings, open: Cell::new(0) })
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn open_streams(&self) -> usize {
        self.open.get()
    }

    /// Runs `work` on the state, and has the driver look at the output afterwards.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.borrow_mut();
        let result = work(&mut inner);
        if !inner.out.is_empty()
            && let Some(driver) = inner.driver.take()
        {
            driver.wake();
        }
        self.open.set(inner.streams.len());
        result
    }

    /// Runs `work` for the driver itself.
    pub(crate) fn drive<T>(&self, work: impl FnOnce(&mut Inner, &Self) -> T) -> T {
        let mut inner = self.inner.borrow_mut();
        let result = work(&mut inner, self);
        self.open.set(inner.streams.len());
        result
    }

    pub(crate) fn set_driver(&self, waker: &Waker) {
        let mut inner = self.inner.borrow_mut();
        if !inner.driver.as_ref().is_some_and(|d| d.will_wake(waker)) {
            inner.driver = Some(waker.clone());
        }
    }

    /// Why no stream can be opened now, if none can.
    pub(crate) fn refuses(&self) -> bool {
        let inner = self.inner.borrow();
        let limit = inner.peer_max_streams.min(self.settings.max_open);
        let held = usize::try_from(self.settings.held).expect("32 bits fit");
        inner.lost.is_some()
            || inner.draining.is_some()
            || inner.peer_goaway.is_some()
            || inner.next_id > frame::MAX_WINDOW - 2
            || inner.queued > held
            || !u32::try_from(inner.streams.len()).is_ok_and(|n| n < limit)
    }

    /// Opens a stream with a header block.
    pub(crate) fn open(&self, block: &[u8]) -> Result<u32, Lost> {
        self.with(|inner| {
            if let Some(lost) = &inner.lost {
                return Err(lost.clone());
            }
            let id = inner.next_id;
            inner.next_id += 2;
            inner.write_block(id, block, false).map_err(|o| Lost::Protocol(o.into()))?;
            let state = StreamState::new(inner.peer_initial_window, i64::from(self.settings.stream_window));
            inner.streams.insert(id, state);
            Ok(id)
        })
    }

    /// Forgets a stream; tells the peer unless both directions had ended.
    pub(crate) fn abandon(&self, id: u32, code: Code) {
        self.with(|inner| {
            let Some(mut state) = inner.streams.remove(&id) else { return };
            inner.queued -= state.queue.len();
            inner.credit(&self.settings);
            let told = matches!(state.remote, Half::Reset(_) | Half::Lost(_)) || state.is_done();
            if !told && inner.lost.is_none() {
                let mut frame = Vec::with_capacity(13);
                frame::write_reset(&mut frame, id, code);
                // A peer that takes nothing in will be told by the end of the connection.
                drop(inner.out.append(&frame));
            }
            let done = state.is_done();
            match state.app.take() {
                Some(app) if done => app.end_on_close(),
                Some(app) => app.reset_on_close(),
                None => {}
            }
        });
        self.wake_if_drained();
    }

    /// Says GOAWAY: streams that are open go on, the connection ends with the last one.
    pub(crate) fn go_away(&self, code: Code, reason: &'static str) {
        self.with(|inner| inner.go_away(code, reason));
        self.wake_if_drained();
    }

    fn wake_if_drained(&self) {
        let mut inner = self.inner.borrow_mut();
        if inner.draining.is_some()
            && inner.streams.is_empty()
            && let Some(driver) = inner.driver.take()
        {
            driver.wake();
        }
    }
}

impl Inner {
    /// Notes that `stream` waits for a window or for room.
    pub(crate) fn block(&mut self, stream: u32) {
        if !self.blocked.contains(&stream) {
            self.blocked.push(stream);
        }
    }

    /// Lets all that wait for a window or for room look again.
    pub(crate) fn unblock(&mut self) {
        for id in self.blocked.drain(..) {
            if let Some(state) = self.streams.get_mut(&id) {
                state.wake();
            }
        }
    }

    /// The most bytes `stream` may send now.
    pub(crate) fn sendable(&self, state: &StreamState) -> usize {
        usize::try_from(state.send_window.min(self.send_window)).unwrap_or(0)
    }

    pub(crate) fn go_away(&mut self, code: Code, reason: &'static str) {
        if self.draining.is_none() && self.lost.is_none() {
            let mut frame = Vec::with_capacity(64);
            frame::write_goaway(&mut frame, self.last_peer_id, code, reason);
            drop(self.out.append(&frame));
            self.draining = Some(reason);
        }
    }

    /// Counts needless work that the peer makes.
    pub(crate) fn charge(&mut self, cost: u32) -> Result<(), ParseError> {
        self.calm.spend(cost)
    }

    /// The last frame of a connection that ends now.
    pub(crate) fn go_away_now(&mut self, code: Code, reason: &'static str) {
        let mut frame = Vec::with_capacity(64);
        frame::write_goaway(&mut frame, self.last_peer_id, code, reason);
        drop(self.out.append(&frame));
    }

    /// Writes a header block as HEADERS and, where the peer's frames are small, CONTINUATION.
    pub(crate) fn write_block(&mut self, id: u32, block: &[u8], end: bool) -> Result<(), Overrun> {
        let mut frame = Vec::with_capacity(block.len() + frame::HEAD);
        let mut rest = block;
        let mut first = true;
        loop {
            let (piece, tail) = rest.split_at(rest.len().min(self.peer_max_frame));
            let mut flags = if tail.is_empty() { flag::END_HEADERS } else { 0 };
            if first && end {
                flags |= flag::END_STREAM;
            }
            let kind = if first { kind::HEADERS } else { kind::CONTINUATION };
            frame::write(&mut frame, kind, flags, id, piece);
            if tail.is_empty() {
                return self.out.append(&frame);
            }
            rest = tail;
            first = false;
        }
    }

    /// The connection ended: every stream learns why.
    pub(crate) fn lose(&mut self, lost: &Lost) {
        self.lost = Some(lost.clone());
        for state in self.streams.values_mut() {
            // What came whole before the end stays whole.
            if !matches!(state.remote, Half::Ended | Half::Reset(_)) || !matches!(state.local, Half::Ended) {
                state.remote = Half::Lost(lost.clone());
            }
            state.wake();
        }
    }
}
