//! The connecting side: one TLS session to a peer, streams opened on it.

use std::{future::poll_fn, rc::Rc, sync::Arc, task::Poll};

use rustls::ClientConfig;
use weir_net::Stream;
use weir_wire::{
    frame::Code,
    head::{self, Connect},
};

use crate::{
    conn::Conn,
    driver::Driver,
    error::{Error, Lost},
    handshake,
    settings::{Role, Settings},
    stream::{Half, Tunnel},
};

/// A connection that streams can be opened on. Clones are the same connection.
#[derive(Clone)]
pub struct Client {
    conn: Rc<Conn>,
}

/// Makes TLS and HTTP/2 on a connected socket. The future returned must be run for anything to move; it ends with the
/// connection and says why.
///
/// # Errors
/// If the peer is not who the configuration expects, or does not speak HBONE.
pub async fn connect(
    stream: Stream,
    config: Arc<ClientConfig>,
    settings: Settings,
) -> Result<(Client, impl Future<Output = Lost>), Error> {
    let established = handshake::initiate(stream, config, settings.handshake).await?;
    let (conn, driver) = Driver::new(established, Role::Client, settings);
    let refuse = conn.clone();
    let run = driver.run(move |(id, _)| refuse.abandon(id, Code::Protocol));
    Ok((Client { conn }, run))
}

impl Client {
    /// Whether a stream can be opened now.
    pub fn is_available(&self) -> bool {
        !self.conn.refuses()
    }

    /// Whether both are the same connection.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.conn, &other.conn)
    }

    /// Streams open now.
    pub fn open_streams(&self) -> usize {
        self.conn.open_streams()
    }

    /// Opens no more streams; the connection ends with its last one.
    pub fn retire(&self, reason: &'static str) {
        self.conn.go_away(Code::NoError, reason);
    }

    /// Asks for a tunnel and waits for the answer: the tunnel, and what the peer says of the destination.
    ///
    /// # Errors
    /// If the peer refuses, resets, is lost, or does not answer in time.
    pub async fn open(&self, connect: &Connect<'_>) -> Result<(Tunnel, Option<Vec<u8>>), Error> {
        let mut block = Vec::with_capacity(512);
        connect.encode(&mut block);
        let id = self.conn.open(&block).map_err(Error::Lost)?;
        let tunnel = Tunnel { conn: self.conn.clone(), id };
        let after = self.conn.settings().answer;
        let answer = tokio::time::timeout(after, poll_fn(|cx| self.poll_answer(id, cx)))
            .await
            .unwrap_or(Err(Error::Deadline { what: "answer to CONNECT", after }))?;
        if answer.status == 200 { Ok((tunnel, answer.baggage)) } else { Err(Error::Refused { status: answer.status }) }
    }

    fn poll_answer(&self, id: u32, cx: &mut std::task::Context<'_>) -> Poll<Result<head::Response, Error>> {
        self.conn.with(|inner| {
            let Some(state) = inner.streams.get_mut(&id) else {
                return Poll::Ready(Err(Error::Lost(Lost::Here("the stream is gone"))));
            };
            if let Some(answer) = state.answer.take() {
                return Poll::Ready(answer.map_err(Error::Answer));
            }
            match &state.remote {
                Half::Reset(code) => Poll::Ready(Err(Error::Reset(*code))),
                Half::Lost(lost) => Poll::Ready(Err(Error::Lost(lost.clone()))),
                Half::Open | Half::Ended => {
                    state.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    }
}
