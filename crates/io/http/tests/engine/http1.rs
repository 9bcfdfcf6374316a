//! HTTP/1.1 through the engine, byte for byte on both sides.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_model::AppProtocol;

use crate::bed::{self, Act, FAMILIES, Mesh, OK, backend, backend_on, body, read_message, run, settings, status};

#[test]
fn a_request_goes_to_the_endpoint_and_its_answer_comes_back() {
    run(async {
        for family in FAMILIES {
            let backend = backend_on(family, |_, _| Act::Answer(OK)).await;
            let mesh = Mesh::new(family, AppProtocol::Http11, settings()).await;
            mesh.endpoints(bed::SHOP, &[backend.address], AppProtocol::Http11);
            let answer = mesh.get("/a?b=c").await;
            assert_eq!((status(&answer), body(&answer)), (200, "ok"), "{answer}");
            let got = backend.last();
            assert!(got.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{got}");
            let seen = mesh.seen(1).await;
            assert_eq!((seen[0].status, &*seen[0].flags, &*seen[0].details), (200, "-", "via_upstream"));
            assert_eq!((seen[0].sent, seen[0].attempts, seen[0].upstream), (2, 1, Some(backend.address)));
        }
    });
}

#[test]
fn every_way_to_frame_an_answer_is_understood() {
    const LONG: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    run(async {
        for (method, act, want, want_body) in [
            ("GET", Act::Answer(OK), 200, "ok"),
            ("GET", Act::Answer("HTTP/1.1 204 No Content\r\n\r\n"), 204, ""),
            ("GET", Act::Answer("HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n"), 304, ""),
            ("HEAD", Act::Answer("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n"), 200, ""),
            ("GET", Act::Last("HTTP/1.1 200 OK\r\n\r\nuntil the end"), 200, "until the end"),
            ("GET", Act::Last("HTTP/1.0 200 OK\r\n\r\nold"), 200, "old"),
            (
                "GET",
                Act::Answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
                200,
                "ok",
            ),
            ("GET", Act::Answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), 200, ""),
            ("GET", Act::Answer(LONG), 200, "hello world"),
        ] {
            let script = act.clone();
            let backend = backend(move |_, _| script.clone()).await;
            let mesh = Mesh::http(&[backend.address]).await;
            let request = format!("{method} / HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n");
            let answer = mesh.raw(request.as_bytes()).await;
            assert_eq!(status(&answer), want, "{act:?}: {answer}");
            let got = body(&answer);
            let whole: String = if answer.contains("transfer-encoding: chunked") { unchunked(got) } else { got.into() };
            assert_eq!(whole, want_body, "{act:?}: {answer}");
            assert_eq!(mesh.seen(1).await[0].flags, "-", "{act:?}");
            if method == "HEAD" {
                assert!(answer.contains("content-length: 7"), "{answer}");
            }
        }
    });
}

fn unchunked(body: &str) -> String {
    let mut lines = body.split("\r\n");
    let mut whole = String::new();
    while let Some(size) = lines.next().filter(|size| !size.is_empty() && *size != "0") {
        assert!(usize::from_str_radix(size, 16).is_ok(), "{body}");
        whole.push_str(lines.next().unwrap());
    }
    whole
}

#[test]
fn an_answer_framed_in_two_ways_is_none() {
    run(async {
        for act in [
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 9\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: cow\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok",
        ] {
            let backend = backend(move |_, _| Act::Last(act)).await;
            let mesh = Mesh::http(&[backend.address]).await;
            let answer = mesh.get("/").await;
            assert_eq!(status(&answer), 502, "{act}: {answer}");
            assert_eq!(mesh.seen(1).await[0].flags, "UPE", "{act}");
        }
    });
}

#[test]
fn every_way_to_frame_a_request_is_sent_on() {
    run(async {
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::http(&[backend.address]).await;
        for (request, want) in [
            ("POST / HTTP/1.1\r\nhost: shop\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello", "\r\n\r\nhello"),
            (
                "POST / HTTP/1.1\r\nhost: shop\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                "\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            ),
            (
                "GET / HTTP/1.1\r\nhost: shop\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                "\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            ),
            ("POST / HTTP/1.1\r\nhost: shop\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", "\r\n\r\n"),
            ("GET / HTTP/1.0\r\nhost: shop\r\n\r\n", "\r\n\r\n"),
            (
                "GET http://other/x HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n",
                "GET /x HTTP/1.1\r\nhost: other\r\n",
            ),
        ] {
            let answer = mesh.raw(request.as_bytes()).await;
            assert_eq!(status(&answer), 200, "{request}: {answer}");
            let got = backend.last();
            assert!(got.contains(want), "{request}: {got}");
        }
    });
}

#[test]
fn a_client_that_waits_to_be_told_to_go_on_is_told() {
    run(async {
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::http(&[backend.address]).await;
        let mut client = mesh.client().await;
        let head =
            "POST / HTTP/1.1\r\nhost: shop\r\nexpect: 100-continue\r\ncontent-length: 5\r\nconnection: close\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        assert_eq!(read_message(&mut client, &mut rest).await.as_deref(), Some("HTTP/1.1 100 Continue\r\n\r\n"));
        client.write_all(b"hello").await.unwrap();
        let answer = read_message(&mut client, &mut rest).await.unwrap();
        assert_eq!(status(&answer), 200, "{answer}");
        let got = backend.last();
        assert!(got.ends_with("\r\n\r\nhello") && !got.contains("expect"), "{got}");
    });
}

#[test]
fn requests_in_a_row_are_answered_in_order() {
    run(async {
        let backend = backend(|_, request| {
            if request.starts_with("GET /1") {
                Act::Answer("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none")
            } else {
                Act::Answer("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\ntwo")
            }
        })
        .await;
        let mesh = Mesh::http(&[backend.address]).await;
        let answer = mesh
            .raw(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await;
        let (one, two) = (answer.find("one").unwrap(), answer.find("two").unwrap());
        assert!(one < two, "{answer}");
        assert_eq!(backend.connections.get(), 1, "the connection to the endpoint is used again");
    });
}

#[test]
fn what_has_no_one_meaning_is_refused() {
    run(async {
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::http(&[backend.address]).await;
        let many: String = (0..120).map(|n| format!("x-{n}: y\r\n")).collect();
        let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(61 << 10));
        let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n");
        for (request, want) in [
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd", 400),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc", 400),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3, 4\r\n\r\nabcd", 400),
            ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\nabc", 400),
            ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
            (
                "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: cow\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
                501,
            ),
            ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501),
            ("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
            ("get / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
            ("Delete / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
            ("CONNECT /a HTTP/1.1\r\nhost: a\r\n\r\n", 400),
            ("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", 400),
            ("GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n folded\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a\r\nx: y\0z\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a\r\nx\0: y\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a@b\r\n\r\n", 400),
            ("GET /%zz HTTP/1.1\r\nhost: a\r\n\r\n", 400),
            ("GET / HTTP/9.9\r\nhost: a\r\n\r\n", 400),
            ("G@T / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
            ("\x16\x03\x01\x02\r\n\r\n", 400),
            (&large, 431),
            (&many, 431),
        ] {
            let request = request.replacen("\r\n\r\n", "\r\nconnection: close\r\n\r\n", 1);
            let answer = mesh.raw(request.as_bytes()).await;
            assert_eq!(status(&answer), want, "{:?}: {answer}", &request[..request.len().min(100)]);
        }
        assert_eq!(backend.count(), 0);
    });
}

#[test]
fn a_body_that_is_cut_or_badly_framed_never_looks_whole() {
    run(async {
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::http(&[backend.address]).await;
        for request in [
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloo\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        ] {
            let answer = mesh.raw(request.as_bytes()).await;
            assert_ne!(status(&answer), 200, "{request}: {answer}");
            assert_eq!(backend.count(), 0, "{request}");
        }
    });
}

#[test]
fn headers_arrive_as_istios_users_know_them() {
    run(async {
        let backend = backend(|_, _| {
            Act::Answer("HTTP/1.1 200 OK\r\nserver: mine\r\nkeep-alive: timeout=5\r\nconnection: x-hop\r\nx-hop: 1\r\ncontent-length: 2\r\n\r\nok")
        })
        .await;
        let mesh = Mesh::http(&[backend.address]).await;
        let answer = mesh
            .raw(
                b"GET / HTTP/1.1\r\nhost: shop:80\r\nconnection: close, x-hop\r\nx-hop: 1\r\nx-forwarded-for: 1.2.3.4\r\nx-envoy-retry-on: 5xx\r\n\
                  te: trailers\r\nvia: me\r\naccept: a\r\naccept: b\r\n\r\n",
            )
            .await;
        let got = backend.last();
        for line in [
            "host: shop:80\r\n",
            "x-forwarded-for: 1.2.3.4\r\n",
            "x-forwarded-proto: http\r\n",
            "x-envoy-attempt-count: 1\r\n",
            "te: trailers\r\n",
            "via: me\r\n",
            "accept: a\r\naccept: b\r\n",
        ] {
            assert!(got.contains(line), "{line:?} in {got}");
        }
        for absent in ["x-hop", "connection", "x-envoy-retry-on"] {
            assert!(!got.contains(absent), "{absent} in {got}");
        }
        assert!(answer.contains("server: mine\r\n") && answer.contains("x-envoy-upstream-service-time: "), "{answer}");
        assert!(!answer.contains("x-hop") && !answer.contains("keep-alive"), "{answer}");
    });
}

#[test]
fn a_websocket_is_relayed_both_ways() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let echo = tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut rest = Vec::new();
            let head = read_message(&mut stream, &mut rest).await.unwrap();
            assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
            let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\nfirst";
            stream.write_all(answer.as_bytes()).await.unwrap();
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
        });
        let mesh = Mesh::http(&[address]).await;
        let mut client = mesh.client().await;
        let head = "GET /ws HTTP/1.1\r\nhost: shop\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: y\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let answer = read_message(&mut client, &mut rest).await.unwrap();
        assert_eq!(status(&answer), 101, "{answer}");
        assert!(answer.contains("upgrade: websocket") && answer.contains("sec-websocket-accept: x"), "{answer}");
        client.write_all(b" and echoed").await.unwrap();
        client.shutdown().await.unwrap();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"first and echoed");
        echo.await.unwrap();
        let seen = mesh.seen(1).await;
        assert_eq!((seen[0].status, &*seen[0].flags, seen[0].received, seen[0].sent), (101, "-", 11, 16));
    });
}

#[test]
fn a_connection_is_watched_while_it_waits_and_nothing_of_what_comes_is_lost() {
    run(async {
        let (go, mut wait) = tokio::sync::mpsc::channel::<()>(1);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut rest = Vec::new();
            while let Some(_got) = read_message(&mut stream, &mut rest).await {
                wait.recv().await;
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        });
        let mesh = Mesh::http(&[address]).await;
        let mut client = mesh.client().await;
        client.write_all(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        bed::until(|| mesh.bed.connects.get() == 1).await;
        // The next request comes in pieces, larger than a glance, before the first is answered.
        let second = format!("GET /2 HTTP/1.1\r\nhost: a\r\nx: {}\r\nconnection: close\r\n\r\n", "y".repeat(5_000));
        let (one, other) = second.split_at(100);
        client.write_all(one.as_bytes()).await.unwrap();
        bed::settle().await;
        client.write_all(other.as_bytes()).await.unwrap();
        bed::settle().await;
        go.send(()).await.unwrap();
        go.send(()).await.unwrap();
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
    });
}

#[test]
fn an_answer_that_comes_before_the_body_is_all_sent_is_given() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut some = [0; 1_024];
            stream.read_exact(&mut some).await.unwrap();
            let answer = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 5\r\nconnection: close\r\n\r\nlarge";
            stream.write_all(answer.as_bytes()).await.unwrap();
            // It reads on, and throws away.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap_or_default();
        });
        let mesh = Mesh::http(&[address]).await;
        let mut client = mesh.client().await;
        let length = 64 << 20;
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        let (mut read, mut write) = client.split();
        let sending = async {
            let piece = vec![b'x'; 65_536];
            for _ in 0..length / piece.len() {
                if write.write_all(&piece).await.is_err() {
                    return;
                }
            }
        };
        let reading = async {
            let mut answer = Vec::new();
            let mut piece = [0; 1_024];
            while !answer.ends_with(b"large") {
                let count = read.read(&mut piece).await.unwrap();
                assert_ne!(count, 0, "{}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&piece[..count]);
            }
            answer
        };
        let answer = tokio::select! {
            answer = reading => answer,
            // All of it was sent before the answer was read: that is no answer.
            () = async { sending.await; std::future::pending::<()>().await } => unreachable!("it never ends"),
        };
        assert!(answer.starts_with(b"HTTP/1.1 413 "), "{}", String::from_utf8_lossy(&answer));
        let seen = mesh.seen(1).await;
        assert_eq!((seen[0].status, &*seen[0].flags, seen[0].sent), (413, "-", 5));
        assert!(seen[0].received < 64 << 20, "{}", seen[0].received);
    });
}

#[test]
fn large_bodies_pass_unchanged_both_ways() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let length: usize = 5_000_000;
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = Vec::new();
            let start = loop {
                let mut piece = [0; 65_536];
                let count = stream.read(&mut piece).await.unwrap();
                got.extend_from_slice(&piece[..count]);
                if let Some(at) = got.windows(4).position(|end| end == b"\r\n\r\n") {
                    break at + 4;
                }
            };
            let mut body = got.split_off(start);
            let mut rest = vec![0; length - body.len()];
            stream.read_exact(&mut rest).await.unwrap();
            body.extend_from_slice(&rest);
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
            for piece in body.chunks(77_777) {
                stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
                stream.write_all(piece).await.unwrap();
                stream.write_all(b"\r\n").await.unwrap();
            }
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        });
        let mesh = Mesh::http(&[address]).await;
        let body: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let mut client = mesh.client().await;
        // HTTP/1.0: the answer ends with the connection, and is not in chunks.
        let head = format!("POST / HTTP/1.0\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        let (mut read, mut write) = client.split();
        let sending = async {
            write.write_all(head.as_bytes()).await.unwrap();
            write.write_all(&body).await.unwrap();
        };
        let mut answer = Vec::new();
        let (_, count) = tokio::join!(sending, read.read_to_end(&mut answer));
        count.unwrap();
        let start = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(answer.len() - start, length);
        assert!(answer[start..] == body[..]);
        let seen = mesh.seen(1).await;
        assert_eq!((seen[0].received, seen[0].sent), (5_000_000, 5_000_000));
    });
}
