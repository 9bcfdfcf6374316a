//! Copies bytes between two sockets, each direction to its own end: the way of a connection that no tunnel carries.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, IoSlice, IoSliceMut},
    task::{Context, Poll, ready},
};

use crate::Stream;

/// Bytes of the buffer of one direction. It is held only while something waits in it.
const BUFFER: usize = 64 << 10;
/// Buffers a thread keeps for later.
const KEPT: usize = 8;
/// Copies in a row before others get their turn.
const TURNS: usize = 8;

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Which of the two sockets broke a relay.
#[derive(Debug)]
pub enum Broken {
    /// The one that was accepted.
    Client(io::Error),
    /// The one that was connected.
    Server(io::Error),
}

/// One direction: what was read and not written yet.
#[derive(Default)]
struct Direction {
    buffer: Option<Box<[u8]>>,
    start: usize,
    end: usize,
    read_done: bool,
    shut: bool,
}

enum Side {
    Reading(io::Error),
    Writing(io::Error),
}

impl Direction {
    /// Copies until something must be waited for, or this direction is done.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &Stream,
        to: &Stream,
        mut moved: impl FnMut(u64),
    ) -> Poll<Result<(), Side>> {
        for _ in 0..TURNS {
            while self.start < self.end {
                let Some(buffer) = &self.buffer else { break };
                let n =
                    ready!(to.poll_write(cx, &[IoSlice::new(&buffer[self.start..self.end])])).map_err(Side::Writing)?;
                self.start += n;
                moved(u64::try_from(n).expect("64 bits fit"));
            }
            self.release();
            if self.read_done {
                if !self.shut {
                    self.shut = true;
                    to.shutdown_write().map_err(Side::Writing)?;
                }
                return Poll::Ready(Ok(()));
            }
            ready!(from.poll_readable(cx)).map_err(Side::Reading)?;
            let buffer = self.buffer.get_or_insert_with(take);
            match from.poll_read(cx, &mut [IoSliceMut::new(buffer)]) {
                Poll::Ready(Ok(n)) => {
                    self.start = 0;
                    self.end = n;
                    self.read_done = n == 0;
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(Side::Reading(e))),
                Poll::Pending => {
                    self.release();
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn release(&mut self) {
        (self.start, self.end) = (0, 0);
        if let Some(buffer) = self.buffer.take() {
            give(buffer);
        }
    }
}

impl Drop for Direction {
    fn drop(&mut self) {
        self.release();
    }
}

fn take() -> Box<[u8]> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice())
}

fn give(buffer: Box<[u8]>) {
    // While a thread ends there is nothing to keep it for.
    let _kept = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < KEPT {
            spare.push(buffer);
        }
    });
}

/// Both sockets of a relay. Until it comes to its end a close resets them, also that of a process that is killed: their owners
/// must learn that bytes are missing.
struct Pair {
    client: Stream,
    server: Stream,
}

impl Pair {
    fn new(client: Stream, server: Stream) -> Self {
        client.reset_on_close();
        server.reset_on_close();
        Self { client, server }
    }

    fn complete(&self) {
        self.client.end_on_close();
        self.server.end_on_close();
    }
}

/// Relays until both directions ended or one socket broke, or the future is dropped; then both are reset. `moved` is told of bytes (client to server, server to client) while they move.
///
/// # Errors
/// Which socket broke, and how.
pub async fn relay(client: Stream, server: Stream, moved: impl Fn(u64, u64)) -> Result<(), Broken> {
    let pair = Pair::new(client, server);
    let (mut there, mut back) = (Direction::default(), Direction::default());
    let (mut there_done, mut back_done) = (false, false);
    let result = poll_fn(|cx| {
        let (client, server) = (&pair.client, &pair.server);
        if !there_done {
            match there.poll(cx, client, server, |n| moved(n, 0)) {
                Poll::Ready(Ok(())) => there_done = true,
                Poll::Ready(Err(Side::Reading(e))) => return Poll::Ready(Err(Broken::Client(e))),
                Poll::Ready(Err(Side::Writing(e))) => return Poll::Ready(Err(Broken::Server(e))),
                Poll::Pending => {}
            }
        }
        if !back_done {
            match back.poll(cx, server, client, |n| moved(0, n)) {
                Poll::Ready(Ok(())) => back_done = true,
                Poll::Ready(Err(Side::Reading(e))) => return Poll::Ready(Err(Broken::Server(e))),
                Poll::Ready(Err(Side::Writing(e))) => return Poll::Ready(Err(Broken::Client(e))),
                Poll::Pending => {}
            }
        }
        if there_done && back_done { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await;
    if result.is_ok() {
        pair.complete();
    }
    result
}
