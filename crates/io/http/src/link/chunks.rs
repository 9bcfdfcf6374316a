//! A body in chunks, as it is read. RFC 9112 §7.1.

use bytes::{Buf, Bytes};
use http::{
    HeaderMap, HeaderName,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE},
};
use httparse::Status;

use super::reader::{MAX_FIELDS, Malformed, Part, map};

/// The most bytes of what may stand behind the size of a chunk, in all chunks of a body together. As hyper has it.
const MAX_EXTENSIONS: usize = 16 << 10;
/// The most bytes of trailers. As hyper has it.
const MAX_TRAILERS: usize = 16 << 10;
/// What is no trailer: it would say how a message is framed that has ended. RFC 9110 §6.5.1.
const NOT_TRAILED: [HeaderName; 4] = [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE];

/// Where in the chunks the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    /// The first digit of a size.
    #[default]
    Digit,
    /// Another, or what ends it.
    Size,
    /// Blanks behind a size.
    Blank,
    /// What a chunk says of itself, which nobody reads.
    Extension,
    /// The end of the line of a size.
    SizeEnd,
    /// The bytes of a chunk.
    Data,
    /// The end of the line behind them: CR, then LF.
    DataCr,
    DataLf,
    /// Behind the last chunk.
    Trailers,
    /// Behind everything.
    Over,
}

/// Reads a body in chunks.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    at: At,
    /// The size of the chunk as far as it was read, then what is left of it.
    size: u64,
    extensions: usize,
    trailers: Vec<u8>,
}

impl Chunks {
    /// Whether all of it has come.
    pub(super) fn is_over(&self) -> bool {
        self.at == At::Over
    }

    /// The next part.
    pub(super) fn read(&mut self, input: &mut Bytes) -> Result<Part, Malformed> {
        loop {
            if self.at == At::Over {
                return Ok(Part::End);
            }
            if self.at == At::Data {
                if input.is_empty() {
                    return Ok(Part::More);
                }
                let here = usize::try_from(self.size).unwrap_or(usize::MAX).min(input.len());
                self.size = self.size.saturating_sub(crate::meter::wide(here));
                if self.size == 0 {
                    self.at = At::DataCr;
                }
                return Ok(Part::Data(input.split_to(here)));
            }
            let Some(byte) = input.first().copied() else { return Ok(Part::More) };
            input.advance(1);
            if self.at == At::Trailers {
                if let Some(part) = self.trail(byte)? {
                    return Ok(part);
                }
            } else {
                self.at = self.step(byte).ok_or(Malformed::Chunk)?;
            }
        }
    }

    /// Where the next byte is, after this one of the lines around data.
    fn step(&mut self, byte: u8) -> Option<At> {
        match (self.at, byte) {
            (At::Digit | At::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16)?;
                self.size = self.size.checked_mul(16)?.checked_add(digit.into())?;
                Some(At::Size)
            }
            (At::Size | At::Blank, b' ' | b'\t') => self.passes(At::Blank),
            (At::Size | At::Blank, b';') => self.passes(At::Extension),
            (At::Size | At::Blank | At::Extension, b'\r') => Some(At::SizeEnd),
            (At::Extension, b'\n') => None,
            (At::Extension, _) => self.passes(At::Extension),
            (At::SizeEnd, b'\n') if self.size == 0 => Some(At::Trailers),
            (At::SizeEnd, b'\n') => Some(At::Data),
            (At::DataCr, b'\r') => Some(At::DataLf),
            (At::DataLf, b'\n') => Some(At::Digit),
            _ => None,
        }
    }

    fn passes(&mut self, at: At) -> Option<At> {
        self.extensions += 1;
        (self.extensions <= MAX_EXTENSIONS).then_some(at)
    }

    /// One more byte behind the last chunk.
    fn trail(&mut self, byte: u8) -> Result<Option<Part>, Malformed> {
        self.trailers.push(byte);
        if self.trailers == b"\r\n" {
            self.at = At::Over;
            return Ok(Some(Part::End));
        }
        if self.trailers.len() > MAX_TRAILERS {
            return Err(Malformed::Trailers);
        }
        if !self.trailers.ends_with(b"\r\n\r\n") {
            return Ok(None);
        }
        let bytes = Bytes::from(std::mem::take(&mut self.trailers));
        let mut room = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let Ok(Status::Complete((length, fields))) = httparse::parse_headers(&bytes, &mut room) else {
            return Err(Malformed::Trailers);
        };
        if length != bytes.len() {
            return Err(Malformed::Trailers);
        }
        let mut trailers: HeaderMap = map(&bytes, fields)?;
        for name in NOT_TRAILED {
            trailers.remove(name);
        }
        self.at = At::Over;
        Ok(Some(Part::Trailers(trailers)))
    }
}
