//! The body of a request on its way to an endpoint: kept, up to a limit, as long as it may have to be sent again.

use std::{
    cell::RefCell,
    error::Error,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use weir_route::Body as Again;

use crate::{grpc::Messages, meter::wide, record::Flag};

/// The body of one attempt.
#[derive(Debug)]
pub(crate) enum Upload {
    /// None.
    Empty,
    /// One that is all here.
    Whole(Option<Bytes>),
    /// The client's.
    Client(Replay),
}

/// The client's body, which attempts take turns to send.
#[derive(Debug)]
pub(crate) struct Source(RefCell<Inner>);

#[derive(Debug)]
struct Inner {
    incoming: Incoming,
    length: Option<u64>,
    held: Vec<Bytes>,
    size: usize,
    /// How much may be held now.
    most: usize,
    /// Some of it is gone.
    spilled: bool,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// How it broke off, or that it was no body: no attempt may take it for whole.
    broken: Option<Flag>,
    received: u64,
    messages: Option<Messages>,
    watchers: Vec<Waker>,
    /// Copies wait for it: it is held to its end.
    is_copied: bool,
}

impl Source {
    pub(crate) fn new(incoming: Incoming, most: usize, is_grpc: bool) -> Rc<Self> {
        Rc::new(Self(RefCell::new(Inner {
            length: incoming.size_hint().exact(),
            incoming,
            held: Vec::new(),
            size: 0,
            most,
            spilled: false,
            trailers: None,
            ended: false,
            broken: None,
            received: 0,
            messages: is_grpc.then(Messages::default),
            watchers: Vec::new(),
            is_copied: false,
        })))
    }

    /// The body from its beginning, for one more attempt.
    pub(crate) fn replay(self: &Rc<Self>) -> Upload {
        Upload::Client(Replay { source: Rc::clone(self), at: 0, sent: 0, are_trailers_sent: false })
    }

    /// Whether it can be sent again.
    pub(crate) fn again(&self) -> Again {
        if self.0.borrow().spilled { Again::Consumed } else { Again::Held }
    }

    /// How it broke off, or that it was no body.
    pub(crate) fn broken(&self) -> Option<Flag> {
        self.0.borrow().broken
    }

    /// It will not be sent again: nothing more is held.
    pub(crate) fn release(&self) {
        let mut inner = self.0.borrow_mut();
        if !inner.is_copied {
            inner.most = 0;
        }
    }

    /// It is to be copied when all of it has come, if that is not too much.
    pub(crate) fn copy(&self, most: usize) {
        let mut inner = self.0.borrow_mut();
        inner.is_copied = true;
        inner.most = inner.most.max(most);
    }

    /// Nobody reads it any more: who waits for its end waits in vain.
    pub(crate) fn abandon(&self) {
        let mut inner = self.0.borrow_mut();
        if !inner.ended {
            inner.broken.get_or_insert(Flag::DownstreamConnectionTermination);
            (inner.spilled, inner.most) = (true, 0);
            inner.held.clear();
            inner.end();
        }
    }

    /// Whether all of it came. If not, who asks is woken when it has.
    pub(crate) fn poll_ended(&self, cx: &Context<'_>) -> bool {
        let mut inner = self.0.borrow_mut();
        if !inner.ended && !inner.watchers.iter().any(|known| known.will_wake(cx.waker())) {
            inner.watchers.push(cx.waker().clone());
        }
        inner.ended
    }

    /// All of it, if it has ended and is still held.
    pub(crate) fn whole(&self) -> Option<Bytes> {
        let inner = self.0.borrow();
        if !inner.ended || inner.spilled {
            return None;
        }
        match inner.held.as_slice() {
            [one] => Some(one.clone()),
            many => Some(many.concat().into()),
        }
    }

    /// Bytes that came, and messages of gRPC.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let inner = self.0.borrow();
        (inner.received, inner.messages.as_ref().map_or(0, Messages::count))
    }
}

impl Inner {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            None => {
                self.end();
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                (self.broken, self.spilled) = (Some(why(&error)), true);
                self.held.clear();
                return Poll::Ready(Some(Err(error.into())));
            }
            Some(Ok(frame)) => frame,
        };
        match frame.into_data() {
            Ok(data) => {
                self.received = self.received.saturating_add(wide(data.len()));
                if let Some(messages) = &mut self.messages {
                    messages.read(&data);
                }
                if self.size.saturating_add(data.len()) <= self.most {
                    self.size += data.len();
                    self.held.push(data.clone());
                } else {
                    self.spilled = true;
                    self.held.clear();
                }
                if self.incoming.is_end_stream() {
                    self.end();
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Err(frame) => {
                self.end();
                self.trailers = frame.into_trailers().ok();
                Poll::Ready(None)
            }
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.watchers.drain(..).for_each(Waker::wake);
    }
}

/// Whether a client went away, or its bytes are no HTTP.
fn why(error: &hyper::Error) -> Flag {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
        {
            return Flag::DownstreamProtocolError;
        }
        cause = error.source();
    }
    Flag::DownstreamConnectionTermination
}

/// The client's body broke off.
#[derive(Debug, thiserror::Error)]
#[error("the client's body broke off")]
pub(crate) struct Broken(#[source] Option<hyper::Error>);

impl From<hyper::Error> for Broken {
    fn from(error: hyper::Error) -> Self {
        Self(Some(error))
    }
}

/// One reading of the client's body.
#[derive(Debug)]
pub(crate) struct Replay {
    source: Rc<Source>,
    /// How many of the pieces that are held were sent.
    at: usize,
    sent: u64,
    are_trailers_sent: bool,
}

impl Replay {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut inner = self.source.0.borrow_mut();
        if inner.broken.is_some() {
            return Poll::Ready(Some(Err(Broken(None))));
        }
        if let Some(piece) = inner.held.get(self.at) {
            self.at += 1;
            self.sent = self.sent.saturating_add(wide(piece.len()));
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        if inner.most == 0 && !inner.held.is_empty() {
            (inner.spilled, self.at) = (true, 0);
            inner.held.clear();
        }
        if !inner.ended
            && let Some(frame) = ready!(inner.poll(cx))
        {
            let frame = frame?;
            self.at = inner.held.len();
            self.sent = self.sent.saturating_add(frame.data_ref().map_or(0, |data| wide(data.len())));
            return Poll::Ready(Some(Ok(frame)));
        }
        let trailers = inner.trailers.as_ref().filter(|_| !self.are_trailers_sent).cloned();
        self.are_trailers_sent = true;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Client(replay) => replay.poll(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_none(),
            Self::Client(Replay { source, at, are_trailers_sent, .. }) => {
                let inner = source.0.borrow();
                inner.ended
                    && inner.broken.is_none()
                    && *at >= inner.held.len()
                    && (inner.trailers.is_none() || *are_trailers_sent)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| wide(bytes.len()))),
            Self::Client(Replay { source, sent, .. }) => match source.0.borrow().length {
                Some(length) => SizeHint::with_exact(length.saturating_sub(*sent)),
                None => SizeHint::default(),
            },
        }
    }
}
