//! The accepting side: requests for tunnels come in, each is answered once.

use std::{
    future::poll_fn,
    rc::{Rc, Weak},
    task::Poll,
};

use weir_wire::{
    frame::Code,
    head::{self, Request, RequestError},
};

use crate::{
    conn::Conn,
    driver::Driver,
    error::Lost,
    handshake::Established,
    settings::{Role, Settings},
    stream::{Half, Tunnel},
};

/// A request for a tunnel. Dropping it unanswered resets the stream.
pub struct Incoming {
    request: Option<Result<Request, RequestError>>,
    tunnel: Tunnel,
}

/// Ends an accepted connection gracefully. It does not keep the connection alive.
#[derive(Clone)]
pub struct Closer(Weak<Conn>);

impl Closer {
    /// Whether both are of the same connection.
    pub fn is(&self, other: &Self) -> bool {
        Weak::ptr_eq(&self.0, &other.0)
    }

    /// Takes no more requests; the connection ends with its last stream.
    pub fn drain(&self, reason: &'static str) {
        if let Some(conn) = self.0.upgrade() {
            conn.go_away(Code::NoError, reason);
        }
    }
}

/// Serves a connection until it ends. Each request is given to `arrived`, which must not wait.
pub fn serve(
    established: Established,
    settings: Settings,
    mut arrived: impl FnMut(Incoming),
) -> (Closer, impl Future<Output = Lost>) {
    let (conn, driver) = Driver::new(established, Role::Server, settings);
    let closer = Closer(Rc::downgrade(&conn));
    let run = driver.run(move |(id, request)| {
        arrived(Incoming { request: Some(request), tunnel: Tunnel { conn: conn.clone(), id } });
    });
    (closer, run)
}

impl Incoming {
    /// What is asked, or why it makes no sense. Only the first call gives it.
    ///
    /// # Panics
    /// If called twice.
    pub fn request(&mut self) -> Result<Request, RequestError> {
        self.request.take().expect("a request is taken once")
    }

    /// Resolves when the peer takes the request back, or is lost.
    pub async fn withdrawn(&self) {
        poll_fn(|cx| {
            self.tunnel.conn.with(|inner| match inner.streams.get_mut(&self.tunnel.id) {
                Some(state) if matches!(state.remote, Half::Open | Half::Ended) => {
                    state.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
                Some(_) | None => Poll::Ready(()),
            })
        })
        .await;
    }

    /// Answers 200: from here on it is a tunnel.
    pub fn accept(self, baggage: Option<&str>) -> Tunnel {
        self.answer(200, baggage, false);
        self.tunnel
    }

    /// Answers that there will be no tunnel.
    pub fn refuse(self, status: u16) {
        self.answer(status, None, true);
        self.tunnel.conn.with(|inner| {
            if let Some(state) = inner.streams.get_mut(&self.tunnel.id) {
                state.local = Half::Ended;
            }
        });
        // A client that still sends is told to stop. RFC 9113 §8.1.
        self.tunnel.conn.abandon(self.tunnel.id, Code::NoError);
    }

    fn answer(&self, status: u16, baggage: Option<&str>, end: bool) {
        let mut block = Vec::with_capacity(256);
        head::encode_response(&mut block, status, baggage);
        self.tunnel.conn.with(|inner| {
            let Some(state) = inner.streams.get_mut(&self.tunnel.id) else { return };
            state.answered = true;
            if inner.write_block(self.tunnel.id, &block, end).is_err() {
                // The peer takes nothing in: it will not see this stream's end either.
                inner.streams.remove(&self.tunnel.id);
            }
        });
    }
}
