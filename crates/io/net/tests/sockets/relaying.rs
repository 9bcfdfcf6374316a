//! The relay: every byte once and in order, each direction to its own end, and no end that hides a loss.

use std::{
    cell::Cell,
    io,
    net::{IpAddr, Shutdown},
    rc::Rc,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::{JoinHandle, LocalSet},
};
use weir_net::{Broken, relay};
use weir_netlink::write_sysctl;

use crate::bed::{Place, accepted, connected, first_addresses, run, soon};

/// Bytes of a long direction: much more than buffers and sockets hold.
const LONG: usize = 24 << 20;

/// Two applications with a relay between them, and what it counted.
struct Line {
    client: TcpStream,
    server: TcpStream,
    relay: JoinHandle<Result<(), Broken>>,
    moved: Rc<Cell<(u64, u64)>>,
}

async fn line(place: &Place, at: IpAddr) -> Line {
    let ((client, from), (server, to)) = (accepted(place, at).await, connected(place, at).await);
    let moved = Rc::new(Cell::new((0, 0)));
    let count = moved.clone();
    let counted = move |there, back| count.set((count.get().0 + there, count.get().1 + back));
    Line { client, server, relay: tokio::task::spawn_local(relay(from, to, counted)), moved }
}

/// Runs `work` with a line of each family.
fn each_family<F: Future<Output = ()>>(work: impl Fn(Line) -> F) {
    let place = Place::new();
    // What sockets hold, in bytes: less than `LONG` by far, whatever the machine's own limits are.
    for name in ["net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem"] {
        write_sysctl(&place.links(), name, "4096 131072 1048576").unwrap();
    }
    for at in first_addresses() {
        run(LocalSet::new().run_until(async { work(line(&place, at).await).await }));
    }
}

/// Bytes that tell when one is lost, doubled or misplaced.
fn pattern(seed: u8, length: usize) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn reset(socket: TcpStream) {
    SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
}

/// The error a socket ends with, if it ends with one.
async fn end_of(mut socket: TcpStream) -> Option<io::ErrorKind> {
    let mut rest = Vec::new();
    soon(socket.read_to_end(&mut rest)).await.err().map(|error| error.kind())
}

#[test]
fn long_directions_pass_at_the_same_time_and_are_counted() {
    each_family(|line| async move {
        let (sent, answered) = (pattern(1, LONG), pattern(2, LONG / 3));
        let (mut client_reads, mut client_writes) = line.client.into_split();
        let (mut server_reads, mut server_writes) = line.server.into_split();
        let (mut at_client, mut at_server) = (Vec::new(), Vec::new());
        let there = async {
            client_writes.write_all(&sent).await.unwrap();
            client_writes.shutdown().await.unwrap();
        };
        let back = async {
            server_writes.write_all(&answered).await.unwrap();
            server_writes.shutdown().await.unwrap();
        };
        let read = (client_reads.read_to_end(&mut at_client), server_reads.read_to_end(&mut at_server));
        let ((), (), client_read, server_read) = soon(async { tokio::join!(there, back, read.0, read.1) }).await;
        client_read.unwrap();
        server_read.unwrap();
        assert!(at_server == sent && at_client == answered, "bytes were changed on the way");
        soon(line.relay).await.unwrap().unwrap();
        assert_eq!(line.moved.get(), (u64::try_from(LONG).unwrap(), u64::try_from(LONG / 3).unwrap()));
    });
}

#[test]
fn the_end_of_one_direction_leaves_the_other_open() {
    each_family(|mut line| async move {
        line.client.write_all(b"question").await.unwrap();
        line.client.shutdown().await.unwrap();
        let mut question = Vec::new();
        soon(line.server.read_to_end(&mut question)).await.unwrap();
        assert_eq!(question, b"question", "the end came through");
        assert!(!line.relay.is_finished());
        let mut answer = [0; 6];
        for _ in 0..3 {
            line.server.write_all(b"answer").await.unwrap();
            soon(line.client.read_exact(&mut answer)).await.unwrap();
            assert_eq!(&answer, b"answer");
        }
        drop(line.server);
        assert_eq!(end_of(line.client).await, None);
        soon(line.relay).await.unwrap().unwrap();
        assert_eq!(line.moved.get(), (8, 18));
    });
}

#[test]
fn a_server_may_speak_first() {
    each_family(|mut line| async move {
        line.server.write_all(b"220 ready").await.unwrap();
        let mut greeting = [0; 9];
        soon(line.client.read_exact(&mut greeting)).await.unwrap();
        assert_eq!(&greeting, b"220 ready");
    });
}

#[test]
fn who_breaks_is_named_and_the_other_is_reset() {
    each_family(|line| async move {
        reset(line.client);
        let broken = soon(line.relay).await.unwrap();
        assert!(
            matches!(&broken, Err(Broken::Client(error)) if error.kind() == io::ErrorKind::ConnectionReset),
            "{broken:?}"
        );
        assert_eq!(end_of(line.server).await, Some(io::ErrorKind::ConnectionReset));
    });
    each_family(|line| async move {
        reset(line.server);
        let broken = soon(line.relay).await.unwrap();
        assert!(
            matches!(&broken, Err(Broken::Server(error)) if error.kind() == io::ErrorKind::ConnectionReset),
            "{broken:?}"
        );
        assert_eq!(end_of(line.client).await, Some(io::ErrorKind::ConnectionReset));
    });
}

#[test]
fn a_relay_that_is_cut_resets_both() {
    each_family(|mut line| async move {
        line.client.write_all(b"x").await.unwrap();
        let mut byte = [0; 1];
        soon(line.server.read_exact(&mut byte)).await.unwrap();
        line.relay.abort();
        assert!(line.relay.await.unwrap_err().is_cancelled());
        for socket in [line.client, line.server] {
            assert_eq!(end_of(socket).await, Some(io::ErrorKind::ConnectionReset));
        }
    });
}

#[test]
fn who_does_not_read_stops_who_writes_and_loses_nothing() {
    each_family(|line| async move {
        let sent = pattern(3, LONG);
        let (client, mut server) = (line.client, line.server);
        let mut written = 0;
        // Until the kernel takes no more and the relay, given a turn, makes no more room.
        let mut before = None;
        while before != Some((written, line.moved.get())) {
            before = Some((written, line.moved.get()));
            while let Ok(n) = client.try_write(&sent[written..]) {
                written += n;
            }
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let room = tokio::time::timeout(std::time::Duration::from_millis(200), client.writable()).await;
            drop(room);
        }
        assert!(written < LONG, "all of it was taken although nobody reads");
        SockRef::from(&client).shutdown(Shutdown::Write).unwrap();
        let mut read = Vec::new();
        soon(server.read_to_end(&mut read)).await.unwrap();
        assert!(read == sent[..written], "{} of {written} bytes came, or others", read.len());
        drop(server);
        soon(line.relay).await.unwrap().unwrap();
    });
}
