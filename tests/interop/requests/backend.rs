//! Behind each proxy: takes whatever comes, writes down what was whole, and answers as told.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::client::{chunks, field, head};
use crate::observed::shown;

/// The path of requests that are not written down.
pub(crate) const PROBE: &str = "/~probe";
/// What it answers unless told otherwise.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nx-from: backend\r\ncontent-length: 2\r\n\r\nok";
const BARE: &[u8] = b"HTTP/1.1 200 OK\r\nx-from: backend\r\ncontent-length: 2\r\n\r\n";
const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nx-from: backend\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

#[derive(Debug, Default)]
struct State {
    answer: Option<Vec<u8>>,
    seen: Vec<String>,
    /// Connections that are being closed.
    closing: usize,
}

/// How long a proxy has to notice that a connection was closed.
const CLOSING: Duration = Duration::from_millis(500);

/// A backend of one proxy's lane.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backend(Arc<(Mutex<State>, Condvar)>);

impl Backend {
    /// Listens, in the namespace of who calls, as long as the test runs.
    pub(crate) fn listen(at: SocketAddr) -> anyhow::Result<Self> {
        let backend = Self::default();
        let listener = TcpListener::bind(at)?;
        let own = backend.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = own.clone();
                // A proxy that goes away in the middle has nothing to be told.
                thread::spawn(move || own.serve(stream).unwrap_or_default());
            }
        });
        Ok(backend)
    }

    /// What it answers from now on.
    pub(crate) fn answers(&self, answer: Option<Vec<u8>>) {
        self.state().answer = answer;
    }

    /// What has come since this was asked last.
    pub(crate) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.state().seen)
    }

    /// Waits until the proxy has let go of what was closed: it would send the next request there.
    pub(crate) fn rests(&self) {
        let is_closing = |state: &mut State| state.closing > 0;
        let waited = self.0.1.wait_timeout_while(self.state(), 2 * CLOSING, is_closing);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says the last that it says, and waits for the other to close, too.
    fn close(&self, stream: &mut TcpStream, last: &[u8]) -> std::io::Result<()> {
        self.state().closing += 1;
        let closed = stream.write_all(last).and_then(|()| {
            stream.shutdown(Shutdown::Write)?;
            stream.set_read_timeout(Some(CLOSING))?;
            stream.read_to_end(&mut Vec::new())
        });
        self.state().closing -= 1;
        self.0.1.notify_all();
        closed.map(|_| ())
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let (mut read, mut space) = (Vec::new(), vec![0; 65_536]);
        let mut is_continued = false;
        loop {
            if let Some((request, length)) = Request::read(&read) {
                read.drain(..length);
                is_continued = false;
                if request.is_upgrade() {
                    self.note(&request);
                    stream.write_all(SWITCH)?;
                    return echo(&mut stream, &read);
                }
                if !self.answer(&request, &mut stream)? {
                    return Ok(());
                }
                continue;
            }
            if !is_continued && head(&read).is_some_and(|(lines, _)| lines.iter().any(|line| field(line).0 == "expect"))
            {
                is_continued = true;
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            match stream.read(&mut space)? {
                0 => return Ok(()),
                count => read.extend_from_slice(&space[..count]),
            }
        }
    }

    fn note(&self, request: &Request) {
        self.state().seen.extend(request.facts());
    }

    /// Whether the connection goes on.
    fn answer(&self, request: &Request, stream: &mut TcpStream) -> std::io::Result<bool> {
        let mut told = None;
        if !request.is_probe() {
            self.note(request);
            told = self.state().answer.clone();
        }
        match told {
            // What is odd may have no other end.
            Some(answer) => self.close(stream, &answer).map(|()| false),
            None => stream.write_all(if request.line.starts_with(b"HEAD ") { BARE } else { ANSWER }).map(|()| true),
        }
    }
}

fn echo(stream: &mut TcpStream, first: &[u8]) -> std::io::Result<()> {
    stream.write_all(first)?;
    let mut space = [0; 4_096];
    loop {
        match stream.read(&mut space)? {
            0 => return Ok(()),
            count => stream.write_all(&space[..count])?,
        }
    }
}

/// A whole request.
struct Request {
    line: Vec<u8>,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    framing: &'static str,
}

impl Request {
    fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let (lines, head) = head(bytes)?;
        let (line, lines) = lines.split_first()?;
        let fields: Vec<_> = lines.iter().map(|line| field(line)).collect();
        let value = |name: &str| fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_slice());
        let rest = bytes.get(head..)?;
        let (body, length, framing) = if value("transfer-encoding").is_some() {
            let (body, length) = chunks(rest)?;
            (body, length, "chunks")
        } else if let Some(length) = value("content-length") {
            let length = std::str::from_utf8(length).ok()?.parse().ok()?;
            (rest.get(..length)?.to_vec(), length, "body")
        } else {
            (Vec::new(), 0, "no body")
        };
        Some((Self { line: line.to_vec(), fields, body, framing }, head + length))
    }

    fn is_probe(&self) -> bool {
        self.line.split(|byte| *byte == b' ').nth(1) == Some(PROBE.as_bytes())
    }

    fn is_upgrade(&self) -> bool {
        self.fields.iter().any(|(name, value)| name == "upgrade" && value == b"websocket")
    }

    /// Its line, its headers by name, its body. What a proxy has thought of by chance says nothing.
    fn facts(&self) -> Vec<String> {
        let mut fields = self.fields.clone();
        fields.sort_by(|one, other| one.0.cmp(&other.0));
        let mut facts = vec![shown(&[b"> ", self.line.as_slice()].concat())];
        for (name, value) in fields {
            let is_chance = (name == "x-request-id" && value.len() == 36) || name == "sec-websocket-key";
            if !is_chance {
                facts.push(shown(&[b"> ", name.as_bytes(), b": ", &value].concat()));
            }
        }
        facts.push(shown([b"> ", self.framing.as_bytes(), b" ", &self.body].concat().trim_ascii_end()));
        facts
    }
}
