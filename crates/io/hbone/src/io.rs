//! A tunnel whose bytes are read and written here, by whoever speaks a protocol over it, instead of relayed to a socket.
//!
//! One task reads and writes: a tunnel has one waker. What is written is bounded by the windows and by the room of the connection, what is
//! received by our own window.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    buffer::Filled,
    conn::Inner,
    stream::{Half, StreamState, Tunnel},
};

impl Tunnel {
    /// Runs `work` on the state of the stream, and has the task woken later if it must wait.
    fn turn<T>(
        &self,
        cx: &mut Context<'_>,
        work: impl FnOnce(&mut Inner, &mut StreamState) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.conn.with(|inner| {
            let Some(mut state) = inner.streams.remove(&self.id) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let result = work(inner, &mut state);
            if result.is_pending() && !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                state.waker = Some(cx.waker().clone());
            }
            inner.streams.insert(self.id, state);
            result
        })
    }
}

/// Why the other side sends and takes no more, if that is so.
fn broken(state: &StreamState) -> Option<io::Error> {
    match &state.remote {
        Half::Open | Half::Ended => None,
        Half::Reset(code) => Some(io::Error::new(io::ErrorKind::ConnectionReset, format!("stream reset: {code}"))),
        Half::Lost(lost) => Some(io::Error::new(io::ErrorKind::ConnectionAborted, lost.to_string())),
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let taken = self.turn(cx, |inner, state| {
            let before = buffer.remaining();
            let (front, back) = state.queue.as_slices();
            for part in [front, back] {
                buffer.put_slice(&part[..part.len().min(buffer.remaining())]);
            }
            let count = before - buffer.remaining();
            if count > 0 {
                state.queue.drain(..count);
                state.shrink();
                state.received += u64::try_from(count).expect("64 bits fit");
                inner.queued -= count;
                return Poll::Ready(Ok(count));
            }
            match (before, &state.remote) {
                (0, _) | (_, Half::Ended) => Poll::Ready(Ok(0)),
                (_, Half::Open) => Poll::Pending,
                (_, Half::Reset(_) | Half::Lost(_)) => Poll::Ready(broken(state).map_or(Ok(0), Err)),
            }
        });
        if let Poll::Ready(Ok(1..)) = taken {
            let settings = *self.conn.settings();
            self.conn.with(|inner| {
                // A peer that takes no credit in is found out by its silence.
                drop(inner.credit_stream(&settings, self.id));
                inner.credit(&settings);
            });
        }
        taken.map_ok(drop)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let id = self.id;
        let wanted: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.turn(cx, |inner, state| {
            if let Some(error) = broken(state) {
                return Poll::Ready(Err(error));
            }
            if !matches!(state.local, Half::Open) {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if wanted == 0 {
                return Poll::Ready(Ok(0));
            }
            let limit = inner.sendable(state).min(wanted);
            match inner.out.fill(id, limit, |slots| Poll::Ready(Ok(gather(pieces, slots)))) {
                Poll::Ready(Ok(Filled::Bytes { count, .. })) => {
                    let sent = i64::try_from(count).expect("less than a window");
                    state.send_window -= sent;
                    inner.send_window -= sent;
                    Poll::Ready(Ok(count))
                }
                Poll::Ready(Ok(Filled::NoRoom | Filled::End)) | Poll::Pending => {
                    inner.block(id);
                    Poll::Pending
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            }
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was written is on its way: the connection's driver sends it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let id = self.id;
        self.turn(cx, |inner, state| {
            if matches!(state.local, Half::Open) && broken(state).is_none() {
                state.local = Half::Ended;
                if inner.out.end_stream(id).is_err() {
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
            }
            Poll::Ready(Ok(()))
        })
    }
}

/// Copies pieces into slots; how many bytes.
fn gather(pieces: &[IoSlice<'_>], slots: &mut [io::IoSliceMut<'_>]) -> usize {
    let (mut total, mut pieces) = (0, pieces.iter().map(|piece| &**piece));
    let mut piece: &[u8] = &[];
    for slot in slots {
        let mut slot: &mut [u8] = slot;
        while !slot.is_empty() {
            if piece.is_empty() {
                match pieces.next() {
                    Some(next) => piece = next,
                    None => return total,
                }
                continue;
            }
            let count = piece.len().min(slot.len());
            let (now, rest) = slot.split_at_mut(count);
            now.copy_from_slice(&piece[..count]);
            (slot, piece) = (rest, &piece[count..]);
            total += count;
        }
    }
    total
}
