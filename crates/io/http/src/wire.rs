//! A connection as the HTTP libraries see it: what was read to sniff at it comes first, and what moves is metered.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::meter::Meter;

/// A message of at most so many bytes is written from one piece of memory: that costs less than to hand several to the system.
const FLAT: usize = 4_096;

/// A connection.
#[derive(Debug)]
pub(crate) struct Wire<Io> {
    io: Io,
    first: Bytes,
    meter: Rc<Meter>,
    /// Where the parts of a small message are put together.
    flat: Vec<u8>,
}

impl<Io> Wire<Io> {
    pub(crate) fn new(io: Io, first: Bytes, meter: Rc<Meter>) -> Self {
        Self { io, first, meter, flat: Vec::new() }
    }

    /// With what came before put in front again.
    pub(crate) fn again(self, first: Bytes) -> Self {
        Self { first, ..self }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Wire<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.first.is_empty() {
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        } else {
            let count = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first[..count]);
            self.first.advance(count);
        }
        let read = &buf.filled()[before..];
        if !read.is_empty() {
            self.meter.was_read(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Wire<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.meter.was_written(count);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let count = if let [part] = parts {
            ready!(Pin::new(&mut self.io).poll_write(cx, part))?
        } else if total <= FLAT {
            let Self { io, flat, .. } = &mut *self;
            flat.clear();
            parts.iter().for_each(|part| flat.extend_from_slice(part));
            ready!(Pin::new(io).poll_write(cx, flat))?
        } else {
            ready!(Pin::new(&mut self.io).poll_write_vectored(cx, parts))?
        };
        self.meter.was_written(count);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// How much is read of a client that is only listened to.
const GLANCE: usize = 256;

/// A client's connection, which is listened to while its request is under way: so that it is noticed when the client goes away.
#[derive(Debug)]
pub(crate) struct Watched<Io>(Rc<RefCell<Wire<Io>>>);

impl<Io> Clone for Watched<Io> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<Io> Watched<Io> {
    pub(crate) fn new(wire: Wire<Io>) -> Self {
        Self(Rc::new(RefCell::new(wire)))
    }

    /// Puts what came before in front again.
    pub(crate) fn put_back(&self, first: Bytes) {
        let mut wire = self.0.borrow_mut();
        // What a glance has found came later.
        wire.first = if wire.first.is_empty() { first } else { [first, wire.first.clone()].concat().into() };
    }
}

impl<Io: AsyncRead + Unpin> Watched<Io> {
    /// Whether the client went away while its request is under way.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut wire = self.0.borrow_mut();
        if !wire.first.is_empty() || !wire.meter.is_busy() {
            return Poll::Pending;
        }
        let mut glance = [0; GLANCE];
        let mut buf = ReadBuf::new(&mut glance);
        match ready!(Pin::new(&mut wire.io).poll_read(cx, &mut buf)) {
            Ok(()) if !buf.filled().is_empty() => {
                wire.first = Bytes::copy_from_slice(buf.filled());
                // Who waits for these bytes was not woken by them.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Ok(()) | Err(_) => Poll::Ready(()),
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Watched<Io> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, buf)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Watched<Io> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(cx)
    }
}
