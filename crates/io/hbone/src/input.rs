//! The input of a connection: records read into one buffer and opened where they lie.

use std::{
    io::{self, IoSliceMut},
    ops::Range,
    task::{Context, Poll, ready},
};

use weir_net::Stream;

use crate::{
    buffer::{BUFFER, give, take},
    record::{self, MAX_RECORD, RecordKey},
};

/// Bytes asked of the socket at once: what fits the second-level cache next to what is done with them.
const READ: usize = 256 << 10;

/// A record, opened: where its payload lies, and its kind.
pub(crate) struct Opened {
    pub(crate) kind: u8,
    pub(crate) payload: Range<usize>,
}

/// The input of one connection. Holds a buffer only while there is something unread.
pub(crate) struct Input {
    key: RecordKey,
    buffer: Option<Box<[u8]>>,
    start: usize,
    end: usize,
}

impl Input {
    /// An input that starts with bytes which came behind the handshake.
    pub(crate) fn new(key: RecordKey, leftover: &[u8]) -> Self {
        let mut input = Self { key, buffer: None, start: 0, end: leftover.len() };
        if !leftover.is_empty() {
            input.buffer.get_or_insert_with(take)[..leftover.len()].copy_from_slice(leftover);
        }
        input
    }

    pub(crate) fn set_key(&mut self, key: RecordKey) {
        self.key = key;
    }

    /// Reads once; 0 is the end. Records that are whole must have been taken before.
    pub(crate) fn poll_read(&mut self, stream: &Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.is_none() {
            ready!(stream.poll_readable(cx))?;
        }
        let buffer = self.buffer.get_or_insert_with(take);
        // What is left is less than one record.
        buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let to = BUFFER.min(self.end + READ);
        let result = stream.poll_read(cx, &mut [IoSliceMut::new(&mut buffer[self.end..to])]);
        if let Poll::Ready(Ok(n)) = result {
            self.end += n;
        }
        self.release_if_empty();
        result
    }

    /// Opens the next record, if it is whole.
    pub(crate) fn next(&mut self) -> Result<Option<Opened>, &'static str> {
        let Some(buffer) = &mut self.buffer else { return Ok(None) };
        let held = &mut buffer[self.start..self.end];
        let Some(length) = record::length(held)? else { return Ok(None) };
        debug_assert!(length <= MAX_RECORD);
        let Some(bytes) = held.get_mut(..length) else { return Ok(None) };
        if length < record::HEAD + record::TAIL {
            return Err("a record is too short");
        }
        let (kind, payload) = self.key.open(bytes)?;
        let at = self.start + record::HEAD;
        self.start += length;
        Ok(Some(Opened { kind, payload: at..at + payload }))
    }

    /// The buffer that ranges of [`Opened`] mean. Valid until the next read.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.as_deref().unwrap_or_default()
    }

    /// Gives the buffer back when everything in it was used.
    pub(crate) fn release_if_empty(&mut self) {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if let Some(buffer) = self.buffer.take() {
                give(buffer);
            }
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            give(buffer);
        }
    }
}
