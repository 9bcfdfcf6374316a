//! Ourselves on both sides.

use std::{cell::Cell, io::Read, rc::Rc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::spawn_local,
};
use weir_hbone::{Client, Dialed, Error, Meter, Pool, PoolKey, Role, Unmetered};

use crate::mesh::{Ask, LOOPBACKS, Pki, SOON, application, dial, echo, pair, server, settings, until, worker};

async fn client(to: std::net::SocketAddr, pki: &Pki) -> Client {
    let (client, run) = weir_hbone::connect(dial(to).await, pki.client.clone(), settings(Role::Client)).await.unwrap();
    spawn_local(run);
    client
}

/// Bytes that show where they are.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from((i / 251 + i) % 256).unwrap()).collect()
}

#[test]
fn bytes_arrive_whole_and_in_order_both_ways_at_once() {
    for ip in LOOPBACKS {
        worker(async move {
            let pki = Pki::new();
            let (at, _) = server(ip, &pki, settings(Role::Server));
            let client = client(at, &pki).await;
            let mut work = Vec::new();
            for length in [0, 1, 16_374, 16_375, 16_376, 1 << 20, 20_000_003] {
                let (tunnel, baggage) = client.open(&Ask::of(echo(ip)).head()).await.unwrap();
                assert_eq!(baggage.as_deref(), Some(&b"service.name=echo"[..]));
                let (app, agent) = pair(ip).await;
                work.push(spawn_local(async move {
                    let relay = spawn_local(async move { tunnel.relay(agent, &Unmetered).await });
                    let (mut read, mut write) = app.into_split();
                    let sent = pattern(length);
                    let copy = sent.clone();
                    let writer = spawn_local(async move {
                        write.write_all(&copy).await.unwrap();
                        write.shutdown().await.unwrap();
                    });
                    let mut got = Vec::new();
                    read.read_to_end(&mut got).await.unwrap();
                    writer.await.unwrap();
                    assert!(got == sent, "{length} bytes came back changed");
                    assert!(matches!(relay.await.unwrap(), weir_hbone::Relayed::Complete));
                }));
            }
            for work in work {
                work.await.unwrap();
            }
            assert_eq!(client.open_streams(), 0);
        });
    }
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    for ip in LOOPBACKS {
        worker(async move {
            let pki = Pki::new();
            let (at, _) = server(ip, &pki, settings(Role::Server));
            let banner = application(ip, |mut stream| {
                use std::io::Write;
                stream.write_all(b"220 ready\r\n").unwrap();
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).unwrap();
            });
            let (tunnel, _) = client(at, &pki).await.open(&Ask::of(banner).head()).await.unwrap();
            let (mut app, agent) = pair(ip).await;
            let relay = spawn_local(async move { tunnel.relay(agent, &Unmetered).await });
            let mut got = [0; 11];
            app.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"220 ready\r\n");
            drop(app);
            relay.await.unwrap();
        });
    }
}

#[test]
fn a_reset_of_either_application_reaches_the_other() {
    for ip in LOOPBACKS {
        worker(async move {
            let pki = Pki::new();
            let (at, seen) = server(ip, &pki, settings(Role::Server));
            let client = client(at, &pki).await;
            // The far application resets after one byte.
            let rude = application(ip, |mut stream| {
                stream.read_exact(&mut [0]).unwrap();
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            });
            let (tunnel, _) = client.open(&Ask::of(rude).head()).await.unwrap();
            let (mut app, agent) = pair(ip).await;
            spawn_local(async move { tunnel.relay(agent, &Unmetered).await });
            app.write_all(b"x").await.unwrap();
            let error = app.read(&mut [0]).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            // The near application resets.
            let (tunnel, _) = client.open(&Ask::of(echo(ip)).head()).await.unwrap();
            let (app, agent) = pair(ip).await;
            let relay = spawn_local(async move { tunnel.relay(agent, &Unmetered).await });
            app.set_zero_linger().unwrap();
            drop(app);
            assert!(matches!(relay.await.unwrap(), weir_hbone::Relayed::AppReset));
            until("the far side of the second reset", || seen.relayed.borrow().iter().any(|r| r.contains("PeerReset")))
                .await;
        });
    }
}

#[test]
fn a_refusal_is_told_with_its_status() {
    worker(async {
        let pki = Pki::new();
        let (at, _) = server(LOOPBACKS[0], &pki, settings(Role::Server));
        let client = client(at, &pki).await;
        for (target, want) in [("127.0.0.1:1", 401), ("127.0.0.1:2", 503)] {
            let error = client.open(&Ask::of(target.parse().unwrap()).head()).await.err().unwrap();
            assert!(matches!(error, Error::Refused { status } if status == want), "{error:?}");
        }
        assert!(client.is_available(), "a refusal is no reason to give the connection up");
    });
}

#[test]
fn a_reader_that_stalls_holds_up_nobody_else_and_bounded_memory() {
    worker(async {
        let ip = LOOPBACKS[0];
        let pki = Pki::new();
        let (at, _) = server(ip, &pki, settings(Role::Server));
        let client = client(at, &pki).await;
        // Six applications that send for ever to clients that never read.
        let flood = application(ip, |mut stream| {
            use std::io::Write;
            let block = vec![7; 1 << 20];
            while stream.write_all(&block).is_ok() {}
        });
        let mut held = Vec::new();
        for _ in 0..6 {
            let (tunnel, _) = client.open(&Ask::of(flood).head()).await.unwrap();
            let (app, agent) = pair(ip).await;
            held.push(app);
            spawn_local(async move { tunnel.relay(agent, &Unmetered).await });
        }
        until("the connection being full", || !client.is_available()).await;
        // The next tunnel goes another way, and works.
        let other = self::client(at, &pki).await;
        let (tunnel, _) = other.open(&Ask::of(echo(ip)).head()).await.unwrap();
        let (mut app, agent) = pair(ip).await;
        spawn_local(async move { tunnel.relay(agent, &Unmetered).await });
        app.write_all(b"hello").await.unwrap();
        let mut got = [0; 5];
        app.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
    });
}

struct Counted {
    into: Cell<u64>,
    out: Cell<u64>,
}

impl Meter for Counted {
    fn moved(&self, into: u64, out: u64) {
        self.into.set(self.into.get() + into);
        self.out.set(self.out.get() + out);
    }
}

#[test]
fn the_meter_counts_every_byte_once() {
    worker(async {
        let ip = LOOPBACKS[1];
        let pki = Pki::new();
        let (at, _) = server(ip, &pki, settings(Role::Server));
        let (tunnel, _) = client(at, &pki).await.open(&Ask::of(echo(ip)).head()).await.unwrap();
        let (mut app, agent) = pair(ip).await;
        let meter = Rc::new(Counted { into: Cell::new(0), out: Cell::new(0) });
        let counted = meter.clone();
        let relay = spawn_local(async move { tunnel.relay(agent, &*counted).await });
        let sent = pattern(3_000_001);
        let copy = sent.clone();
        let (mut read, mut write) = app.split();
        let (_, got) = tokio::join!(
            async {
                write.write_all(&copy).await.unwrap();
                write.shutdown().await.unwrap();
            },
            async {
                let mut got = Vec::new();
                read.read_to_end(&mut got).await.unwrap();
                got
            }
        );
        assert_eq!(got.len(), sent.len());
        relay.await.unwrap();
        assert_eq!((meter.into.get(), meter.out.get()), (3_000_001, 3_000_001));
    });
}

fn key(next_hop: std::net::SocketAddr, destination: &str) -> PoolKey {
    PoolKey {
        source: "spiffe://cluster.local/ns/a/sa/b".parse().unwrap(),
        source_ip: next_hop.ip(),
        expect: ["spiffe://cluster.local/ns/a/sa/c".parse().unwrap()].into(),
        next_hop,
        destination: destination.parse().unwrap(),
        incarnation: "1".into(),
    }
}

#[test]
fn a_pool_shares_what_may_be_shared_and_dials_once_for_a_burst() {
    worker(async {
        let ip = LOOPBACKS[0];
        let pki = Rc::new(Pki::new());
        let (at, seen) = server(ip, &pki, settings(Role::Server));
        let echo = echo(ip);
        let pool = Rc::new(Pool::default());
        let dials = Rc::new(Cell::new(0));
        let mut work = Vec::new();
        for n in 0..150 {
            let (pool, pki, dials) = (pool.clone(), pki.clone(), dials.clone());
            work.push(spawn_local(async move {
                let destination = if n % 3 == 0 { "cluster//v1/Pod/a/one" } else { "cluster//v1/Pod/a/two" };
                let ask = Ask::of(echo);
                let dial = || async {
                    dials.set(dials.get() + 1);
                    let (client, run) =
                        weir_hbone::connect(dial(at).await, pki.client.clone(), settings(Role::Client)).await?;
                    Ok(Dialed { client, run })
                };
                pool.open(&key(at, destination), &ask.head(), dial).await.unwrap().0
            }));
        }
        let mut tunnels = Vec::new();
        for work in work {
            tunnels.push(work.await.unwrap());
        }
        // 50 tunnels of one workload share a connection; 100 of another fill one: never the same.
        assert_eq!((dials.get(), pool.size()), (2, (2, 150)));
        // Going away while streams are open loses none, and the next tunnel gets a new connection.
        for closer in seen.closers.borrow().iter() {
            closer.drain("test");
        }
        until("GOAWAY", || pool.size().1 == 150 && !tunnels.is_empty()).await;
        drop(tunnels);
        until("the old connections being released", || pool.size() == (0, 0)).await;
    });
}

#[test]
fn a_tunnel_asked_for_while_the_connection_goes_away_is_tried_again_once() {
    worker(async {
        let ip = LOOPBACKS[0];
        let pki = Rc::new(Pki::new());
        let (at, seen) = server(ip, &pki, settings(Role::Server));
        let pool = Rc::new(Pool::default());
        let ask = Ask::of(echo(ip));
        let dial = || async {
            let (client, run) = weir_hbone::connect(dial(at).await, pki.client.clone(), settings(Role::Client)).await?;
            Ok(Dialed { client, run })
        };
        let key = key(at, "cluster//v1/Pod/a/one");
        let (first, _) = pool.open(&key, &ask.head(), dial).await.unwrap();
        drop(first);
        for round in 0..20 {
            // The server's GOAWAY and our next request cross on the wire.
            seen.closers.borrow().last().unwrap().drain("test");
            let (tunnel, _) = pool.open(&key, &ask.head(), dial).await.unwrap_or_else(|e| panic!("round {round}: {e}"));
            drop(tunnel);
        }
    });
}

#[test]
fn a_dial_that_fails_fails_all_who_waited_for_it() {
    worker(async {
        let pool = Rc::new(Pool::default());
        let dials = Rc::new(Cell::new(0));
        let key = key("127.0.0.1:9".parse().unwrap(), "cluster//v1/Pod/a/one");
        let mut work = Vec::new();
        for _ in 0..20 {
            let (pool, key, dials) = (pool.clone(), key.clone(), dials.clone());
            work.push(spawn_local(async move {
                let dial = || async {
                    dials.set(dials.get() + 1);
                    tokio::task::yield_now().await;
                    Err::<Dialed<std::future::Ready<weir_hbone::Lost>>, _>(Error::NotTls)
                };
                pool.open(&key, &Ask::of("127.0.0.1:9".parse().unwrap()).head(), dial).await.err().unwrap()
            }));
        }
        for work in work {
            assert!(matches!(tokio::time::timeout(SOON, work).await.unwrap().unwrap(), Error::NotTls));
        }
        assert_eq!(dials.get(), 1);
        assert_eq!(pool.size(), (0, 0));
    });
}

#[test]
fn a_tunnel_is_read_and_written_without_a_socket() {
    for ip in LOOPBACKS {
        worker(async move {
            let pki = Pki::new();
            let (at, seen) = server(ip, &pki, settings(Role::Server));
            let client = client(at, &pki).await;
            let mut work = Vec::new();
            for length in [0, 1, 16_375, 1 << 20, 20_000_003] {
                let (mut tunnel, _) = client.open(&Ask::of(echo(ip)).head()).await.unwrap();
                work.push(spawn_local(async move {
                    let sent = pattern(length);
                    let (mut at, mut got, mut shut) = (0, Vec::new(), false);
                    let mut buffer = vec![0; 50_000];
                    // As a protocol would: one task, both directions.
                    std::future::poll_fn(|cx| {
                        use std::{io::IoSlice, pin::Pin, task::Poll};
                        use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
                        while at < sent.len() {
                            let (near, far) = sent[at..].split_at((sent.len() - at).min(700));
                            let pieces = [IoSlice::new(near), IoSlice::new(far)];
                            match Pin::new(&mut tunnel).poll_write_vectored(cx, &pieces) {
                                Poll::Ready(count) => at += count.unwrap(),
                                Poll::Pending => break,
                            }
                        }
                        if at == sent.len() && !std::mem::replace(&mut shut, true) {
                            assert!(Pin::new(&mut tunnel).poll_shutdown(cx).is_ready());
                        }
                        loop {
                            let mut into = ReadBuf::new(&mut buffer);
                            match Pin::new(&mut tunnel).poll_read(cx, &mut into) {
                                Poll::Ready(result) => {
                                    result.unwrap();
                                    if into.filled().is_empty() {
                                        return Poll::Ready(());
                                    }
                                    got.extend_from_slice(into.filled());
                                }
                                Poll::Pending => return Poll::Pending,
                            }
                        }
                    })
                    .await;
                    assert!(got == sent, "{length} bytes came back changed");
                    assert_eq!(tunnel.write(b"x").await.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
                }));
            }
            for work in work {
                work.await.unwrap();
            }
            assert_eq!(client.open_streams(), 0);
            // What the far side breaks, this side reads as broken.
            let rude = application(ip, |stream| {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            });
            let (mut tunnel, _) = client.open(&Ask::of(rude).head()).await.unwrap();
            let error = tunnel.read(&mut [0]).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            drop(tunnel);
            // Dropped, it is taken back; but one whose own direction had ended leaves what it sent standing.
            drop(client.open(&Ask::of(echo(ip)).head()).await.unwrap());
            until("the first to be reset", || seen.relayed.borrow().iter().any(|r| r.contains("Cancel"))).await;
            let (mut tunnel, _) = client.open(&Ask::of(echo(ip)).head()).await.unwrap();
            tunnel.write_all(b"last words").await.unwrap();
            tunnel.shutdown().await.unwrap();
            drop(tunnel);
            until("the second to end", || client.open_streams() == 0).await;
            assert!(client.is_available());
        });
    }
}
