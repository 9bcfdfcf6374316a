//! The output of a connection: frames laid into records, sealed where they lie, written in one piece.
//!
//! ```text
//!   written │ sealed │ sealed │ head · frames so far · room … │ free
//!   0     sent                 open                 end
//! ```

use std::{
    cell::RefCell,
    io::{self, IoSliceMut},
    task::Poll,
};

use weir_wire::frame::{self, Head, flag, kind};

use crate::record::{self, MAX_PAYLOAD, RecordKey, TAIL};

/// Bytes of one full record.
const RECORD: usize = record::HEAD + MAX_PAYLOAD + TAIL;
/// Full records that application bytes may fill before the socket must take some.
const DATA_RECORDS: usize = 16;
/// Room for data, in bytes.
const DATA_ROOM: usize = RECORD * DATA_RECORDS;
/// Room behind it that only control frames may use.
const CONTROL_ROOM: usize = 64 << 10;
/// Bytes of a buffer.
pub(crate) const BUFFER: usize = DATA_ROOM + CONTROL_ROOM;
/// Most records one read from an application fills.
const SLOTS: usize = 8;
/// A record with less room than this is sealed and a new one begun.
const WORTHWHILE: usize = 1_024;
/// Buffers a thread keeps for later.
const KEPT: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of [`BUFFER`] bytes; what it holds is left from earlier use.
pub(crate) fn take() -> Box<[u8]> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice())
}

/// Gives a buffer back.
pub(crate) fn give(buffer: Box<[u8]>) {
    // While a thread ends there is nothing to keep it for.
    let _kept = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < KEPT {
            spare.push(buffer);
        }
    });
}

/// The peer makes us answer more than it takes in.
#[derive(Debug)]
pub(crate) struct Overrun;

/// What a read from an application brought.
#[derive(Debug)]
pub(crate) enum Filled {
    /// So many bytes, laid into frames; and whether all room that was offered is used.
    Bytes { count: usize, full: bool },
    /// The application ended its direction.
    End,
    /// No room before the socket takes some.
    NoRoom,
}

/// The output of one connection. Holds a buffer only while there is something to send.
pub(crate) struct Output {
    key: RecordKey,
    buffer: Option<Box<[u8]>>,
    sent: usize,
    open: Option<usize>,
    end: usize,
}

impl Output {
    pub(crate) fn new(key: RecordKey) -> Self {
        Self { key, buffer: None, sent: 0, open: None, end: 0 }
    }

    /// Whether there is nothing left to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.end
    }

    /// Whether application bytes may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.end + record::HEAD + frame::HEAD + WORTHWHILE + TAIL <= DATA_ROOM
    }

    /// Whether the key is near its limit.
    pub(crate) fn key_worn(&self) -> bool {
        self.key.used() >= record::REKEY_AFTER
    }

    /// Adds control frames, which may span records.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> Result<(), Overrun> {
        while !bytes.is_empty() {
            let room = self.open_record(1)?;
            let n = bytes.len().min(room);
            let end = self.end;
            self.bytes()[end..end + n].copy_from_slice(&bytes[..n]);
            self.end += n;
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Adds a message of TLS itself in a record of its own.
    pub(crate) fn append_tls(&mut self, kind: u8, message: &[u8]) -> Result<(), Overrun> {
        self.seal_open();
        let start = self.end;
        let end = start + record::HEAD + message.len() + TAIL;
        if end > BUFFER {
            return Err(Overrun);
        }
        let (buffer, key) = self.parts();
        buffer[start + record::HEAD..end - TAIL].copy_from_slice(message);
        key.seal(&mut buffer[start..end], kind);
        self.end = end;
        Ok(())
    }

    /// Makes `key` the one for all records from here on.
    pub(crate) fn set_key(&mut self, key: RecordKey) {
        self.seal_open();
        self.key = key;
    }

    /// Reads at most `limit` bytes from an application straight into DATA frames of `stream`.
    ///
    /// Each frame lies in one record, so that the other side can hand its bytes on as soon as that record is there.
    pub(crate) fn fill(
        &mut self,
        stream: u32,
        limit: usize,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<Filled>> {
        if limit == 0 || !self.has_room() {
            return Poll::Ready(Ok(Filled::NoRoom));
        }
        if self.open_record(frame::HEAD + WORTHWHILE.min(limit)).is_err() {
            return Poll::Ready(Ok(Filled::NoRoom));
        }
        let (slots, count) = self.slots(limit);
        let offered: usize = slots[..count].iter().map(|s| s.1).sum();
        let result = {
            let buffer = self.bytes();
            let mut slices: [IoSliceMut<'_>; SLOTS] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
            let mut rest = &mut buffer[..];
            let mut base = 0;
            for (slice, &(at, length)) in slices.iter_mut().zip(&slots[..count]) {
                let (_, tail) = rest.split_at_mut(at - base);
                let (slot, tail) = tail.split_at_mut(length);
                *slice = IoSliceMut::new(slot);
                rest = tail;
                base = at + length;
            }
            read(&mut slices[..count])
        };
        match result {
            Poll::Ready(Ok(n)) if n > 0 => {
                self.commit(stream, &slots[..count], n);
                Poll::Ready(Ok(Filled::Bytes { count: n, full: n == offered }))
            }
            Poll::Ready(_) | Poll::Pending => {
                if self.open == self.end.checked_sub(record::HEAD) {
                    // The record was begun for nothing.
                    self.open = None;
                    self.end -= record::HEAD;
                }
                self.release_if_empty();
                result.map_ok(|_| Filled::End)
            }
        }
    }

    /// Where the payload of up to [`SLOTS`] frames may lie: the first in the open record, each next in a record of its own.
    fn slots(&self, limit: usize) -> ([(usize, usize); SLOTS], usize) {
        let mut slots = [(0, 0); SLOTS];
        let mut left = limit;
        let mut count = 0;
        let open = self.open.expect("a record was opened");
        let mut at = self.end + frame::HEAD;
        let mut room = open + record::HEAD + MAX_PAYLOAD - at;
        while count < SLOTS && left > 0 {
            let length = room.min(left);
            slots[count] = (at, length);
            count += 1;
            left -= length;
            let next = at + length + TAIL + record::HEAD + frame::HEAD;
            if next + WORTHWHILE + TAIL > DATA_ROOM {
                break;
            }
            at = next;
            room = (MAX_PAYLOAD - frame::HEAD).min(DATA_ROOM - TAIL - next);
        }
        (slots, count)
    }

    /// Writes the frame heads before `n` bytes that were read into `slots`, and seals the records that are full.
    fn commit(&mut self, stream: u32, slots: &[(usize, usize)], n: usize) {
        let mut left = n;
        for (index, &(at, length)) in slots.iter().enumerate() {
            if left == 0 {
                break;
            }
            if index > 0 {
                self.seal_open();
                self.open = Some(at - frame::HEAD - record::HEAD);
            }
            let used = length.min(left);
            left -= used;
            let length = u32::try_from(used).expect("a record is below 2^15 bytes");
            let head = Head { length, kind: kind::DATA, flags: 0, stream };
            self.bytes()[at - frame::HEAD..at].copy_from_slice(&head.encode());
            self.end = at + used;
        }
    }

    /// Adds an empty DATA frame that ends a stream.
    pub(crate) fn end_stream(&mut self, stream: u32) -> Result<(), Overrun> {
        self.append(&Head { length: 0, kind: kind::DATA, flags: flag::END_STREAM, stream }.encode())
    }

    /// Opens a record if none is open with `want` bytes of room; how much room there is.
    fn open_record(&mut self, want: usize) -> Result<usize, Overrun> {
        if let Some(open) = self.open {
            let room = (open + record::HEAD + MAX_PAYLOAD).min(BUFFER - TAIL).saturating_sub(self.end);
            if room >= want {
                return Ok(room);
            }
            self.seal_open();
        }
        let room = BUFFER.saturating_sub(self.end + record::HEAD + TAIL).min(MAX_PAYLOAD);
        if room < want {
            return Err(Overrun);
        }
        self.open = Some(self.end);
        self.end += record::HEAD;
        Ok(room)
    }

    /// Seals the open record, if there is one.
    fn seal_open(&mut self) {
        let Some(open) = self.open.take() else { return };
        let end = self.end + TAIL;
        let (buffer, key) = self.parts();
        key.seal(&mut buffer[open..end], record::kind::APPLICATION);
        self.end = end;
    }

    /// What is to be written next; everything is sealed.
    pub(crate) fn pending(&mut self) -> &[u8] {
        self.seal_open();
        match &self.buffer {
            Some(buffer) => &buffer[self.sent..self.end],
            None => &[],
        }
    }

    /// Notes that `n` bytes were written.
    pub(crate) fn wrote(&mut self, n: usize) {
        self.sent += n;
        self.release_if_empty();
    }

    fn release_if_empty(&mut self) {
        if self.sent == self.end && self.open.is_none() {
            self.sent = 0;
            self.end = 0;
            if let Some(buffer) = self.buffer.take() {
                give(buffer);
            }
        }
    }

    fn bytes(&mut self) -> &mut [u8] {
        self.buffer.get_or_insert_with(take)
    }

    fn parts(&mut self) -> (&mut [u8], &mut RecordKey) {
        (self.buffer.get_or_insert_with(take), &mut self.key)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            give(buffer);
        }
    }
}
