//! A connection as the HTTP libraries see it: what was read to sniff at it comes first, and what moves is metered.

use std::{
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
}

impl<Io> Wire<Io> {
    pub(crate) fn new(io: Io, first: Bytes, meter: Rc<Meter>) -> Self {
        Self { io, first, meter }
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
            let mut flat = [0; FLAT];
            let mut at = 0;
            for part in parts {
                flat[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
            ready!(Pin::new(&mut self.io).poll_write(cx, &flat[..total]))?
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
