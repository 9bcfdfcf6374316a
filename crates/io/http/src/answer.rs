//! The body of an answer on its way to the client. It is where the connection to the endpoint is polled, and from where it returns to its pool.

use std::{
    error::Error,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use crate::{
    around::Around,
    cluster::Upstream,
    link::{Broken, Link, Part},
    log::Log,
    meter::wide,
    mux::{Ride, reason},
    record::Flag,
};

/// The body of an answer.
pub(crate) struct Answer<A: Around> {
    from: From<A>,
    log: Option<Box<Log<A>>>,
    deadline: Option<Pin<Box<Sleep>>>,
}

enum From<A: Around> {
    /// Nothing, or nothing more.
    Nowhere,
    /// Here.
    Here(Bytes),
    /// An endpoint over HTTP/1.1.
    Link(Box<Link<A::Io>>, Rc<Upstream<A>>),
    /// An endpoint over HTTP/2.
    Ride { incoming: Incoming, _ride: Ride },
}

/// Why an answer ends in the middle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cut {
    /// The endpoint.
    #[error("the endpoint ended its answer in the middle")]
    Upstream(#[source] hyper::Error),
    /// Its connection, over HTTP/1.1.
    #[error(transparent)]
    Link(#[from] Broken),
    /// Its time.
    #[error("the time of the request is over")]
    Timeout,
}

impl<A: Around> Answer<A> {
    /// One of our own.
    pub(crate) fn here(body: Bytes, mut log: Box<Log<A>>) -> Self {
        log.written = wide(body.len());
        log.completes();
        let from = if body.is_empty() { From::Nowhere } else { From::Here(body) };
        Self { from, log: Some(log), deadline: None }
    }

    /// None, of a request that has not ended with it.
    pub(crate) fn nothing() -> Self {
        Self { from: From::Nowhere, log: None, deadline: None }
    }

    /// One that an endpoint gives over HTTP/1.1.
    pub(crate) fn of_link(
        link: Box<Link<A::Io>>,
        upstream: Rc<Upstream<A>>,
        log: Option<Box<Log<A>>>,
        deadline: Option<Pin<Box<Sleep>>>,
    ) -> Self {
        let is_empty = link.is_whole();
        let mut answer = Self { from: From::Link(link, upstream), log, deadline };
        if is_empty {
            answer.complete();
        }
        answer
    }

    /// One that an endpoint gives over HTTP/2.
    pub(crate) fn of_ride(
        incoming: Incoming,
        ride: Ride,
        log: Option<Box<Log<A>>>,
        deadline: Option<Pin<Box<Sleep>>>,
    ) -> Self {
        let is_empty = incoming.is_end_stream();
        let mut answer = Self { from: From::Ride { incoming, _ride: ride }, log, deadline };
        if is_empty {
            answer.complete();
        }
        answer
    }

    /// All of it has come: the connection can be used again, and the request has ended.
    fn complete(&mut self) {
        self.deadline = None;
        if let From::Link(link, upstream) = std::mem::replace(&mut self.from, From::Nowhere) {
            upstream.give_back(link);
        }
        if let Some(mut log) = self.log.take() {
            log.completes();
        }
    }

    fn cut(&mut self, cut: Cut) -> Cut {
        let from = std::mem::replace(&mut self.from, From::Nowhere);
        if let Some(mut log) = self.log.take() {
            let (flag, details) = match (&cut, &from) {
                (Cut::Timeout, _) => (Flag::UpstreamRequestTimeout, "upstream_response_timeout"),
                (Cut::Upstream(error), From::Ride { .. }) if reason(error).is_some() => {
                    (Flag::UpstreamRemoteReset, "upstream_reset_after_response_started{remote_reset}")
                }
                (Cut::Link(error), _) if error.is_malformed() => {
                    (Flag::UpstreamProtocolError, "upstream_reset_after_response_started{protocol_error}")
                }
                (Cut::Upstream(_) | Cut::Link(_), _) => (
                    Flag::UpstreamConnectionTermination,
                    "upstream_reset_after_response_started{connection_termination}",
                ),
            };
            log.breaks(flag, details);
        }
        cut
    }

    fn poll_from(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut self.from {
            From::Nowhere => Poll::Ready(None),
            From::Here(bytes) => {
                let bytes = std::mem::take(bytes);
                self.from = From::Nowhere;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            From::Ride { incoming, .. } => Pin::new(incoming).poll_frame(cx).map_err(Cut::Upstream),
            From::Link(link, _) => Poll::Ready(match ready!(link.poll_body(cx)) {
                Ok(Part::Data(data)) => Some(Ok(Frame::data(data))),
                Ok(Part::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
                Ok(Part::More | Part::End) => None,
                Err(broken) => Some(Err(broken.into())),
            }),
        }
    }
}

impl<A: Around> Body for Answer<A> {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        match this.poll_from(cx) {
            Poll::Pending => {
                let is_late = this.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready());
                if is_late { Poll::Ready(Some(Err(this.cut(Cut::Timeout).into()))) } else { Poll::Pending }
            }
            Poll::Ready(None) => {
                this.complete();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(cut))) => Poll::Ready(Some(Err(this.cut(cut).into()))),
            Poll::Ready(Some(Ok(frame))) => {
                let is_last = frame.is_trailers();
                if let Some(log) = &mut this.log {
                    match (frame.data_ref(), frame.trailers_ref()) {
                        (Some(data), _) => log.moved(data),
                        (None, Some(trailers)) => log.trailed(trailers),
                        (None, None) => {}
                    }
                }
                if is_last || this.is_end_stream() {
                    this.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.from {
            From::Nowhere => true,
            From::Here(_) => false,
            From::Link(link, _) => link.is_whole(),
            From::Ride { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.from {
            From::Nowhere => SizeHint::with_exact(0),
            From::Here(bytes) => SizeHint::with_exact(wide(bytes.len())),
            From::Link(link, _) => link.left().map_or_else(SizeHint::default, SizeHint::with_exact),
            From::Ride { incoming, .. } => incoming.size_hint(),
        }
    }
}
