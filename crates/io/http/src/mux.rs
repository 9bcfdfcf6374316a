//! A connection to an endpoint that carries many requests at once: HTTP/2. A task of its own drives it, which ends when nobody holds it any more.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use h2::Reason;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http2::{Builder, SendRequest},
    },
    rt::Executor,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::{AbortHandle, spawn_local},
};
use weir_balance::{Shared, Slot, Uses};

use crate::{
    meter::{Clock, Meter},
    upload::Upload,
    wire::Wire,
};

/// Bytes of a stream that may wait here. What they add up to is bounded by the connection's window.
pub(crate) const STREAM_WINDOW: u32 = 256 << 10;
/// Bytes of a connection that may wait here.
pub(crate) const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of a stream that may wait to be written.
pub(crate) const SEND_BUFFER: usize = 64 << 10;

/// Runs what belongs to a connection on its worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnWorker;

impl<F: Future<Output: 'static> + 'static> Executor<F> for OnWorker {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

/// A connection to an endpoint.
pub(crate) struct Mux {
    sender: SendRequest<Upload>,
    active: Cell<u32>,
    most: u32,
    /// How many the endpoint allows, as far as is known.
    allowed: Rc<Cell<u32>>,
    uses: RefCell<Uses>,
    clock: Rc<Clock>,
    /// Since when it has had nothing to do.
    rested: Cell<Duration>,
    task: AbortHandle,
    _slot: Slot<Shared>,
}

impl Drop for Mux {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A request on such a connection, for as long as it lasts.
pub(crate) struct Ride(Rc<Mux>);

impl Drop for Ride {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
        self.0.rested.set(self.0.clock.now());
    }
}

/// What came of sending a request.
pub(crate) enum Sent {
    /// An answer.
    Answer(Response<Incoming>),
    /// Nothing of it was sent.
    Back,
    /// Nothing was done with it: `REFUSED_STREAM`, or a connection that ended before.
    Refused,
    /// It was reset.
    Reset(Reason),
    /// The connection ended.
    Broken,
}

impl Mux {
    /// Takes over a connection that was just made.
    pub(crate) async fn new<Io: AsyncRead + AsyncWrite + Unpin + 'static>(
        io: Io,
        meter: Rc<Meter>,
        clock: Rc<Clock>,
        (uses, most): (Uses, u32),
        slot: Slot<Shared>,
        head_bytes: u32,
    ) -> Result<Rc<Self>, hyper::Error> {
        let wire = TokioIo::new(Wire::new(io, Bytes::new(), meter));
        let mut builder = Builder::new(OnWorker);
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(head_bytes);
        let (sender, connection) = builder.handshake(wire).await?;
        let allowed = Rc::new(Cell::new(u32::MAX));
        let told = Rc::clone(&allowed);
        let mut connection = Box::pin(connection);
        let task = spawn_local(poll_fn(move |cx| {
            let ended = connection.as_mut().poll(cx);
            told.set(u32::try_from(connection.current_max_send_streams()).unwrap_or(u32::MAX));
            ended.map(|ended| {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection to an endpoint");
                }
            })
        }));
        Ok(Rc::new(Self {
            sender,
            active: Cell::new(0),
            most,
            allowed,
            uses: RefCell::new(uses),
            rested: Cell::new(clock.now()),
            clock,
            task: task.abort_handle(),
            _slot: slot,
        }))
    }

    /// A place on it, if it has one.
    pub(crate) fn board(self: &Rc<Self>) -> Option<Ride> {
        let most = self.most.min(self.allowed.get());
        if self.is_closed() || self.active.get() >= most || !self.uses.borrow_mut().take() {
            return None;
        }
        self.active.set(self.active.get() + 1);
        Some(Ride(Rc::clone(self)))
    }

    /// Whether it takes no more requests: it ended, or it has carried as many as it may.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.uses.borrow().is_over()
    }

    /// Whether it has had nothing to do for so long.
    pub(crate) fn has_rested(&self, now: Duration, least: Duration) -> bool {
        self.active.get() == 0 && now.saturating_sub(self.rested.get()) >= least
    }
}

impl Ride {
    /// Sends a request and waits for the head of its answer.
    pub(crate) fn send(&self, request: Request<Upload>) -> impl Future<Output = Sent> + use<> {
        let mut sender = self.0.sender.clone();
        async move {
            match sender.try_send_request(request).await {
                Ok(answer) => Sent::Answer(answer),
                Err(error) => failed(error),
            }
        }
    }
}

fn failed(mut error: TrySendError<Request<Upload>>) -> Sent {
    if error.take_message().is_some() {
        return Sent::Back;
    }
    let error = error.into_error();
    match reason(&error) {
        Some(Reason::REFUSED_STREAM) => Sent::Refused,
        Some(reason) => Sent::Reset(reason),
        None => Sent::Broken,
    }
}

/// Why a stream ended, if the other side said so.
pub(crate) fn reason(error: &(dyn std::error::Error + 'static)) -> Option<Reason> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.reason().filter(|_| !error.is_io());
        }
        cause = error.source();
    }
    None
}
