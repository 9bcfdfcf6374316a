//! What every frame but DATA changes.

use weir_wire::{
    frame::{self, Code, Head, flag, kind, setting},
    head::{self, RequestError},
    hpack,
    parser::{Event, ParseError},
};

use crate::{
    conn::{Conn, Inner, Run, bytes::shut_if_done},
    settings::Role,
    stream::{Half, StreamState},
};

impl Inner {
    /// What all frames but DATA change.
    pub(super) fn apply(&mut self, conn: &Conn, event: Event) -> Result<(), ParseError> {
        match event {
            Event::Data { .. } => unreachable!("handled where the bytes are"),
            Event::Padding { stream, length, end } => {
                self.count(stream, length)?;
                self.calm.spend(1)?;
                if end {
                    self.run = Run { stream, pieces: Vec::new(), end };
                    return self.hand_on(conn, &[]);
                }
                self.credit_stream(&conn.settings, stream)?;
                self.credit(&conn.settings);
                Ok(())
            }
            Event::Headers { stream, end } => match conn.role {
                Role::Server => self.request(conn, stream, end),
                Role::Client => self.answer(conn, stream, end),
            },
            Event::Reset { stream, code } => self.reset(stream, code),
            Event::Settings => self.take_settings(),
            Event::SettingsAck => Ok(()),
            Event::Ping(bytes) => {
                self.calm.spend(1)?;
                let mut frame = Vec::with_capacity(17);
                frame::write(&mut frame, kind::PING, flag::ACK, 0, &bytes);
                Ok(self.out.append(&frame)?)
            }
            Event::Pong(_) => {
                self.pong = true;
                Ok(())
            }
            Event::GoAway { last_stream, code } => {
                self.peer_goaway = Some(code);
                for (_, state) in self.streams.iter_mut().filter(|(id, _)| **id > last_stream && **id % 2 == 1) {
                    if conn.role == Role::Client {
                        state.remote = Half::Reset(Code::Refused);
                        state.wake();
                    }
                }
                if self.draining.is_none() {
                    self.draining = Some("the peer said GOAWAY");
                }
                Ok(())
            }
            Event::WindowUpdate { stream, increment } => self.widen(stream, increment),
            Event::Ignored => self.calm.spend(1),
        }
    }

    fn widen(&mut self, stream: u32, increment: u32) -> Result<(), ParseError> {
        let increment = i64::from(increment);
        let over = ParseError { code: Code::FlowControl, reason: "window beyond 2^31-1" };
        if stream == 0 {
            self.send_window += increment;
            if self.send_window > i64::from(frame::MAX_WINDOW) {
                return Err(over);
            }
            self.unblock();
            return Ok(());
        }
        let Some(state) = self.streams.get_mut(&stream) else { return self.check_known(stream) };
        state.send_window += increment;
        if state.send_window > i64::from(frame::MAX_WINDOW) {
            return Err(over);
        }
        state.wake();
        Ok(())
    }

    fn reset(&mut self, stream: u32, code: Code) -> Result<(), ParseError> {
        let Some(state) = self.streams.get_mut(&stream) else { return self.check_known(stream) };
        let rapid = !state.answered;
        state.remote = Half::Reset(code);
        state.wake();
        // A request taken back before it was answered cost us a connection and the peer nothing (CVE-2023-44487).
        if rapid { self.calm.spend(10) } else { Ok(()) }
    }

    fn take_settings(&mut self) -> Result<(), ParseError> {
        self.calm.spend(10)?;
        let settings: Vec<(u16, u32)> = self.parser.settings().collect();
        for (id, value) in settings {
            match id {
                setting::INITIAL_WINDOW_SIZE => {
                    if value > frame::MAX_WINDOW {
                        return Err(ParseError { code: Code::FlowControl, reason: "initial window beyond 2^31-1" });
                    }
                    let change = i64::from(value) - self.peer_initial_window;
                    self.peer_initial_window = i64::from(value);
                    for state in self.streams.values_mut() {
                        state.send_window += change;
                        state.wake();
                    }
                }
                setting::MAX_FRAME_SIZE => {
                    if !(frame::DEFAULT_MAX_FRAME..1 << 24).contains(&value) {
                        return Err(ParseError { code: Code::Protocol, reason: "illegal SETTINGS_MAX_FRAME_SIZE" });
                    }
                    self.peer_max_frame = usize::try_from(value).expect("24 bits fit");
                }
                setting::MAX_CONCURRENT_STREAMS => self.peer_max_streams = value,
                setting::ENABLE_PUSH if value > 1 => {
                    return Err(ParseError { code: Code::Protocol, reason: "illegal SETTINGS_ENABLE_PUSH" });
                }
                // We use no dynamic table, never push, and what is unknown must be ignored (RFC 9113 §6.5.2).
                _ => {}
            }
        }
        let ack = Head { length: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: 0 };
        Ok(self.out.append(&ack.encode())?)
    }

    /// A request head, or trailers.
    fn request(&mut self, conn: &Conn, id: u32, end: bool) -> Result<(), ParseError> {
        let limit = usize::try_from(conn.settings.max_header_list).expect("32 bits fit");
        let request = head::request(&mut self.decoder, self.parser.block(), limit);
        let too_large = match &request {
            Err(RequestError::Block(hpack::HpackError::TooLarge { .. })) => true,
            Err(RequestError::Block(_)) => {
                return Err(ParseError { code: Code::Compression, reason: "illegal header block" });
            }
            Ok(_) | Err(_) => false,
        };
        if too_large {
            return Err(ParseError { code: Code::Calm, reason: "header list too large" });
        }
        if id <= self.last_peer_id {
            return self.trailers(id, end);
        }
        if id.is_multiple_of(2) {
            return Err(ParseError { code: Code::Protocol, reason: "stream number of the wrong side" });
        }
        self.last_peer_id = id;
        let full = !u32::try_from(self.streams.len()).is_ok_and(|n| n < conn.settings.max_streams);
        if full || self.draining.is_some() {
            self.calm.spend(1)?;
            let mut frame = Vec::with_capacity(13);
            frame::write_reset(&mut frame, id, Code::Refused);
            return Ok(self.out.append(&frame)?);
        }
        if request.is_err() {
            self.calm.spend(10)?;
        }
        let mut state = StreamState::new(self.peer_initial_window, i64::from(conn.settings.stream_window));
        if end {
            state.remote = Half::Ended;
        }
        self.streams.insert(id, state);
        self.arrivals.push((id, request));
        Ok(())
    }

    fn trailers(&mut self, id: u32, end: bool) -> Result<(), ParseError> {
        self.calm.spend(1)?;
        let Some(state) = self.streams.get_mut(&id) else { return Ok(()) };
        if end && matches!(state.remote, Half::Open) {
            state.remote = Half::Ended;
            shut_if_done(state);
        } else {
            state.remote = Half::Reset(Code::Protocol);
        }
        state.wake();
        Ok(())
    }

    fn answer(&mut self, conn: &Conn, id: u32, end: bool) -> Result<(), ParseError> {
        let limit = usize::try_from(conn.settings.max_header_list).expect("32 bits fit");
        let answer = head::response(&mut self.decoder, self.parser.block(), limit);
        if let Err(RequestError::Block(_)) = &answer {
            return Err(ParseError { code: Code::Compression, reason: "illegal header block" });
        }
        let Some(state) = self.streams.get_mut(&id) else { return self.check_known(id) };
        if state.answered {
            return self.trailers(id, end);
        }
        if answer.as_ref().is_ok_and(|a| a.status < 200) {
            return self.calm.spend(1);
        }
        state.answered = true;
        state.answer = Some(answer);
        if end {
            state.remote = Half::Ended;
        }
        state.wake();
        Ok(())
    }
}
