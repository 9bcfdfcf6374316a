//! Moves bytes between the socket of a connection and its state, and keeps its times.

use std::{
    future::poll_fn,
    io::IoSlice,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use weir_net::Stream;
use weir_wire::frame::{self, Code, kind};

use crate::{
    conn::{Arrival, Conn},
    error::Lost,
    handshake::{Established, KeySchedule},
    input::Input,
    record::{self, RecordKey},
    settings::{Role, Settings},
};

/// Reads in a row before other tasks get their turn.
const READS: usize = 4;
/// The most bytes of TLS messages behind the handshake that are put together.
const MAX_MESSAGES: usize = 32 << 10;

/// TLS handshake messages that may come behind the handshake. RFC 8446 §4.6.
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// Drives one connection until it ends.
pub(crate) struct Driver {
    conn: Rc<Conn>,
    stream: Stream,
    input: Input,
    schedule: Box<dyn KeySchedule>,
    messages: Vec<u8>,
    tick: Interval,
    /// Whether anything came since the last tick.
    heard: bool,
    ping_sent: Option<Instant>,
    idle_since: Option<Instant>,
    shut: bool,
}

impl Driver {
    /// A connection over an established TLS session, and what drives it.
    pub(crate) fn new(established: Established, role: Role, settings: Settings) -> (Rc<Conn>, Self) {
        let Established { stream, tx, rx, schedule, leftover, .. } = established;
        let conn = Conn::new(role, settings, crate::buffer::Output::new(tx));
        // A tick notices silence only by the next one: two of them to an interval, so that a PING is never late.
        let beat = settings.ping_interval / 2;
        let mut tick = interval_at(Instant::now() + beat, beat);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let driver = Self {
            conn: conn.clone(),
            stream,
            input: Input::new(rx, &leftover),
            schedule,
            messages: Vec::new(),
            tick,
            heard: true,
            ping_sent: None,
            idle_since: None,
            shut: false,
        };
        (conn, driver)
    }

    /// Runs until the connection ends, and tells every stream. Requests that come in are given to `arrived`.
    pub(crate) async fn run(mut self, mut arrived: impl FnMut(Arrival)) -> Lost {
        let lost = poll_fn(|cx| self.poll(cx, &mut arrived)).await;
        self.conn.drive(|inner, _| inner.lose(&lost));
        // The last words, as far as the socket takes them at once.
        self.conn.drive(|inner, _| {
            if let Lost::Protocol(error) = &lost {
                inner.go_away_now(error.code, error.reason);
            }
            drop(inner.out.append_tls(record::kind::ALERT, &[1, 0]));
            let pending = inner.out.pending();
            drop(self.stream.try_write(&[IoSlice::new(pending)]));
        });
        lost
    }

    fn poll(&mut self, cx: &mut Context<'_>, arrived: &mut impl FnMut(Arrival)) -> Poll<Lost> {
        self.conn.set_driver(cx.waker());
        match self.turn(cx, arrived) {
            Ok(()) => Poll::Pending,
            Err(lost) => Poll::Ready(lost),
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>, arrived: &mut impl FnMut(Arrival)) -> Result<(), Lost> {
        // What came with the handshake is read before the socket says anything.
        self.open_records()?;
        for _ in 0..READS {
            self.deliver(arrived);
            self.flush(cx)?;
            match self.input.poll_read(&self.stream, cx) {
                Poll::Ready(Ok(0)) => return Err(Lost::Eof),
                Poll::Ready(Ok(_)) => {
                    self.heard = true;
                    self.open_records()?;
                }
                Poll::Ready(Err(e)) => return Err(Lost::Io(Rc::new(e))),
                Poll::Pending => {
                    while let Poll::Ready(at) = self.tick.poll_tick(cx) {
                        self.on_tick(at)?;
                    }
                    self.deliver(arrived);
                    self.flush(cx)?;
                    return self.end_if_drained();
                }
            }
        }
        self.deliver(arrived);
        self.flush(cx)?;
        cx.waker().wake_by_ref();
        self.end_if_drained()
    }

    fn deliver(&self, arrived: &mut impl FnMut(Arrival)) {
        loop {
            let arrivals = self.conn.drive(|inner, _| std::mem::take(&mut inner.arrivals));
            if arrivals.is_empty() {
                return;
            }
            arrivals.into_iter().for_each(&mut *arrived);
        }
    }

    fn flush(&self, cx: &mut Context<'_>) -> Result<(), Lost> {
        self.conn.drive(|inner, _| {
            let mut wrote = false;
            while !inner.out.is_empty() {
                let pending = inner.out.pending();
                match self.stream.poll_write(cx, &[IoSlice::new(pending)]) {
                    Poll::Ready(Ok(n)) => inner.out.wrote(n),
                    Poll::Ready(Err(e)) => return Err(Lost::Io(Rc::new(e))),
                    Poll::Pending => return Ok(()),
                }
                wrote = true;
            }
            if wrote {
                inner.unblock();
            }
            Ok(())
        })
    }

    /// Opens every whole record of the input and takes what it says.
    fn open_records(&mut self) -> Result<(), Lost> {
        let taken = self.take_records();
        // What came whole before the end of the connection is handed on all the same: a peer says its last words and closes.
        let bytes = self.input.bytes();
        let handed = self.conn.drive(|inner, conn| inner.hand_on(conn, bytes)).map_err(Lost::Protocol);
        self.input.release_if_empty();
        taken.and(handed)
    }

    fn take_records(&mut self) -> Result<(), Lost> {
        while let Some(opened) = self.input.next().map_err(Lost::Record)? {
            match opened.kind {
                record::kind::APPLICATION => {
                    let bytes = self.input.bytes();
                    self.conn.drive(|inner, conn| inner.ingest(conn, bytes, opened.payload)).map_err(Lost::Protocol)?;
                }
                record::kind::HANDSHAKE => {
                    self.messages.extend_from_slice(&self.input.bytes()[opened.payload]);
                    self.take_messages()?;
                }
                record::kind::ALERT => {
                    return Err(match self.input.bytes().get(opened.payload.start + 1) {
                        Some(0) => Lost::Eof,
                        Some(&code) => Lost::Alert(code),
                        None => Lost::Record("an alert is too short"),
                    });
                }
                _ => return Err(Lost::Record("a kind of record that may not come here")),
            }
        }
        Ok(())
    }

    fn take_messages(&mut self) -> Result<(), Lost> {
        while let Some(&[kind, a, b, c]) = self.messages.first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).expect("24 bits fit");
            if length > MAX_MESSAGES {
                return Err(Lost::Record("a TLS message is too long"));
            }
            let Some(body) = self.messages.get(4..4 + length) else { return Ok(()) };
            match (kind, body) {
                // Sessions are never resumed: each handshake proves both sides anew.
                (NEW_SESSION_TICKET, _) => {}
                (KEY_UPDATE, &[asked @ (0 | 1)]) if self.messages.len() == 4 + length => {
                    self.conn.drive(|inner, _| inner.charge(10)).map_err(Lost::Protocol)?;
                    let key = next_key(self.schedule.next_rx())?;
                    self.input.set_key(key);
                    if asked == 1 {
                        self.update_key()?;
                    }
                }
                _ => return Err(Lost::Record("an illegal TLS message")),
            }
            self.messages.drain(..4 + length);
        }
        Ok(())
    }

    /// Changes the key of our direction. RFC 8446 §4.6.3.
    fn update_key(&mut self) -> Result<(), Lost> {
        let key = next_key(self.schedule.next_tx())?;
        self.conn.drive(|inner, _| {
            let told = inner.out.append_tls(record::kind::HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0]);
            told.map_err(|o| Lost::Protocol(o.into()))?;
            inner.out.set_key(key);
            Ok(())
        })
    }

    /// Keepalive, key age, idleness, and the streams that only time can free.
    ///
    /// `now` is the time of the tick, not of its handling: times between ticks are whole numbers of them, however late each is handled.
    fn on_tick(&mut self, now: Instant) -> Result<(), Lost> {
        if self.conn.drive(|inner, _| inner.out.key_worn()) {
            self.update_key()?;
        }
        let settings = *self.conn.settings();
        let heard = std::mem::take(&mut self.heard);
        self.conn.drive(|inner, _| {
            inner.unblock();
            if heard || std::mem::take(&mut inner.pong) {
                self.ping_sent = None;
                return Ok(());
            }
            match self.ping_sent {
                Some(sent) if now - sent >= settings.ping_timeout => Err(Lost::Keepalive(settings.ping_timeout)),
                Some(_) => Ok(()),
                None => {
                    self.ping_sent = Some(now);
                    let mut ping = Vec::with_capacity(17);
                    frame::write(&mut ping, kind::PING, 0, 0, b"weirping");
                    inner.out.append(&ping).map_err(|o| Lost::Protocol(o.into()))
                }
            }
        })?;
        if self.conn.open_streams() > 0 {
            self.idle_since = None;
        } else if now - *self.idle_since.get_or_insert(now) >= settings.idle {
            self.conn.drive(|inner, _| inner.go_away(Code::NoError, "idle"));
        }
        Ok(())
    }

    /// After GOAWAY the connection ends with its last stream.
    fn end_if_drained(&mut self) -> Result<(), Lost> {
        let reason = self.conn.drive(|inner, _| {
            inner.draining.filter(|_| inner.streams.is_empty() && inner.arrivals.is_empty() && inner.out.is_empty())
        });
        match reason {
            Some(reason) if !self.shut => {
                self.shut = true;
                Err(Lost::Here(reason))
            }
            _ => Ok(()),
        }
    }
}

fn next_key(secrets: Result<rustls::ConnectionTrafficSecrets, rustls::Error>) -> Result<RecordKey, Lost> {
    secrets
        .ok()
        .and_then(|secrets| RecordKey::new(0, &secrets).ok())
        .ok_or(Lost::Record("the next TLS key could not be computed"))
}
