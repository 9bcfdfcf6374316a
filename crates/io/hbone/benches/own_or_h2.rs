//! Why the data path is our own: the same bytes through the same sockets, certificates and runtime, once with this crate and
//! once with `h2` over `tokio-rustls`, in turns. Prints the CPU of one thread
//! that runs both ends.
//!
//! `cargo bench -p weir-hbone --bench own_or_h2`
#![expect(clippy::unwrap_used, reason = "a benchmark may stop where its world is not as it must be")]

#[path = "../tests/tunnels/mesh.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod mesh;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::spawn_local,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weir_hbone::{Role, Unmetered};

use crate::mesh::{Ask, LOOPBACKS, Pki, application, dial, echo, listen, registered, server, settings, worker};

const BYTES: usize = 2 << 30;
const CONNECTIONS: usize = 64;
const REQUESTS: usize = 2_000;
const ROUNDS: usize = 3;

/// What is sent through.
#[derive(Clone, Copy)]
enum Load {
    /// One stream, all one way.
    Bulk,
    /// 64 streams, 100 bytes to and fro on each.
    Requests,
    /// A stream for each request of 100 bytes, 16 at a time.
    Connects,
}

fn main() {
    for (name, unit, load) in [
        ("one stream", "s/GB", Load::Bulk),
        ("64 streams, 100 bytes to and fro", "us/request", Load::Requests),
        ("a stream for each request", "us/stream", Load::Connects),
    ] {
        let mut rows: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (row, own) in rows.iter_mut().zip([true, false]) {
                row.push(round(own, load));
            }
        }
        let [own, h2] = rows.map(|mut row| {
            row.sort_by(f64::total_cmp);
            row[ROUNDS / 2]
        });
        println!("{name}: CPU {unit}, both ends: own {own:.2}, h2 + tokio-rustls {h2:.2}, ratio {:.2}", h2 / own);
    }
}

/// CPU of the thread that runs both ends, per unit of the load.
fn round(own: bool, load: Load) -> f64 {
    let far = match load {
        Load::Bulk => application(LOOPBACKS[0], |mut stream| {
            let mut buffer = vec![0; 256 << 10];
            while stream.read(&mut buffer).is_ok_and(|n| n > 0) {}
        }),
        Load::Requests | Load::Connects => echo(LOOPBACKS[0]),
    };
    let (told, asked) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mesh = std::thread::spawn(move || {
        worker(async move {
            let entry = if own { own_entry(far).await } else { h2_entry(far).await };
            let before = cpu();
            told.send(entry).unwrap();
            stopped.await.unwrap();
            told_cpu(cpu() - before);
        });
        CPU.get()
    });
    let entry = asked.recv().unwrap();
    let units = match load {
        Load::Bulk => bulk(entry),
        Load::Requests => {
            threads(CONNECTIONS, move || {
                let mut app = TcpStream::connect(entry).unwrap();
                app.set_nodelay(true).unwrap();
                (0..REQUESTS).for_each(|_| exchange(&mut app));
            }) / 1e6
        }
        Load::Connects => {
            threads(16, move || {
                (0..REQUESTS).for_each(|_| exchange(&mut TcpStream::connect(entry).unwrap()));
            }) / 1e6
        }
    };
    stop.send(()).unwrap();
    mesh.join().unwrap() / units
}

fn exchange(app: &mut TcpStream) {
    let mut buffer = [7; 100];
    app.write_all(&buffer).unwrap();
    app.read_exact(&mut buffer).unwrap();
}

/// Gigabytes sent.
fn bulk(entry: SocketAddr) -> f64 {
    let mut app = TcpStream::connect(entry).unwrap();
    let block = vec![7; 256 << 10];
    for _ in 0..BYTES / block.len() {
        app.write_all(&block).unwrap();
    }
    app.shutdown(std::net::Shutdown::Write).unwrap();
    app.read_to_end(&mut Vec::new()).unwrap();
    f64::from(u32::try_from(BYTES).unwrap()) / 1e9
}

/// Exchanges made by `count` threads.
fn threads(count: usize, work: impl Fn() + Clone + Send + 'static) -> f64 {
    let all: Vec<_> = (0..count).map(|_| std::thread::spawn(work.clone())).collect();
    all.into_iter().for_each(|thread| thread.join().unwrap());
    f64::from(u32::try_from(count * REQUESTS).unwrap())
}

thread_local! {
    static CPU: std::cell::Cell<f64> = const { std::cell::Cell::new(0.0) };
}

fn told_cpu(seconds: f64) {
    CPU.set(seconds);
}

/// CPU seconds of this thread.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds: f64 = stat.split(' ').next().unwrap().parse().unwrap();
    nanoseconds / 1e9
}

/// A listener whose connections are carried by this crate.
async fn own_entry(sink: SocketAddr) -> SocketAddr {
    let pki = Pki::new();
    let (at, _seen) = server(LOOPBACKS[0], &pki, settings(Role::Server));
    let (client, run) = weir_hbone::connect(dial(at).await, pki.client.clone(), settings(Role::Client)).await.unwrap();
    spawn_local(run);
    let (listener, entry) = listen(LOOPBACKS[0]);
    spawn_local(async move {
        while let Ok((app, _)) = listener.accept().await {
            let client = client.clone();
            spawn_local(async move {
                let (tunnel, _) = client.open(&Ask::of(sink).head()).await.unwrap();
                app.set_nodelay(true).unwrap();
                tunnel.relay(registered(app.into_std().unwrap()), &Unmetered).await;
            });
        }
    });
    entry
}

/// The same with `h2` and `tokio-rustls` on both ends.
async fn h2_entry(sink: SocketAddr) -> SocketAddr {
    let pki = Pki::new();
    let (listener, at) = listen(LOOPBACKS[0]);
    let acceptor = TlsAcceptor::from(pki.server.clone());
    spawn_local(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let tls = acceptor.accept(stream).await.unwrap();
        let mut connection = h2::server::Builder::new()
            .initial_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .max_frame_size(1 << 20)
            .handshake::<_, Bytes>(tls)
            .await
            .unwrap();
        while let Some(request) = connection.accept().await {
            let (request, mut respond) = request.unwrap();
            spawn_local(async move {
                let app = tokio::net::TcpStream::connect(sink).await.unwrap();
                app.set_nodelay(true).unwrap();
                let response = http::Response::builder().status(200).body(()).unwrap();
                let send = respond.send_response(response, false).unwrap();
                h2_relay(app, send, request.into_body()).await;
            });
        }
    });
    let name = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
    let stream = tokio::net::TcpStream::connect(at).await.unwrap();
    let tls = TlsConnector::from(Arc::clone(&pki.client)).connect(name, stream).await.unwrap();
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .max_frame_size(1 << 20)
        .handshake::<_, Bytes>(tls)
        .await
        .unwrap();
    spawn_local(connection);
    let (listener, entry) = listen(LOOPBACKS[0]);
    spawn_local(async move {
        while let Ok((app, _)) = listener.accept().await {
            let client = client.clone();
            spawn_local(async move {
                let request = http::Request::builder().method("CONNECT").uri(sink.to_string()).body(()).unwrap();
                let (response, send) = client.ready().await.unwrap().send_request(request, false).unwrap();
                let body = response.await.unwrap().into_body();
                app.set_nodelay(true).unwrap();
                h2_relay(app, send, body).await;
            });
        }
    });
    entry
}

async fn h2_relay(app: tokio::net::TcpStream, mut send: h2::SendStream<Bytes>, mut body: h2::RecvStream) {
    let (mut read, mut write) = app.into_split();
    let into = async {
        let mut buffer = BytesMut::with_capacity(256 << 10);
        loop {
            buffer.reserve(64 << 10);
            if read.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return drop(send.send_data(Bytes::new(), true));
            }
            let mut piece = buffer.split().freeze();
            while !piece.is_empty() {
                send.reserve_capacity(piece.len());
                let Some(Ok(room)) = std::future::poll_fn(|cx| send.poll_capacity(cx)).await else { return };
                if send.send_data(piece.split_to(room.min(piece.len())), false).is_err() {
                    return;
                }
            }
        }
    };
    let out = async {
        while let Some(Ok(piece)) = body.data().await {
            drop(body.flow_control().release_capacity(piece.len()));
            if write.write_all(&piece).await.is_err() {
                return;
            }
        }
        drop(write.shutdown().await);
    };
    tokio::join!(into, out);
}
