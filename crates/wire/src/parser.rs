//! Frames out of a byte stream that arrives in any pieces. Payload of DATA is never held back or copied; all else is small,
//! bounded, and complete when it is reported.
//!
//! ```text
//!   Preface (server) ──┐
//!            ┌─────────┴── payload done ────────────┐
//!            ▼                                      │
//!   Head ── nine bytes ──┬─ DATA ──────────────▶ Data ─▶ (padding)
//!                        ├─ unknown, PRIORITY ─▶ Skip
//!                        └─ the rest ──────────▶ Small
//! ```

use crate::frame::{Code, HEAD, Head, PREFACE, flag, kind};

/// The most SETTINGS parameters taken in one frame.
const MAX_SETTINGS: u32 = 64;
/// The most CONTINUATION frames taken behind one HEADERS.
const MAX_CONTINUATIONS: u32 = 32;
/// The most bytes of a GOAWAY payload.
const MAX_GOAWAY: u32 = 4_096;

/// What the peer did wrong, with the code the connection must end with. RFC 9113 §5.4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct ParseError {
    /// The code for GOAWAY.
    pub code: Code,
    /// What was wrong.
    pub reason: &'static str,
}

const fn bad(code: Code, reason: &'static str) -> ParseError {
    ParseError { code, reason }
}

/// One thing the peer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The last `length` bytes consumed are payload of a stream.
    Data {
        /// The stream.
        stream: u32,
        /// Bytes of payload.
        length: usize,
        /// Whether these are the last of the stream.
        end: bool,
    },
    /// Bytes that only count for flow control.
    Padding {
        /// The stream.
        stream: u32,
        /// Bytes of padding, the length byte included.
        length: usize,
        /// Whether the stream ends here.
        end: bool,
    },
    /// A header block is whole: [`Parser::block`].
    Headers {
        /// The stream.
        stream: u32,
        /// Whether nothing follows on the stream.
        end: bool,
    },
    /// The peer gives a stream up.
    Reset {
        /// The stream.
        stream: u32,
        /// Why.
        code: Code,
    },
    /// Parameters: [`Parser::settings`].
    Settings,
    /// Our parameters are in force.
    SettingsAck,
    /// To be answered with the same bytes.
    Ping([u8; 8]),
    /// An answer to our PING.
    Pong([u8; 8]),
    /// No more streams: [`Parser::reason`] has the peer's words.
    GoAway {
        /// The highest of our streams the peer took up.
        last_stream: u32,
        /// Why.
        code: Code,
    },
    /// More bytes may be sent.
    WindowUpdate {
        /// The stream, 0 for the connection.
        stream: u32,
        /// How many.
        increment: u32,
    },
    /// Something legal without meaning here was dropped.
    Ignored,
}

#[derive(Debug)]
enum State {
    Preface { have: usize },
    Head { have: usize },
    PadLength { head: Head },
    Data { stream: u32, left: u32, padding: u32, length_byte: u32, end: bool },
    Skip { left: u32 },
    Small { head: Head },
}

/// Reads one side of a connection.
#[derive(Debug)]
pub struct Parser {
    max_frame: u32,
    max_block: usize,
    state: State,
    head: [u8; HEAD],
    payload: Vec<u8>,
    block: Vec<u8>,
    /// The stream whose block is unfinished, whether it ends the stream, and how many CONTINUATIONs came.
    open_block: Option<(u32, bool, u32)>,
}

impl Parser {
    /// A parser that takes frames up to `max_frame` bytes and header blocks up to `max_block` bytes.
    pub fn new(max_frame: u32, max_block: usize) -> Self {
        Self {
            max_frame,
            max_block,
            state: State::Head { have: 0 },
            head: [0; HEAD],
            payload: Vec::new(),
            block: Vec::new(),
            open_block: None,
        }
    }

    /// The same for the side that accepts: a client says [`PREFACE`] first.
    pub fn after_preface(max_frame: u32, max_block: usize) -> Self {
        Self { state: State::Preface { have: 0 }, ..Self::new(max_frame, max_block) }
    }

    /// The block of the last [`Event::Headers`].
    pub fn block(&self) -> &[u8] {
        &self.block
    }

    /// The parameters of the last [`Event::Settings`], in the peer's order.
    pub fn settings(&self) -> impl Iterator<Item = (u16, u32)> + '_ {
        self.payload
            .chunks_exact(6)
            .map(|c| (u16::from_be_bytes([c[0], c[1]]), u32::from_be_bytes([c[2], c[3], c[4], c[5]])))
    }

    /// The peer's words in the last [`Event::GoAway`].
    pub fn reason(&self) -> &[u8] {
        self.payload.get(8..).unwrap_or_default()
    }

    /// Whether the bytes so far end between two frames.
    pub fn at_boundary(&self) -> bool {
        matches!(self.state, State::Head { have: 0 })
    }

    /// Takes bytes off the front of `input`: how many, and what they mean if that is known yet. Call again with the rest
    /// until nothing is consumed and nothing is reported.
    ///
    /// # Errors
    /// If the peer broke the protocol; the connection must end.
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, Option<Event>), ParseError> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            let (taken, event) = match self.state {
                State::Preface { have } => (self.take_preface(have, rest)?, None),
                State::Head { have } => (self.take_head(have, rest)?, None),
                State::PadLength { head } => match rest.first() {
                    Some(&pad) => (1, self.begin_padded(head, u32::from(pad))?),
                    None => (0, None),
                },
                State::Data { .. } => self.take_data(rest),
                State::Skip { left } => self.take_skip(left, rest),
                State::Small { head } => self.take_small(head, rest)?,
            };
            used += taken;
            if event.is_some() || (taken == 0 && !self.ready_without_input()) {
                return Ok((used, event));
            }
        }
    }

    /// Whether the state reports something without another byte.
    fn ready_without_input(&self) -> bool {
        match self.state {
            State::Preface { .. } | State::Head { .. } | State::PadLength { .. } => false,
            State::Data { left, padding, .. } => left == 0 && padding == 0,
            State::Skip { left } => left == 0,
            State::Small { head } => head.length == 0,
        }
    }

    fn take_preface(&mut self, have: usize, rest: &[u8]) -> Result<usize, ParseError> {
        let n = rest.len().min(PREFACE.len() - have);
        if rest[..n] != PREFACE[have..have + n] {
            return Err(bad(Code::Protocol, "no HTTP/2 preface"));
        }
        let have = have + n;
        self.state = if have == PREFACE.len() { State::Head { have: 0 } } else { State::Preface { have } };
        Ok(n)
    }

    fn take_head(&mut self, have: usize, rest: &[u8]) -> Result<usize, ParseError> {
        let n = rest.len().min(HEAD - have);
        self.head[have..have + n].copy_from_slice(&rest[..n]);
        if have + n < HEAD {
            self.state = State::Head { have: have + n };
            return Ok(n);
        }
        let head = Head::decode(self.head);
        self.check(&head)?;
        self.state = match head.kind {
            kind::DATA if head.flags & flag::PADDED != 0 => State::PadLength { head },
            kind::DATA => State::Data {
                stream: head.stream,
                left: head.length,
                padding: 0,
                length_byte: 0,
                end: head.flags & flag::END_STREAM != 0,
            },
            kind::HEADERS
            | kind::CONTINUATION
            | kind::RST_STREAM
            | kind::SETTINGS
            | kind::PING
            | kind::GOAWAY
            | kind::WINDOW_UPDATE => {
                self.payload.clear();
                State::Small { head }
            }
            _ => State::Skip { left: head.length },
        };
        Ok(n)
    }

    /// What the head alone can be wrong in.
    fn check(&self, head: &Head) -> Result<(), ParseError> {
        if head.length > self.max_frame {
            return Err(bad(Code::FrameSize, "frame larger than SETTINGS_MAX_FRAME_SIZE"));
        }
        if let Some((stream, _, _)) = self.open_block
            && (head.kind != kind::CONTINUATION || head.stream != stream)
        {
            return Err(bad(Code::Protocol, "header block interrupted"));
        }
        let on_stream = head.stream != 0;
        let sized = |ok: bool| if ok { Ok(()) } else { Err(bad(Code::FrameSize, "frame of a wrong size")) };
        let placed = |ok: bool| if ok { Ok(()) } else { Err(bad(Code::Protocol, "frame on a wrong stream")) };
        match head.kind {
            kind::DATA => {
                placed(on_stream)?;
                sized(head.flags & flag::PADDED == 0 || head.length > 0)
            }
            kind::HEADERS => placed(on_stream),
            kind::CONTINUATION if self.open_block.is_none() => {
                Err(bad(Code::Protocol, "CONTINUATION without a header block"))
            }
            kind::PRIORITY => {
                placed(on_stream)?;
                sized(head.length == 5)
            }
            kind::RST_STREAM => {
                placed(on_stream)?;
                sized(head.length == 4)
            }
            kind::SETTINGS => {
                placed(!on_stream)?;
                sized(head.length.is_multiple_of(6) && (head.flags & flag::ACK == 0 || head.length == 0))?;
                if head.length > 6 * MAX_SETTINGS {
                    return Err(bad(Code::Calm, "too many SETTINGS parameters"));
                }
                Ok(())
            }
            kind::PUSH_PROMISE => Err(bad(Code::Protocol, "PUSH_PROMISE although pushing is off")),
            kind::PING => {
                placed(!on_stream)?;
                sized(head.length == 8)
            }
            kind::GOAWAY => {
                placed(!on_stream)?;
                sized(head.length >= 8)?;
                if head.length > MAX_GOAWAY {
                    return Err(bad(Code::Calm, "GOAWAY with too many words"));
                }
                Ok(())
            }
            kind::WINDOW_UPDATE => sized(head.length == 4),
            _ => Ok(()),
        }
    }

    fn begin_padded(&mut self, head: Head, padding: u32) -> Result<Option<Event>, ParseError> {
        let left =
            (head.length - 1).checked_sub(padding).ok_or(bad(Code::Protocol, "padding longer than its frame"))?;
        let end = head.flags & flag::END_STREAM != 0;
        self.state = State::Data { stream: head.stream, left, padding, length_byte: 1, end };
        Ok(None)
    }

    fn take_data(&mut self, rest: &[u8]) -> (usize, Option<Event>) {
        let State::Data { stream, left, padding, length_byte, end } = self.state else {
            unreachable!("only called in this state")
        };
        if left == 0 && (padding > 0 || length_byte > 0) {
            let n = small(rest, padding);
            if n == 0 && padding > 0 {
                return (0, None);
            }
            let padding = padding - bytes(n);
            let done = padding == 0;
            self.state =
                if done { State::Head { have: 0 } } else { State::Data { stream, left, padding, length_byte: 0, end } };
            let length = n + usize::from(length_byte > 0);
            return (n, Some(Event::Padding { stream, length, end: end && done }));
        }
        let n = small(rest, left);
        if n == 0 && left > 0 {
            return (0, None);
        }
        let left = left - bytes(n);
        let padded = padding > 0 || length_byte > 0;
        let done = left == 0 && !padded;
        self.state =
            if done { State::Head { have: 0 } } else { State::Data { stream, left, padding, length_byte, end } };
        (n, Some(Event::Data { stream, length: n, end: end && done }))
    }

    fn take_skip(&mut self, left: u32, rest: &[u8]) -> (usize, Option<Event>) {
        let n = small(rest, left);
        let left = left - bytes(n);
        if left == 0 {
            self.state = State::Head { have: 0 };
            return (n, Some(Event::Ignored));
        }
        self.state = State::Skip { left };
        (n, None)
    }

    fn take_small(&mut self, head: Head, rest: &[u8]) -> Result<(usize, Option<Event>), ParseError> {
        let is_block = matches!(head.kind, kind::HEADERS | kind::CONTINUATION);
        let held = bytes(self.payload.len());
        if is_block && self.block_held(&head) + usize_of(head.length) > self.max_block + 261 {
            return Err(bad(Code::Calm, "header block too large"));
        }
        let n = small(rest, head.length - held);
        self.payload.extend_from_slice(&rest[..n]);
        if held + bytes(n) < head.length {
            return Ok((n, None));
        }
        self.state = State::Head { have: 0 };
        Ok((n, self.finish_small(head)?))
    }

    fn block_held(&self, head: &Head) -> usize {
        if head.kind == kind::CONTINUATION { self.block.len() } else { 0 }
    }

    fn finish_small(&mut self, head: Head) -> Result<Option<Event>, ParseError> {
        let word = |at: usize| {
            let bytes = self.payload.get(at..at + 4).and_then(|b| b.try_into().ok()).expect("the length was checked");
            u32::from_be_bytes(bytes)
        };
        let ack = head.flags & flag::ACK != 0;
        let stream = head.stream;
        Ok(Some(match head.kind {
            kind::HEADERS => return self.begin_block(head),
            kind::CONTINUATION => return self.continue_block(head),
            kind::RST_STREAM => Event::Reset { stream, code: Code::from(word(0)) },
            kind::SETTINGS if ack => Event::SettingsAck,
            kind::SETTINGS => Event::Settings,
            kind::PING => {
                let bytes: [u8; 8] = self.payload[..].try_into().expect("the length was checked");
                if ack { Event::Pong(bytes) } else { Event::Ping(bytes) }
            }
            kind::GOAWAY => Event::GoAway { last_stream: word(0) & 0x7fff_ffff, code: Code::from(word(4)) },
            kind::WINDOW_UPDATE => {
                let increment = word(0) & 0x7fff_ffff;
                if increment == 0 {
                    return Err(bad(Code::Protocol, "WINDOW_UPDATE of zero"));
                }
                Event::WindowUpdate { stream, increment }
            }
            _ => Event::Ignored,
        }))
    }

    fn begin_block(&mut self, head: Head) -> Result<Option<Event>, ParseError> {
        let mut fragment = &self.payload[..];
        if head.flags & flag::PADDED != 0 {
            let (&pad, rest) = fragment.split_first().ok_or(bad(Code::FrameSize, "padded HEADERS of no bytes"))?;
            let kept =
                rest.len().checked_sub(usize::from(pad)).ok_or(bad(Code::Protocol, "padding longer than its frame"))?;
            fragment = &rest[..kept];
        }
        if head.flags & flag::PRIORITY != 0 {
            fragment = fragment.get(5..).ok_or(bad(Code::FrameSize, "HEADERS too short for its priority"))?;
        }
        self.block.clear();
        self.block.extend_from_slice(fragment);
        Ok(self.end_block(head, head.flags & flag::END_STREAM != 0, 0))
    }

    fn continue_block(&mut self, head: Head) -> Result<Option<Event>, ParseError> {
        let Some((_, end, continuations)) = self.open_block else {
            unreachable!("checked with the head");
        };
        if continuations >= MAX_CONTINUATIONS {
            return Err(bad(Code::Calm, "header block in too many pieces"));
        }
        self.block.extend_from_slice(&self.payload);
        Ok(self.end_block(head, end, continuations + 1))
    }

    fn end_block(&mut self, head: Head, end: bool, continuations: u32) -> Option<Event> {
        if head.flags & flag::END_HEADERS != 0 {
            self.open_block = None;
            return Some(Event::Headers { stream: head.stream, end });
        }
        self.open_block = Some((head.stream, end, continuations));
        None
    }
}

fn usize_of(n: u32) -> usize {
    usize::try_from(n).expect("a frame length has 24 bits")
}

fn bytes(n: usize) -> u32 {
    u32::try_from(n).expect("never more than a frame length")
}

/// How much of `rest` belongs to something with `left` bytes to go.
fn small(rest: &[u8], left: u32) -> usize {
    rest.len().min(usize_of(left))
}

#[cfg(test)]
mod tests;
