//! What bytes that came in change: windows, queues, and what is handed to applications at once.

use std::{io::IoSlice, ops::Range};

use weir_wire::{
    frame::{self, Code},
    parser::{Event, ParseError},
};

use crate::{
    buffer::Overrun,
    conn::{Conn, Inner, MAX_PIECES, Run},
    settings::Settings,
    stream::{Half, StreamState},
};

impl Inner {
    /// Takes the plaintext of one record, which lies at `range` of `bytes`.
    pub(crate) fn ingest(&mut self, conn: &Conn, bytes: &[u8], range: Range<usize>) -> Result<(), ParseError> {
        let mut at = range.start;
        loop {
            let (used, event) = self.parser.next(&bytes[at..range.end])?;
            at += used;
            match event {
                Some(Event::Data { stream, length, end }) => {
                    self.count(stream, length)?;
                    if length == 0 && !end {
                        self.calm.spend(1)?;
                    }
                    self.gather(conn, bytes, stream, at - length..at, end)?;
                }
                Some(event) => {
                    if matches!(event, Event::Reset { .. } | Event::Headers { .. } | Event::Padding { .. }) {
                        self.hand_on(conn, bytes)?;
                    }
                    self.apply(conn, event)?;
                }
                None if at == range.end => return Ok(()),
                None => {}
            }
        }
    }

    /// Counts flow-controlled bytes against both windows.
    pub(super) fn count(&mut self, stream: u32, length: usize) -> Result<(), ParseError> {
        let length = i64::try_from(length).expect("a frame is below 2^24 bytes");
        self.recv_window -= length;
        let over = ParseError { code: Code::FlowControl, reason: "more bytes than the window allowed" };
        if self.recv_window < 0 {
            return Err(over);
        }
        match self.streams.get_mut(&stream) {
            Some(state) => {
                state.recv_window -= length;
                if state.recv_window < 0 {
                    return Err(over);
                }
                Ok(())
            }
            None => self.check_known(stream),
        }
    }

    /// A stream that is over may still have frames under way; one that never was may not.
    pub(super) fn check_known(&self, stream: u32) -> Result<(), ParseError> {
        let known = if stream % 2 == 1 { stream < self.next_id || stream <= self.last_peer_id } else { false };
        if known { Ok(()) } else { Err(ParseError { code: Code::Protocol, reason: "frame for a stream never opened" }) }
    }

    fn gather(
        &mut self,
        conn: &Conn,
        bytes: &[u8],
        stream: u32,
        piece: Range<usize>,
        end: bool,
    ) -> Result<(), ParseError> {
        if self.run.stream != stream || self.run.end || self.run.pieces.len() == MAX_PIECES {
            self.hand_on(conn, bytes)?;
            self.run.stream = stream;
        }
        if !piece.is_empty() {
            self.run.pieces.push(piece);
        }
        self.run.end = end;
        Ok(())
    }

    /// Hands what was gathered to its application: as much as it takes at once, the rest is queued.
    pub(crate) fn hand_on(&mut self, conn: &Conn, bytes: &[u8]) -> Result<(), ParseError> {
        let Run { stream: id, end, .. } = self.run;
        if id == 0 {
            return Ok(());
        }
        self.run.stream = 0;
        self.run.end = false;
        let result = match self.streams.get_mut(&id) {
            Some(state) => {
                if !matches!(state.remote, Half::Open) {
                    return Err(ParseError { code: Code::StreamClosed, reason: "DATA behind the end of a stream" });
                }
                let was = state.queue.len();
                hand_to(state, bytes, &self.run.pieces);
                self.queued += state.queue.len() - was;
                if end {
                    state.remote = Half::Ended;
                    shut_if_done(state);
                }
                if end || state.app_failed || !state.queue.is_empty() {
                    state.wake();
                }
                self.credit_stream(&conn.settings, id)
            }
            None => Ok(()),
        };
        self.run.pieces.clear();
        self.credit(&conn.settings);
        Ok(result?)
    }

    /// Tells the peer of room in a stream's window, once it is worth a frame.
    pub(crate) fn credit_stream(&mut self, settings: &Settings, id: u32) -> Result<(), Overrun> {
        let Some(state) = self.streams.get_mut(&id) else { return Ok(()) };
        if !matches!(state.remote, Half::Open) {
            return Ok(());
        }
        let window = i64::from(settings.stream_window);
        let queued = i64::try_from(state.queue.len()).expect("never more than a window");
        let grant = window - queued - state.recv_window;
        if grant < window / 4 {
            return Ok(());
        }
        state.recv_window += grant;
        self.write_grant(id, grant)
    }

    /// Tells the peer of room in the connection's window. Bytes held for stalled applications beyond `held` narrow it.
    pub(crate) fn credit(&mut self, settings: &Settings) {
        let window = i64::from(settings.connection_window);
        let excess = i64::try_from(self.queued).expect("never more than the windows") - i64::from(settings.held);
        let grant = window - excess.max(0) - self.recv_window;
        if grant >= window / 4 && self.write_grant(0, grant).is_ok() {
            self.recv_window += grant;
        }
    }

    fn write_grant(&mut self, id: u32, grant: i64) -> Result<(), Overrun> {
        let mut frame = Vec::with_capacity(13);
        let grant = u32::try_from(grant).expect("a window has 31 bits");
        frame::write_window_update(&mut frame, id, grant);
        self.out.append(&frame)
    }
}

fn hand_to(state: &mut StreamState, bytes: &[u8], pieces: &[Range<usize>]) {
    let mut skip = 0;
    if let (true, Some(app)) = (state.queue.is_empty() && !pieces.is_empty(), &state.app) {
        let mut slices = [IoSlice::new(&[]); MAX_PIECES];
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(&bytes[piece.clone()]);
        }
        match app.try_write(&slices[..pieces.len()]) {
            Ok(n) => {
                skip = n;
                state.received += u64::try_from(n).expect("64 bits fit");
            }
            Err(_) => state.app_failed = true,
        }
    }
    if state.app_failed {
        return;
    }
    for piece in pieces {
        let gone = skip.min(piece.len());
        skip -= gone;
        state.queue.extend(&bytes[piece.start + gone..piece.end]);
    }
}

/// Shuts our direction of the application's socket when the peer's bytes are all handed on.
pub(crate) fn shut_if_done(state: &mut StreamState) {
    if state.queue.is_empty()
        && matches!(state.remote, Half::Ended)
        && !state.app_shut
        && let Some(app) = &state.app
    {
        state.app_shut = true;
        state.app_failed |= app.shutdown_write().is_err();
    }
}
