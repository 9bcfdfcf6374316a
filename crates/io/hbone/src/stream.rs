//! One stream of a connection: a tunnel for the bytes of one application connection.
//!
//! ```text
//!   local:  Open ── END_STREAM sent ──▶ Ended      remote: Open ── END_STREAM came ──▶ Ended
//!            └──── RST_STREAM sent ───▶ (gone)              ├──── RST_STREAM came ───▶ Reset
//!                                                           └── connection ended ────▶ Lost
//! ```

use std::{collections::VecDeque, rc::Rc, task::Waker};

use weir_wire::{
    frame::Code,
    head::{RequestError, Response},
};

use crate::{conn::Conn, error::Lost};

/// How far one direction is.
#[derive(Debug, Clone)]
pub(crate) enum Half {
    Open,
    Ended,
    Reset(Code),
    Lost(Lost),
}

/// What a connection knows of a stream.
#[derive(Debug)]
pub(crate) struct StreamState {
    /// Bytes we may still send.
    pub(crate) send_window: i64,
    /// Bytes the peer may still send.
    pub(crate) recv_window: i64,
    /// Bytes for the application that it has not taken yet; at most our window.
    pub(crate) queue: VecDeque<u8>,
    /// The application's socket, once the tunnel is a tunnel.
    pub(crate) app: Option<Rc<weir_net::Stream>>,
    pub(crate) local: Half,
    pub(crate) remote: Half,
    /// Whether the application's socket failed while bytes were handed to it.
    pub(crate) app_failed: bool,
    /// Whether our direction of the application's socket was shut.
    pub(crate) app_shut: bool,
    /// Whether the head of our answer was sent (server) or the peer's came (client).
    pub(crate) answered: bool,
    /// The answer, until it is taken (client).
    pub(crate) answer: Option<Result<Response, RequestError>>,
    /// Whoever waits for this stream.
    pub(crate) waker: Option<Waker>,
    /// Bytes handed to the application.
    pub(crate) received: u64,
}

impl StreamState {
    pub(crate) fn new(send_window: i64, recv_window: i64) -> Self {
        Self {
            send_window,
            recv_window,
            queue: VecDeque::new(),
            app: None,
            local: Half::Open,
            remote: Half::Open,
            app_failed: false,
            app_shut: false,
            answered: false,
            answer: None,
            waker: None,
            received: 0,
        }
    }

    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether both directions came to their end and nothing is left to hand on.
    pub(crate) fn is_done(&self) -> bool {
        matches!((&self.local, &self.remote), (Half::Ended, Half::Ended)) && self.queue.is_empty()
    }

    /// Gives memory back that a burst needed.
    pub(crate) fn shrink(&mut self) {
        if self.queue.is_empty() && self.queue.capacity() > 0 {
            self.queue = VecDeque::new();
        }
    }
}

/// A stream whose head was exchanged: relayed to a socket, or read and written here. Dropping it resets the stream, unless it came to its end; if our
/// direction did, the peer is told that nothing went wrong.
pub struct Tunnel {
    pub(crate) conn: Rc<Conn>,
    pub(crate) id: u32,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let ended = |inner: &mut crate::conn::Inner| {
            inner.streams.get(&self.id).is_some_and(|state| matches!(state.local, Half::Ended))
        };
        // RFC 9113 §8.1: what was sent stands, and the rest of the request is not needed.
        let code = if self.conn.with(ended) { Code::NoError } else { Code::Cancel };
        self.conn.abandon(self.id, code);
    }
}
