//! Connections over time: drained, too slow, silent; configuration that changes under load; and what is not HTTP.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::spawn_local,
    time::timeout,
};
use weir_http::Settings;
use weir_model::AppProtocol;

use crate::bed::{self, Act, FAMILIES, Mesh, OK, SHOP, backend, read_message, run, settings, status, until};

/// A server that says something first, if it is given, and then echoes to the end.
async fn talker(family: std::net::IpAddr, first: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((family, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            spawn_local(async move {
                stream.write_all(first.as_bytes()).await.unwrap();
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.unwrap_or_default();
                write.shutdown().await.unwrap_or_default();
            });
        }
    });
    address
}

#[test]
fn what_is_not_http_is_relayed_to_its_end() {
    run(async {
        for family in FAMILIES {
            for (protocol, first, said) in [
                (AppProtocol::Tcp, "", "hello"),
                (AppProtocol::Tcp, "220 ready\r\n", "hello"),
                (AppProtocol::Unknown, "220 ready\r\n", "EHLO me\r\n"),
                (AppProtocol::Unknown, "", "\u{1}\u{2}binary"),
                (AppProtocol::Tls, "", "GET / HTTP/1.1\r\n\r\n"),
            ] {
                let server = talker(family, first).await;
                let mesh = Mesh::new(family, protocol, settings()).await;
                mesh.endpoints(SHOP, &[server], protocol);
                let mut client = mesh.client().await;
                let mut greeting = vec![0; first.len()];
                client.read_exact(&mut greeting).await.unwrap();
                assert_eq!(greeting, first.as_bytes(), "{protocol:?}");
                client.write_all(said.as_bytes()).await.unwrap();
                // It is told when it opens, and not only when all is over.
                until(|| *mesh.bed.opened.borrow() == [server]).await;
                assert!(mesh.bed.seen.borrow().is_empty(), "{protocol:?}");
                client.shutdown().await.unwrap();
                let mut rest = String::new();
                client.read_to_string(&mut rest).await.unwrap();
                assert_eq!(rest, said, "{protocol:?}");
                let seen = mesh.seen(1).await;
                let bytes = (u64::try_from(said.len()).unwrap(), u64::try_from(first.len() + said.len()).unwrap());
                assert_eq!((&*seen[0].flags, seen[0].upstream), ("-", Some(server)), "{protocol:?}");
                // Those that were read to sniff at them count, too.
                assert_eq!((seen[0].received, seen[0].sent), bytes, "{protocol:?}");
            }
        }
    });
}

#[test]
fn http_is_known_where_nothing_is_said_of_it() {
    run(async {
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::new(FAMILIES[0], AppProtocol::Unknown, settings()).await;
        mesh.endpoints(SHOP, &[backend.address], AppProtocol::Unknown);
        let mut client = mesh.client().await;
        for piece in ["GE", "T /a HT", "TP/1.1\r\nhost: a\r\n", "\r\n"] {
            client.write_all(piece.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
        }
        let answer = read_message(&mut client, &mut Vec::new()).await.unwrap();
        assert_eq!((status(&answer), backend.count()), (200, 1), "{answer}");
        let (mut sender, connection) = h2::client::handshake(mesh.client().await).await.unwrap();
        spawn_local(async move { connection.await.unwrap_or_default() });
        let request = http::Request::get("http://a/").body(()).unwrap();
        // What the client speaks is what an endpoint is spoken to in: this one understands nothing of it.
        let (answer, _): (_, h2::SendStream<bytes::Bytes>) = sender.send_request(request, true).unwrap();
        assert_ne!(answer.await.unwrap().status(), 200);
    });
}

#[test]
fn nobody_to_relay_to_is_said() {
    run(async {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        for (endpoints, want) in [(vec![], "UH"), (vec![gone], "UF")] {
            let mesh = Mesh::new(FAMILIES[0], AppProtocol::Tcp, settings()).await;
            mesh.endpoints(SHOP, &endpoints, AppProtocol::Tcp);
            assert_eq!(mesh.raw(b"x").await, "");
            assert_eq!(mesh.seen(1).await[0].flags, want);
            assert!(mesh.bed.opened.borrow().is_empty(), "{want}");
        }
    });
}

#[test]
fn a_connection_that_may_not_go_on_goes_nowhere() {
    run(async {
        for family in FAMILIES {
            for protocol in [AppProtocol::Tcp, AppProtocol::Tls, AppProtocol::Unknown] {
                let server = talker(family, "").await;
                let mesh = Mesh::new(family, protocol, settings()).await;
                mesh.endpoints(SHOP, &[server], protocol);
                mesh.bed.refuse.set(Some(403));
                assert_eq!(mesh.raw(b"\x01\x02binary").await, "", "{protocol:?}");
                let seen = mesh.seen(1).await;
                assert_eq!((&*seen[0].flags, &*seen[0].details), ("UAEX", "rbac_access_denied_matched_policy[none]"));
                assert_eq!((mesh.bed.connects.get(), seen[0].upstream), (0, None), "{protocol:?}");
            }
        }
    });
}

#[test]
fn a_head_that_takes_too_long_ends_its_connection() {
    run(async {
        let mine = Settings { head: Duration::from_millis(200), ..settings() };
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::new(FAMILIES[0], AppProtocol::Http11, mine).await;
        mesh.endpoints(SHOP, &[backend.address], AppProtocol::Http11);
        let mut client = mesh.client().await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        assert_eq!(status(&read_message(&mut client, &mut rest).await.unwrap()), 200);
        // The next head comes byte by byte.
        let dripping = async {
            loop {
                if client.write_all(b"G").await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(bed::PATIENCE, dripping).await.expect("the connection ends");
        assert_eq!(backend.count(), 1);
        until(|| mesh.engine.connections() == 0).await;
    });
}

#[test]
fn a_connection_that_is_idle_or_silent_for_too_long_ends() {
    run(async {
        let time = Duration::from_millis(150);
        for (mine, act, want) in [
            (Settings { idle: time, ..settings() }, Act::Answer(OK), "-"),
            (Settings { silence: time, ..settings() }, Act::Hang, "SI"),
        ] {
            let backend = backend(move |_, _| act.clone()).await;
            let mesh = Mesh::new(FAMILIES[0], AppProtocol::Http11, mine).await;
            mesh.endpoints(SHOP, &[backend.address], AppProtocol::Http11);
            mesh.raw(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            assert_eq!(mesh.seen(1).await[0].flags, want);
        }
    });
}

#[test]
fn a_drained_engine_finishes_what_is_under_way() {
    run(async {
        let (go, mut wait) = tokio::sync::mpsc::channel::<()>(1);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_message(&mut stream, &mut Vec::new()).await.unwrap();
            wait.recv().await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            wait.recv().await;
        });
        let mesh = Mesh::http(&[address]).await;
        let mut idle = mesh.client().await;
        let mut busy = mesh.client().await;
        busy.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        until(|| mesh.bed.connects.get() == 1 && mesh.engine.connections() == 2).await;
        mesh.engine.drain();
        let mut rest = Vec::new();
        assert_eq!(idle.read_to_end(&mut rest).await.unwrap(), 0);
        go.send(()).await.unwrap();
        busy.read_to_end(&mut rest).await.unwrap();
        let answer = String::from_utf8(rest).unwrap();
        assert!(status(&answer) == 200 && answer.contains("connection: close"), "{answer}");
        until(|| mesh.engine.connections() == 0).await;
    });
}

#[test]
fn configuration_changes_under_load_and_no_request_fails() {
    run(async {
        let mut backends = Vec::new();
        for _ in 0..3 {
            backends.push(backend(|_, _| Act::Answer(OK)).await);
        }
        let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
        let mesh = Rc::new(Mesh::http(&addresses).await);
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let mesh = Rc::clone(&mesh);
                spawn_local(async move {
                    let mut client = mesh.client().await;
                    let mut rest = Vec::new();
                    for _ in 0..300 {
                        client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx").await.unwrap();
                        let answer = read_message(&mut client, &mut rest).await.unwrap();
                        assert_eq!(status(&answer), 200, "{answer}");
                    }
                })
            })
            .collect();
        let changing = Rc::clone(&mesh);
        let swaps = spawn_local(async move {
            for number in 0_usize.. {
                // Endpoints come and go, and what is said of them is another object each time.
                changing.endpoints(SHOP, &addresses[number % 3..], AppProtocol::Http11);
                changing.swap(Arc::new(weir_serving::Serving::default()));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        for client in clients {
            client.await.unwrap();
        }
        swaps.abort();
        let count: usize = backends.iter().map(bed::Backend::count).sum();
        assert_eq!(count, 8 * 300, "none was sent twice");
    });
}
