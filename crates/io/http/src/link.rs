//! A connection to an endpoint that carries one request at a time: HTTP/1.1. It has no task: whoever waits for something on it polls it, and nobody
//! does while it is idle, for it is looked at before it is used again.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{Builder, Connection, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::unconstrained,
};
use weir_balance::{Shared, Slot, Uses};

use crate::{meter::Meter, upload::Upload, wire::Wire};

/// A connection to an endpoint.
pub(crate) struct Link<Io: AsyncRead + AsyncWrite + Unpin> {
    sender: SendRequest<Upload>,
    connection: Connection<TokioIo<Wire<Io>>, Upload>,
    is_over: bool,
    uses: Uses,
    meter: Rc<Meter>,
    slot: Slot<Shared>,
    /// Since when it has had nothing to do; none if it never had anything.
    pub(crate) rested: Option<Duration>,
}

/// What came of sending a request.
pub(crate) enum Sent {
    /// An answer.
    Answer(Response<Incoming>),
    /// Nothing of it was written.
    Back,
    /// The connection ended.
    Broken(hyper::Error),
}

impl<Io: AsyncRead + AsyncWrite + Unpin + 'static> Link<Io> {
    /// Takes over a connection that was just made.
    pub(crate) async fn new(
        io: Io,
        meter: Rc<Meter>,
        uses: Uses,
        slot: Slot<Shared>,
        head_bytes: usize,
    ) -> Result<Self, hyper::Error> {
        let wire = TokioIo::new(Wire::new(io, Bytes::new(), Rc::clone(&meter)));
        let mut builder = Builder::new();
        builder.max_header_size(head_bytes).max_buf_size(head_bytes.saturating_mul(2).max(MIN_BUFFER));
        let (sender, connection) = builder.handshake(wire).await?;
        Ok(Self { sender, connection, is_over: false, uses, meter, slot, rested: None })
    }

    /// Moves what can be moved.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) {
        if !self.is_over && self.connection.poll_without_shutdown(cx).is_ready() {
            self.is_over = true;
        }
    }

    /// Whether the connection has come to its end, though what it has read may still be taken.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Looks whether it can take a request. Afterwards nobody is woken by it.
    pub(crate) fn is_ready(&mut self) -> bool {
        self.poll(&mut Context::from_waker(Waker::noop()));
        !self.is_over && self.sender.is_ready() && !self.uses.is_over()
    }

    /// Whether it has come to rest and can take a request. Only if that is not plain it is looked at: whoever takes it looks again.
    pub(crate) fn is_at_rest(&mut self) -> bool {
        let is_plain = !self.is_over && self.sender.is_ready();
        (is_plain && !self.uses.is_over()) || self.is_ready()
    }

    /// Bytes that were read and written on it.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        self.meter.bytes()
    }

    /// Sends a request and waits for the head of its answer. `watch` is asked whenever something moved, and may end it.
    pub(crate) async fn send<W>(
        &mut self,
        request: Request<Upload>,
        mut watch: impl FnMut(&mut Context<'_>) -> Poll<W>,
    ) -> Result<Sent, W> {
        self.uses.take();
        let answer = self.sender.try_send_request(request);
        // It is filled by nobody but the connection, which is polled here: no need to be woken by it, too.
        let mut answer = pin!(unconstrained(answer));
        let (connection, is_over) = (&mut self.connection, &mut self.is_over);
        poll_fn(move |cx| {
            if !*is_over && connection.poll_without_shutdown(cx).is_ready() {
                *is_over = true;
            }
            match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(answer)) => Poll::Ready(Ok(Sent::Answer(answer))),
                Poll::Ready(Err(error)) => Poll::Ready(Ok(failed(error))),
                Poll::Pending => watch(cx).map(Err),
            }
        })
        .await
    }

    /// The connection itself, after it was agreed to speak something else on it.
    pub(crate) fn into_io(self) -> (Wire<Io>, Slot<Shared>) {
        let parts = self.connection.into_parts();
        (parts.io.into_inner().again(parts.read_buf), self.slot)
    }
}

/// The smallest limit of a buffer that hyper takes.
const MIN_BUFFER: usize = 8_192;

fn failed(mut error: TrySendError<Request<Upload>>) -> Sent {
    match error.take_message() {
        Some(_) => Sent::Back,
        None => Sent::Broken(error.into_error()),
    }
}
