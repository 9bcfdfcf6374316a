//! TCP servers of every temper: one that echoes, one that swallows, one that pours, one that speaks first, one that waits for the end.
//!
//! A thread for each connection: with a handful of streams nothing is faster.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Context;
use socket2::{Domain, Socket, Type};

/// Bytes for one read or write call of a stream.
pub(crate) const STREAM_BUFFER: usize = 256 << 10;
/// More connections than this at once are closed on arrival.
const MOST_CONNECTIONS: usize = 4096;
/// The first words of a server that speaks first.
const BANNER: &[u8] = b"220 weir ready\r\n";

/// How a TCP server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpMode {
    /// Sends back what it gets; closes its half after the client closed his.
    Echo,
    /// Reads to the end, then answers with the count of bytes, 8 bytes in network order.
    Sink,
    /// Sends so many bytes and closes; zero: until the client goes.
    Source(u64),
    /// Speaks first, then echoes.
    Banner,
    /// Reads until the client closes its half, and only then answers, in text, how many bytes came and their sum.
    HalfClose,
}

/// A TCP server.
#[derive(Debug, Clone)]
pub struct TcpServer {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// How it behaves.
    pub mode: TcpMode,
}

impl TcpServer {
    /// Serves until the process ends.
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub fn run(&self) -> anyhow::Result<()> {
        let listeners: Vec<_> = self.listen.iter().map(|address| listen(*address)).collect::<Result<_, _>>()?;
        let mode = self.mode;
        let open = Arc::new(AtomicUsize::new(0));
        thread::scope(|scope| {
            for listener in &listeners {
                let open = Arc::clone(&open);
                scope.spawn(move || accept(listener, mode, &open));
            }
        });
        Ok(())
    }
}

/// Listens with a long queue, on IPv4 and IPv6 addresses apart.
pub(crate) fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(4096)?;
        io::Result::Ok(socket.into())
    };
    open().with_context(|| format!("cannot listen on {address}"))
}

fn accept(listener: &TcpListener, mode: TcpMode, open: &Arc<AtomicUsize>) {
    for stream in listener.incoming().flatten() {
        if open.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let open = Arc::clone(open);
        let serve = move || {
            // A client that went away is its own affair.
            drop(serve(stream, mode));
            open.fetch_sub(1, Ordering::Relaxed);
        };
        if let Err(error) = thread::Builder::new().stack_size(128 << 10).spawn(serve) {
            eprintln!("no thread for a connection: {error}");
        }
    }
}

fn serve(mut stream: TcpStream, mode: TcpMode) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match mode {
        TcpMode::Echo => echo(&mut stream),
        TcpMode::Banner => {
            stream.write_all(BANNER)?;
            echo(&mut stream)
        }
        TcpMode::Sink => {
            let (count, _) = swallow(&mut stream, Sum::Skip)?;
            stream.write_all(&count.to_be_bytes())
        }
        TcpMode::Source(bytes) => pour(&mut stream, bytes),
        TcpMode::HalfClose => {
            let (count, sum) = swallow(&mut stream, Sum::Take)?;
            stream.write_all(format!("received {count} bytes, sum {sum}\n").as_bytes())
        }
    }
}

fn echo(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer)? {
            0 => return stream.shutdown(Shutdown::Write),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sum {
    Take,
    Skip,
}

fn swallow(stream: &mut TcpStream, add: Sum) -> io::Result<(u64, u64)> {
    let mut buffer = vec![0; STREAM_BUFFER];
    let (mut count, mut sum) = (0, 0);
    loop {
        let length = match stream.read(&mut buffer) {
            Ok(0) => return Ok((count, sum)),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        count += u64::try_from(length).expect("64 bits at most");
        if add == Sum::Take {
            sum += buffer[..length].iter().map(|byte| u64::from(*byte)).sum::<u64>();
        }
    }
}

fn pour(stream: &mut TcpStream, bytes: u64) -> io::Result<()> {
    let buffer = vec![b'w'; STREAM_BUFFER];
    let mut left = if bytes == 0 { u64::MAX } else { bytes };
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        stream.write_all(&buffer[..length])?;
        left -= u64::try_from(length).expect("64 bits at most");
    }
    Ok(())
}
