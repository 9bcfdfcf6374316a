//! The body of an answer on its way to the client. It is where the connection to the endpoint is polled, and from where it returns to its pool.

use std::{
    error::Error,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use crate::{
    around::Around,
    cluster::Upstream,
    link::Link,
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
    Link(Incoming, Box<Link<A::Io>>, Rc<Upstream<A>>),
    /// An endpoint over HTTP/2.
    Ride { incoming: Incoming, _ride: Ride },
}

/// Why an answer ends in the middle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cut {
    /// The endpoint.
    #[error("the endpoint ended its answer in the middle")]
    Upstream(#[source] hyper::Error),
    /// The connection, without a word.
    #[error("the endpoint's connection ended in the middle of its answer")]
    Closed,
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
        incoming: Incoming,
        link: Box<Link<A::Io>>,
        upstream: Rc<Upstream<A>>,
        log: Option<Box<Log<A>>>,
        deadline: Option<Pin<Box<Sleep>>>,
    ) -> Self {
        let is_empty = incoming.is_end_stream();
        let mut answer = Self { from: From::Link(incoming, link, upstream), log, deadline };
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
        if let From::Link(_, link, upstream) = std::mem::replace(&mut self.from, From::Nowhere) {
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
                (Cut::Upstream(error), _) if error.is_parse() => {
                    (Flag::UpstreamProtocolError, "upstream_reset_after_response_started{protocol_error}")
                }
                (Cut::Upstream(_) | Cut::Closed, _) => (
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
            From::Link(incoming, link, _) => {
                // It is filled by nobody but the connection, which is polled here: no need to be woken by it, too.
                let quiet = &mut Context::from_waker(Waker::noop());
                if let ready @ Poll::Ready(_) = Pin::new(&mut *incoming).poll_frame(quiet) {
                    return ready.map_err(Cut::Upstream);
                }
                link.poll(cx);
                let polled = Pin::new(incoming).poll_frame(quiet).map_err(Cut::Upstream);
                if polled.is_pending() && link.is_over() { Poll::Ready(Some(Err(Cut::Closed))) } else { polled }
            }
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
            From::Link(incoming, ..) | From::Ride { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.from {
            From::Nowhere => SizeHint::with_exact(0),
            From::Here(bytes) => SizeHint::with_exact(wide(bytes.len())),
            From::Link(incoming, ..) | From::Ride { incoming, .. } => incoming.size_hint(),
        }
    }
}
