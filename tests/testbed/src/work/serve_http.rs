//! A small HTTP/1.1 server: says its name, its version and whom it takes for its client; echoes what is posted to it.
//!
//! One thread, epoll, keep-alive, pipelining; built so that a load generator meets its own limits first.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use super::http_answer::{head_length, header, message_length};
use super::reactor::{Interest, Reactor};

/// The largest request that is read, in bytes.
const LARGEST_REQUEST: usize = 16 << 20;

/// What to serve, and where.
#[derive(Debug, Clone)]
pub struct HttpServer {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Who it says it is.
    pub name: String,
    /// The version it says it has.
    pub version: String,
    /// Answer with so many bytes of text in place of name, version and client.
    pub body_bytes: Option<usize>,
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    answer: Vec<u8>,
    closing: Closing,
    interest: Interest,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    KeepAlive,
    AfterAnswer,
}

enum Progress {
    Open,
    Done,
}

impl HttpServer {
    /// Serves until the process ends.
    ///
    /// # Errors
    /// When an address cannot be listened on, or epoll fails.
    pub fn run(&self) -> anyhow::Result<()> {
        let mut reactor = Reactor::new()?;
        let mut listeners = Vec::new();
        for (key, address) in self.listen.iter().enumerate() {
            let listener = super::serve_tcp::listen(*address)?;
            listener.set_nonblocking(true)?;
            reactor.watch(&listener, key, Interest::Read)?;
            listeners.push(listener);
        }
        let mut connections: Vec<Option<Connection>> = Vec::new();
        let (mut free, mut ready) = (Vec::new(), Vec::new());
        let mut scratch = vec![0; 64 << 10];
        loop {
            reactor.wait(&mut ready, None)?;
            for key in &ready {
                if let Some(listener) = listeners.get(*key) {
                    self.accept(listener, &reactor, listeners.len(), &mut connections, &mut free)?;
                    continue;
                }
                let slot = key - listeners.len();
                let Some(connection) = &mut connections[slot] else { continue };
                // A client that went away is its own affair.
                let progress = connection.serve(&mut scratch).unwrap_or(Progress::Done);
                if matches!(progress, Progress::Done) {
                    connections[slot] = None;
                    free.push(slot);
                } else {
                    connection.rewatch(&reactor, *key)?;
                }
            }
        }
    }

    fn accept(
        &self,
        listener: &TcpListener,
        reactor: &Reactor,
        offset: usize,
        connections: &mut Vec<Option<Connection>>,
        free: &mut Vec<usize>,
    ) -> io::Result<()> {
        loop {
            let (stream, client) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let slot = free.pop().unwrap_or_else(|| {
                connections.push(None);
                connections.len() - 1
            });
            reactor.watch(&stream, slot + offset, Interest::Read)?;
            connections[slot] = Some(Connection {
                stream,
                input: Vec::new(),
                output: Vec::new(),
                written: 0,
                answer: self.answer(client),
                closing: Closing::KeepAlive,
                interest: Interest::Read,
            });
        }
    }

    fn answer(&self, client: SocketAddr) -> Vec<u8> {
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        let body = match self.body_bytes {
            Some(length) => "weir ".chars().cycle().take(length).collect(),
            None => serde_json::json!({"name": self.name, "version": self.version, "client": client.to_string()})
                .to_string(),
        };
        http_ok(body.as_bytes())
    }
}

impl Connection {
    fn serve(&mut self, scratch: &mut [u8]) -> io::Result<Progress> {
        if self.interest == Interest::Read {
            loop {
                match self.stream.read(scratch) {
                    Ok(0) => return Ok(Progress::Done),
                    Ok(length) => {
                        self.take(&scratch[..length])?;
                        if length < scratch.len() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(length) => self.written += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Open),
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(if self.closing == Closing::AfterAnswer { Progress::Done } else { Progress::Open })
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Most reads hold exactly one request: then nothing is stored.
        if self.input.is_empty() && message_length(bytes) == Some(bytes.len()) {
            self.respond(bytes);
            return Ok(());
        }
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(length) = message_length(&input[from..]).filter(|length| *length <= input.len() - from) {
            self.respond(&input[from..from + length]);
            from += length;
        }
        input.drain(..from);
        self.input = input;
        if self.input.len() > LARGEST_REQUEST { Err(ErrorKind::InvalidData.into()) } else { Ok(()) }
    }

    fn respond(&mut self, request: &[u8]) {
        let head = head_length(request).expect("a whole message has a head");
        if request.starts_with(b"POST") {
            self.output.extend_from_slice(&http_ok(&request[head..]));
        } else {
            self.output.extend_from_slice(&self.answer);
        }
        if header(&request[..head], "connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close")) {
            self.closing = Closing::AfterAnswer;
        }
    }

    fn rewatch(&mut self, reactor: &Reactor, key: usize) -> nix::Result<()> {
        let wanted = if self.output.is_empty() { Interest::Read } else { Interest::Write };
        if wanted != self.interest {
            self.interest = wanted;
            reactor.rewatch(&self.stream, key, wanted)?;
        }
        Ok(())
    }
}

fn http_ok(body: &[u8]) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nserver: weir-testbed\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}
