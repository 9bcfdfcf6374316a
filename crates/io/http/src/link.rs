//! A connection to an endpoint that carries one request at a time: HTTP/1.1. It has no task: whoever waits for something on it polls it, and nobody
//! does while it is idle, for it is looked at before it is used again. Nor has it a buffer while it is idle: all connections of a worker are read into one.

mod chunks;
mod reader;
mod sending;

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Method, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use weir_balance::{Shared, Slot, Uses};

pub use self::reader::{Malformed, Part, Reader};
pub(crate) use self::sending::ATTEMPT_COUNT;
use self::sending::{Sending, Unsent};
use crate::{attempt::Head, meter::Meter, upload::Upload, wire::Wire};

/// Where a worker reads into. What is small is copied from there, and the room used again.
#[derive(Debug, Default)]
pub(crate) struct Scratch(BytesMut);

impl Scratch {
    /// Bytes of it, when it is new.
    const ROOM: usize = 64 << 10;
    /// It is made anew when fewer are left.
    const LEAST: usize = 16 << 10;
    /// As many bytes at once are given away instead of copied.
    const LARGE: usize = 8 << 10;

    fn poll_read<Io>(&mut self, io: &mut Wire<Io>, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>>
    where
        Io: AsyncRead + Unpin,
    {
        if self.0.capacity() < Self::LEAST {
            self.0 = BytesMut::with_capacity(Self::ROOM);
        }
        let count = ready!(pin!(io.read_buf(&mut self.0)).poll(cx))?;
        Poll::Ready(Ok(if count >= Self::LARGE {
            self.0.split().freeze()
        } else {
            let read = Bytes::copy_from_slice(&self.0);
            self.0.clear();
            read
        }))
    }
}

/// A connection to an endpoint.
pub(crate) struct Link<Io: AsyncRead + AsyncWrite + Unpin> {
    io: Wire<Io>,
    scratch: Rc<RefCell<Scratch>>,
    reader: Reader,
    /// What was read and is not taken yet.
    unread: Bytes,
    sending: Sending,
    /// It can carry no other request.
    is_over: bool,
    uses: Uses,
    meter: Rc<Meter>,
    slot: Slot<Shared>,
    /// Since when it has had nothing to do; none if it never had anything.
    pub(crate) rested: Option<Duration>,
}

/// Why a request on a connection, or its answer, did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The connection broke.
    #[error("the endpoint's connection broke")]
    Io(#[source] io::Error),
    /// It ended.
    #[error("the endpoint's connection ended in the middle of its answer")]
    Closed,
    /// Its bytes are no HTTP.
    #[error("the endpoint's bytes are no answer")]
    Malformed(#[from] Malformed),
    /// The body of the request did.
    #[error("the body of the request broke off")]
    Body,
}

impl Broken {
    pub(crate) fn is_malformed(&self) -> bool {
        matches!(self, Self::Malformed(_))
    }
}

impl From<Unsent> for Broken {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Io(error) => Self::Io(error),
            Unsent::Body => Self::Body,
        }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Link<Io> {
    /// Takes over a connection that was just made.
    pub(crate) fn new(
        io: Io,
        meter: Rc<Meter>,
        uses: Uses,
        slot: Slot<Shared>,
        (scratch, head_bytes): (&Rc<RefCell<Scratch>>, usize),
    ) -> Self {
        Self {
            io: Wire::new(io, Bytes::new(), Rc::clone(&meter)),
            scratch: Rc::clone(scratch),
            reader: Reader::new(head_bytes),
            unread: Bytes::new(),
            sending: Sending::default(),
            is_over: false,
            uses,
            meter,
            slot,
            rested: None,
        }
    }

    /// Whether it can take a request, as far as is known without looking.
    fn rests(&self) -> bool {
        !self.is_over
            && self.sending.is_done()
            && self.reader.is_whole()
            && self.reader.keeps_alive()
            && self.unread.is_empty()
            && !self.uses.is_over()
    }

    /// Looks whether it can take a request. Afterwards nobody is woken by it.
    pub(crate) fn is_ready(&mut self) -> bool {
        // Whatever comes now, its end too, nobody asked for.
        let quiet = &mut Context::from_waker(Waker::noop());
        self.rests() && self.scratch.borrow_mut().poll_read(&mut self.io, quiet).is_pending()
    }

    /// Whether it has come to rest and can take a request. It is not looked at: whoever takes it looks.
    pub(crate) fn is_at_rest(&mut self) -> bool {
        if !self.sending.is_done() {
            let quiet = &mut Context::from_waker(Waker::noop());
            self.is_over |= !matches!(self.sending.poll(&mut self.io, quiet), Poll::Ready(Ok(())));
        }
        self.rests()
    }

    /// Bytes that were read and written on it.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        self.meter.bytes()
    }

    /// Sends a request and waits for the head of its answer. `watch` is asked whenever something moved, and may end it.
    pub(crate) async fn send<W>(
        &mut self,
        (head, number): (&Head, u32),
        upload: Upload,
        mut watch: impl FnMut(&mut Context<'_>) -> Poll<W>,
    ) -> Result<Result<Response<()>, Broken>, W> {
        self.uses.take();
        self.reader.begin(head.method == Method::HEAD);
        self.sending.begin(head, number, upload);
        poll_fn(|cx| match self.poll_head(cx) {
            Poll::Ready(answer) => Poll::Ready(Ok(answer)),
            Poll::Pending => watch(cx).map(Err),
        })
        .await
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<()>, Broken>> {
        let sent = self.sending.poll(&mut self.io, cx);
        loop {
            if let Some(answer) = self.reader.head(&mut self.unread)? {
                return Poll::Ready(Ok(answer));
            }
            match self.poll_fill(cx)? {
                Poll::Ready(Filled::Some) => {}
                Poll::Ready(Filled::End) => return Poll::Ready(Err(Broken::Closed)),
                // Who cannot be written to may have said why; if not, that was it.
                Poll::Pending => return if let Poll::Ready(Err(error)) = sent { fails(error) } else { Poll::Pending },
            }
        }
    }

    /// The next part of the body of its answer.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Broken>> {
        if !self.sending.is_done()
            && let Poll::Ready(Err(_)) = self.sending.poll(&mut self.io, cx)
        {
            // The answer may be whole in spite of that.
            self.is_over = true;
        }
        loop {
            match self.reader.body(&mut self.unread)? {
                Part::More => {}
                part @ (Part::Data(_) | Part::Trailers(_) | Part::End) => return Poll::Ready(Ok(part)),
            }
            match ready!(self.poll_fill(cx)?) {
                Filled::Some => {}
                Filled::End if self.reader.ends_with_connection() => return Poll::Ready(Ok(Part::End)),
                Filled::End => return Poll::Ready(Err(Broken::Closed)),
            }
        }
    }

    /// Whether all of its answer was taken.
    pub(crate) fn is_whole(&self) -> bool {
        self.reader.is_whole()
    }

    /// How many bytes of the body of its answer are still to come, if that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        self.reader.left()
    }

    /// Reads, when all was taken that had been read.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<Filled, Broken>> {
        let read = ready!(self.scratch.borrow_mut().poll_read(&mut self.io, cx)).map_err(Broken::Io)?;
        self.is_over |= read.is_empty();
        let filled = if read.is_empty() { Filled::End } else { Filled::Some };
        self.unread = read;
        Poll::Ready(Ok(filled))
    }

    /// The connection itself, after it was agreed to speak something else on it.
    pub(crate) fn into_io(self) -> (Wire<Io>, Slot<Shared>) {
        (self.io.again(self.unread), self.slot)
    }
}

/// What came of reading.
enum Filled {
    Some,
    End,
}

fn fails<T>(unsent: Unsent) -> Poll<Result<T, Broken>> {
    Poll::Ready(Err(unsent.into()))
}
