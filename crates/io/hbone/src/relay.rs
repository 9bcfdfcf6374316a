//! Relays bytes between an application's socket and a stream, each direction to its own end.

use std::{
    future::poll_fn,
    io::IoSlice,
    rc::Rc,
    task::{Context, Poll},
};

use weir_net::Stream;
use weir_wire::frame::Code;

use crate::{
    buffer::Filled,
    conn::{Inner, bytes::shut_if_done},
    error::Lost,
    stream::{Half, StreamState, Tunnel},
};

/// Bytes moved before the meter is told.
const METER_EVERY: u64 = 1 << 20;

/// Is told of bytes while they move.
pub trait Meter {
    /// Bytes from the application into the tunnel, and from the tunnel to the application, since the last call.
    fn moved(&self, into_tunnel: u64, out_of_tunnel: u64);
}

/// Counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unmetered;

impl Meter for Unmetered {
    fn moved(&self, _: u64, _: u64) {}
}

/// How a relay ended.
#[derive(Debug, Clone)]
pub enum Relayed {
    /// Both sides ended their direction.
    Complete,
    /// The application's socket was reset, or failed.
    AppReset,
    /// The peer reset the stream.
    PeerReset(Code),
    /// The connection under the tunnel ended.
    Lost(Lost),
}

struct Progress<'m> {
    meter: &'m dyn Meter,
    into: u64,
    out: u64,
}

impl Progress<'_> {
    fn report(&mut self, received: u64, always: bool) {
        let out = received - self.out;
        if self.into > 0 || out > 0 {
            if !always && self.into + out < METER_EVERY {
                return;
            }
            self.meter.moved(self.into, out);
            self.into = 0;
            self.out = received;
        }
    }
}

impl Tunnel {
    /// Relays until both directions ended or one broke. The application learns of a break by a reset, as it would without
    /// us in between. Dropping the future breaks both sides.
    pub async fn relay(self, app: Stream, meter: &dyn Meter) -> Relayed {
        let app = Rc::new(app);
        let mut progress = Progress { meter, into: 0, out: 0 };
        let attached = self.conn.with(|inner| match inner.streams.get_mut(&self.id) {
            Some(state) => {
                state.app = Some(app.clone());
                true
            }
            None => false,
        });
        // Until both directions have ended: the application must also learn that bytes are missing when this process is killed.
        app.reset_on_close();
        if !attached {
            return Relayed::Lost(Lost::Here("the stream is gone"));
        }
        poll_fn(|cx| self.poll_relay(cx, &app, &mut progress)).await
    }

    fn poll_relay(&self, cx: &mut Context<'_>, app: &Stream, progress: &mut Progress<'_>) -> Poll<Relayed> {
        let settings = *self.conn.settings();
        let (ended, received) = self.conn.with(|inner| {
            let Some(mut state) = inner.streams.remove(&self.id) else {
                return (Some(Relayed::Lost(Lost::Here("the stream is gone"))), progress.out);
            };
            let held = state.queue.len();
            let ended = turn(inner, self.id, &mut state, cx, app, progress);
            inner.queued -= held - state.queue.len();
            let received = state.received;
            if ended.is_none() && !state.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                state.waker = Some(cx.waker().clone());
            }
            inner.streams.insert(self.id, state);
            if held > 0 {
                // A peer that takes no credit in is found out by its silence.
                drop(inner.credit_stream(&settings, self.id));
                inner.credit(&settings);
            }
            (ended, received)
        });
        progress.report(received, ended.is_some());
        match ended {
            Some(ended) => {
                let code = if matches!(ended, Relayed::AppReset) { Code::Connect } else { Code::Cancel };
                self.conn.abandon(self.id, code);
                Poll::Ready(ended)
            }
            None => Poll::Pending,
        }
    }
}

/// Moves what can be moved now; what ended the relay, if it ended.
fn turn(
    inner: &mut Inner,
    id: u32,
    state: &mut StreamState,
    cx: &mut Context<'_>,
    app: &Stream,
    progress: &mut Progress<'_>,
) -> Option<Relayed> {
    if !drain_queue(state, cx, app) {
        return Some(Relayed::AppReset);
    }
    shut_if_done(state);
    match &state.remote {
        Half::Reset(code) => return Some(Relayed::PeerReset(*code)),
        Half::Lost(lost) => return Some(Relayed::Lost(lost.clone())),
        Half::Open | Half::Ended => {}
    }
    if state.app_failed {
        return Some(Relayed::AppReset);
    }
    if matches!(state.local, Half::Open)
        && let Some(ended) = fill(inner, id, state, cx, app, progress)
    {
        return Some(ended);
    }
    state.is_done().then_some(Relayed::Complete)
}

/// Hands queued bytes on; false if the application's socket failed.
fn drain_queue(state: &mut StreamState, cx: &mut Context<'_>, app: &Stream) -> bool {
    while !state.queue.is_empty() {
        let (front, back) = state.queue.as_slices();
        match app.poll_write(cx, &[IoSlice::new(front), IoSlice::new(back)]) {
            Poll::Ready(Ok(n)) => {
                state.queue.drain(..n);
                state.received += u64::try_from(n).expect("64 bits fit");
            }
            Poll::Ready(Err(_)) => return false,
            Poll::Pending => return true,
        }
    }
    state.shrink();
    true
}

/// Reads from the application into frames, once: then others get their turn.
fn fill(
    inner: &mut Inner,
    id: u32,
    state: &mut StreamState,
    cx: &mut Context<'_>,
    app: &Stream,
    progress: &mut Progress<'_>,
) -> Option<Relayed> {
    let limit = inner.sendable(state);
    match inner.out.fill(id, limit, |slices| app.poll_read(cx, slices)) {
        Poll::Ready(Ok(Filled::Bytes { count, full })) => {
            let count = i64::try_from(count).expect("less than a window");
            state.send_window -= count;
            inner.send_window -= count;
            progress.into += u64::try_from(count).expect("never negative");
            if full {
                cx.waker().wake_by_ref();
                return None;
            }
            // The socket is empty for now; this only arms its waker.
            match app.poll_readable(cx) {
                Poll::Ready(_) => cx.waker().wake_by_ref(),
                Poll::Pending => {}
            }
            None
        }
        Poll::Ready(Ok(Filled::End)) => {
            state.local = Half::Ended;
            inner.out.end_stream(id).err().map(|_| Relayed::Lost(Lost::Here("the peer takes nothing in")))
        }
        Poll::Ready(Ok(Filled::NoRoom)) => {
            inner.block(id);
            app.pending_error().map(|_| Relayed::AppReset)
        }
        Poll::Ready(Err(_)) => Some(Relayed::AppReset),
        Poll::Pending => None,
    }
}
