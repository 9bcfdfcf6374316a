//! An HTTP/2 client over mutual TLS that says what it is told to, legal or not. It blocks, with a deadline.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};
use weir_netlink::NetNs;
use weir_wire::frame::{self, Head, PREFACE, flag, kind, setting};
use weir_wire::hpack::{self, Decoder};

/// Patience with one read or write of a peer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection. It acknowledges settings and answers pings when it reads; it grants windows of 2^31-1 bytes at the start, and none later.
#[derive(Debug)]
pub struct Http2 {
    tls: StreamOwned<ClientConnection, TcpStream>,
    input: Vec<u8>,
    decoder: Decoder,
    next: u32,
    local: SocketAddr,
}

impl Http2 {
    /// Connects from inside `netns`, from an address of one's choice if one is given, and shakes hands.
    ///
    /// # Errors
    /// When there is no connection or the server refuses the handshake at once.
    pub fn open(
        netns: &NetNs,
        from: Option<IpAddr>,
        to: SocketAddr,
        config: &Arc<ClientConfig>,
    ) -> anyhow::Result<Self> {
        let stream = netns.run(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            if let Some(ip) = from {
                socket.bind(&SocketAddr::new(ip, 0).into())?;
            }
            socket.connect_timeout(&to.into(), PATIENCE)?;
            std::io::Result::Ok(TcpStream::from(socket))
        })??;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let name = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
        let mut tls = StreamOwned::new(ClientConnection::new(config.clone(), name)?, stream);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock).context("TLS handshake")?;
        }
        let mut peer = Self { tls, input: Vec::new(), decoder: Decoder::default(), next: 1, local };
        let mut hello = PREFACE.to_vec();
        frame::write_settings(&mut hello, &[(setting::INITIAL_WINDOW_SIZE, frame::MAX_WINDOW)]);
        frame::write_window_update(&mut hello, 0, frame::MAX_WINDOW - frame::INITIAL_WINDOW);
        peer.send(&hello)?;
        Ok(peer)
    }

    /// Its own address: how the agent's log names it.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// How many session tickets have come.
    #[must_use]
    pub fn tickets(&self) -> u32 {
        self.tls.conn.tls13_tickets_received()
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the peer has closed, or takes nothing for half a minute.
    pub fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.tls.write_all(bytes)?;
        Ok(self.tls.flush()?)
    }

    /// Sends a request head with these fields, in this order. Gives the stream's number.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn request(&mut self, fields: &[(&str, &str)]) -> anyhow::Result<u32> {
        let mut block = Vec::new();
        for (name, value) in fields {
            hpack::write_literal(&mut block, name.as_bytes(), value.as_bytes());
        }
        let id = self.next;
        self.next += 2;
        let mut bytes = Vec::new();
        frame::write(&mut bytes, kind::HEADERS, flag::END_HEADERS, id, &block);
        self.send(&bytes)?;
        Ok(id)
    }

    /// Asks for a tunnel to `authority` and gives the stream's number and the answer's status.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn connect(&mut self, authority: &str) -> anyhow::Result<(u32, u16)> {
        let id = self.request(&[(":method", "CONNECT"), (":authority", authority)])?;
        Ok((id, self.status(id)?))
    }

    /// Waits for the status that answers a stream.
    ///
    /// # Errors
    /// When the stream is reset or the connection ends before.
    pub fn status(&mut self, id: u32) -> anyhow::Result<u16> {
        loop {
            let (head, payload) = self.frame()?.context("the peer closed without an answer")?;
            if head.kind == kind::HEADERS {
                let answer = weir_wire::head::response(&mut self.decoder, &payload, 1 << 16)?;
                if head.stream == id {
                    return Ok(answer.status);
                }
            }
            ensure!(head.kind != kind::RST_STREAM || head.stream != id, "stream {id} was reset: {payload:?}");
            ensure!(head.kind != kind::GOAWAY, "GOAWAY: {}", String::from_utf8_lossy(&payload));
        }
    }

    /// Sends `text` through a tunnel whose other end echoes, and waits until it is back.
    ///
    /// # Errors
    /// When something else comes back, or the end.
    pub fn echo(&mut self, id: u32, text: &[u8]) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, kind::DATA, 0, id, text);
        self.send(&bytes)?;
        let mut back = Vec::new();
        while back.len() < text.len() {
            let (head, payload) = self.frame()?.context("the peer closed")?;
            match head.kind {
                kind::DATA if head.stream == id => back.extend_from_slice(&payload),
                kind::RST_STREAM if head.stream == id => bail!("the tunnel was reset: {payload:?}"),
                kind::GOAWAY => bail!("GOAWAY: {}", String::from_utf8_lossy(&payload)),
                _ => {}
            }
        }
        ensure!(back == text, "something else came back");
        Ok(())
    }

    /// Ends our direction of a tunnel.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn finish(&mut self, id: u32) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, kind::DATA, flag::END_STREAM, id, &[]);
        self.send(&bytes)
    }

    /// The next frame; none: the peer closed.
    ///
    /// # Errors
    /// When the connection breaks, or nothing comes for half a minute.
    pub fn frame(&mut self) -> anyhow::Result<Option<(Head, Vec<u8>)>> {
        let mut buffer = [0; 16 << 10];
        loop {
            if let Some(head) = self.input.first_chunk::<{ frame::HEAD }>() {
                let head = Head::decode(*head);
                let end = frame::HEAD + usize::try_from(head.length)?;
                if self.input.len() >= end {
                    let payload = self.input[frame::HEAD..end].to_vec();
                    self.input.drain(..end);
                    self.acknowledge(head, &payload)?;
                    return Ok(Some((head, payload)));
                }
            }
            match self.tls.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                Err(error) if closed(&error) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads to the end of the connection.
    ///
    /// # Errors
    /// When it does not end: nothing came for half a minute.
    pub fn end(&mut self) -> anyhow::Result<()> {
        while self.frame()?.is_some() {}
        Ok(())
    }

    fn acknowledge(&mut self, head: Head, payload: &[u8]) -> anyhow::Result<()> {
        if !matches!(head.kind, kind::SETTINGS | kind::PING) || head.flags & flag::ACK != 0 {
            return Ok(());
        }
        let mut bytes = Vec::new();
        let echoed = if head.kind == kind::PING { payload } else { &[] };
        frame::write(&mut bytes, head.kind, flag::ACK, 0, echoed);
        // A peer that closed meanwhile has still said what it said.
        match self.send(&bytes) {
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn closed(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
