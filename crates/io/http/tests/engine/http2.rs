//! HTTP/2 through the engine: clients and endpoints of it, in any combination with HTTP/1.1.

use std::{cell::RefCell, rc::Rc, time::Duration};

use bytes::Bytes;
use h2::{Reason, client::SendRequest};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::{io::AsyncWriteExt, net::TcpListener, task::spawn_local};
use weir_model::AppProtocol;

use crate::bed::{self, Act, Mesh, OK, SHOP, backend, run, settings, until};

async fn client(mesh: &Mesh) -> SendRequest<Bytes> {
    let (sender, connection) = h2::client::handshake(mesh.client().await).await.unwrap();
    spawn_local(async move { connection.await.unwrap_or_default() });
    sender
}

fn get(path: &str) -> Request<()> {
    Request::builder().uri(format!("http://shop{path}")).body(()).unwrap()
}

async fn whole(answer: Response<h2::RecvStream>) -> Result<(u16, Vec<u8>, Option<HeaderMap>), h2::Error> {
    let status = answer.status().as_u16();
    let mut body = answer.into_body();
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    Ok((status, bytes, body.trailers().await?))
}

/// A backend of HTTP/2 that echoes bodies and answers with trailers, as gRPC does.
async fn echo() -> (std::net::SocketAddr, Rc<RefCell<Vec<Request<()>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let got = Rc::<RefCell<Vec<Request<()>>>>::default();
    let all = Rc::clone(&got);
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let all = Rc::clone(&all);
            spawn_local(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let (parts, mut body) = request.into_parts();
                    all.borrow_mut().push(Request::from_parts(parts, ()));
                    spawn_local(async move {
                        let mut answer = respond.send_response(Response::new(()), false).unwrap();
                        while let Some(Ok(piece)) = body.data().await {
                            body.flow_control().release_capacity(piece.len()).unwrap();
                            answer.reserve_capacity(piece.len());
                            answer.send_data(piece, false).unwrap();
                        }
                        let mut trailers = HeaderMap::new();
                        trailers.insert("grpc-status", HeaderValue::from_static("5"));
                        answer.send_trailers(trailers).unwrap();
                    });
                }
            });
        }
    });
    (address, got)
}

#[test]
fn requests_at_once_go_to_endpoints_of_http1() {
    run(async {
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::http(&[backend.address]).await;
        let mut client = client(&mesh).await;
        let mut answers = Vec::new();
        for number in 0..50 {
            client = client.ready().await.unwrap();
            let mut request = get(&format!("/{number}"));
            request.headers_mut().append("cookie", HeaderValue::from_static("a=1"));
            request.headers_mut().append("cookie", HeaderValue::from_static("b=2"));
            answers.push(client.send_request(request, true).unwrap().0);
        }
        for answer in answers {
            let (status, body, _) = whole(answer.await.unwrap()).await.unwrap();
            assert_eq!((status, &*body), (200, b"ok".as_slice()));
        }
        let got = backend.last();
        assert!(got.contains("host: shop\r\n") && got.contains("cookie: a=1; b=2\r\n"), "{got}");
        assert_eq!(backend.count(), 50);
    });
}

#[test]
fn a_call_of_grpc_keeps_its_trailers_and_is_counted() {
    run(async {
        let (address, got) = echo().await;
        let mesh = Mesh::new(bed::FAMILIES[0], AppProtocol::Grpc, settings()).await;
        mesh.endpoints(SHOP, &[address], AppProtocol::Grpc);
        let mut client = client(&mesh).await;
        let request = Request::post("http://shop/a.B/C")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (answer, mut upload) = client.send_request(request, false).unwrap();
        let message = Bytes::from_static(&[0, 0, 0, 0, 2, 7, 7]);
        upload.send_data(message.clone(), false).unwrap();
        upload.send_data(message, true).unwrap();
        let (status, body, trailers) = whole(answer.await.unwrap()).await.unwrap();
        assert_eq!((status, body.len()), (200, 14));
        assert_eq!(trailers.unwrap()["grpc-status"], "5");
        let seen = mesh.seen(1).await;
        let call = seen[0].call.unwrap();
        assert_eq!((call.status, call.requests), (Some(5), 2));
        assert_eq!((seen[0].received, seen[0].sent, &*seen[0].flags), (14, 14, "-"));
        let got = got.borrow();
        assert_eq!(got[0].headers()["te"], "trailers");
        assert_eq!(got[0].uri().to_string(), "http://shop/a.B/C");
    });
}

#[test]
fn a_large_body_passes_with_flow_control() {
    run(async {
        let (address, _) = echo().await;
        let mesh = Mesh::new(bed::FAMILIES[0], AppProtocol::Http2, settings()).await;
        mesh.endpoints(SHOP, &[address], AppProtocol::Http2);
        let mut client = client(&mesh).await;
        let request = Request::post("http://shop/").body(()).unwrap();
        let (answer, mut upload) = client.send_request(request, false).unwrap();
        let sending = spawn_local(async move {
            for number in 0..64 {
                upload.reserve_capacity(65_536);
                let mut piece = Bytes::from(vec![number; 65_536]);
                while !piece.is_empty() {
                    let free = std::future::poll_fn(|cx| upload.poll_capacity(cx)).await.unwrap().unwrap();
                    let part = piece.split_to(free.min(piece.len()));
                    upload.send_data(part, false).unwrap();
                    upload.reserve_capacity(piece.len());
                }
            }
            upload.send_data(Bytes::new(), true).unwrap();
        });
        let (status, body, _) = whole(answer.await.unwrap()).await.unwrap();
        assert_eq!((status, body.len()), (200, 64 * 65_536));
        sending.await.unwrap();
    });
}

#[test]
fn http1_clients_reach_endpoints_of_http2() {
    run(async {
        let (address, got) = echo().await;
        let mesh = Mesh::http(&[]).await;
        mesh.endpoints(SHOP, &[address], AppProtocol::Http2);
        let answer = mesh
            .raw(b"POST /x HTTP/1.1\r\nhost: shop\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            .await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("5\r\nhello\r\n0\r\n\r\n"), "{answer}");
        let got = got.borrow();
        assert!(got[0].headers().get("transfer-encoding").is_none() && got[0].headers().get("host").is_none());
    });
}

#[test]
fn an_answer_that_breaks_off_resets_the_stream() {
    run(async {
        let backend = backend(|_, _| Act::Last("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")).await;
        let mesh = Mesh::http(&[backend.address]).await;
        let mut client = client(&mesh).await;
        let (answer, _) = client.send_request(get("/"), true).unwrap();
        // Whether the head is still seen depends on who is faster; a whole body never is.
        let ended = match answer.await {
            Ok(answer) => whole(answer).await.map(|_| ()),
            Err(error) => Err(error),
        };
        assert!(ended.unwrap_err().is_reset());
        assert_eq!(mesh.seen(1).await[0].flags, "UC");
    });
}

#[test]
fn a_stream_that_is_reset_by_its_client_ends_its_request() {
    run(async {
        let backend = backend(|_, _| Act::Hang).await;
        let mesh = Mesh::http(&[backend.address]).await;
        let mut client = client(&mesh).await;
        let (answer, mut upload) = client.send_request(get("/"), false).unwrap();
        until(|| backend.connections.get() == 1).await;
        upload.send_reset(Reason::CANCEL);
        drop(answer);
        assert_eq!(mesh.seen(1).await[0].flags, "DC");
    });
}

#[test]
fn a_flood_of_resets_ends_the_connection() {
    run(async {
        let backend = backend(|_, _| Act::Hang).await;
        let mesh = Mesh::http(&[backend.address]).await;
        let mut stream = mesh.client().await;
        let mut flood = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        for number in 0..2_000_u32 {
            let id = (number * 2 + 1).to_be_bytes();
            // :method GET, :scheme http, :path /, :authority a, from the static table.
            let block = [0x82, 0x86, 0x84, 0x01, 0x01, b'a'];
            flood.extend_from_slice(&[0, 0, 6, 1, 5]);
            flood.extend_from_slice(&id);
            flood.extend_from_slice(&block);
            flood.extend_from_slice(&[0, 0, 4, 3, 0]);
            flood.extend_from_slice(&id);
            flood.extend_from_slice(&8_u32.to_be_bytes());
        }
        stream.write_all(&flood).await.unwrap_or_default();
        until(|| mesh.engine.connections() == 0).await;
        assert!(backend.count() < 2_000, "{}", backend.count());
    });
}

/// Headers, as their bytes on the wire: literal, without indexing.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x84];
    for (name, value) in fields {
        block.push(0);
        block.push(u8::try_from(name.len()).unwrap());
        block.extend_from_slice(name.as_bytes());
        block.push(u8::try_from(value.len()).unwrap());
        block.extend_from_slice(value.as_bytes());
    }
    block
}

#[test]
fn what_would_mean_something_else_in_http1_is_refused() {
    run(async {
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::http(&[backend.address]).await;
        for field in [
            ("x", "a\r\nhost: b"),
            ("x", "a\0b"),
            ("x", "a\nb"),
            ("x\r\nhost", "b"),
            ("X", "upper"),
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
        ] {
            let mut stream = mesh.client().await;
            let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
            let block = block(&[(":authority", "shop"), field]);
            bytes.extend_from_slice(&[0, 0, u8::try_from(block.len()).unwrap(), 1, 5, 0, 0, 0, 1]);
            bytes.extend_from_slice(&block);
            // A request behind it, so that there is an end to wait for: GOAWAY.
            bytes.extend_from_slice(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            stream.write_all(&bytes).await.unwrap();
            until(|| mesh.engine.connections() == 0).await;
            assert_eq!(backend.count(), 0, "{field:?}");
        }
    });
}

#[test]
fn headers_are_limited() {
    run(async {
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::http(&[backend.address]).await;
        let mut client = client(&mesh).await;
        let mut many = get("/");
        for number in 0..120 {
            let name: http::HeaderName = format!("x-{number}").parse().unwrap();
            many.headers_mut().append(name, HeaderValue::from_static("y"));
        }
        let (answer, _) = client.send_request(many, true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 431);
        let mut large = get("/");
        large.headers_mut().append("x", HeaderValue::from_bytes(&[b'y'; 61 << 10]).unwrap());
        let (answer, _) = client.send_request(large, true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 431);
        assert_eq!(backend.count(), 0);
    });
}

#[test]
fn a_refused_stream_is_sent_again() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let count = Rc::new(std::cell::Cell::new(0));
        let counted = Rc::clone(&count);
        spawn_local(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                counted.set(counted.get() + 1);
                if counted.get() == 1 {
                    respond.send_reset(Reason::REFUSED_STREAM);
                } else {
                    respond.send_response(Response::new(()), true).unwrap();
                }
            }
        });
        let mesh = Mesh::http(&[]).await;
        mesh.endpoints(SHOP, &[address], AppProtocol::Http2);
        let answer = mesh.get("/").await;
        assert_eq!((bed::status(&answer), count.get()), (200, 2), "{answer}");
    });
}

#[test]
fn a_drained_engine_says_goodbye() {
    run(async {
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::http(&[backend.address]).await;
        let mut client = client(&mesh).await;
        let (answer, _) = client.send_request(get("/"), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
        mesh.engine.drain();
        until(|| mesh.engine.connections() == 0).await;
        tokio::time::timeout(Duration::from_secs(10), async {
            while client.clone().ready().await.is_ok() && client.send_request(get("/"), true).is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    });
}

#[test]
fn a_websocket_of_http2_is_one_of_http1_to_the_endpoint() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = bed::read_message(&mut stream, &mut Vec::new()).await.unwrap();
            assert!(head.starts_with("GET /ws HTTP/1.1\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
            assert!(head.contains("sec-websocket-key: "), "{head}");
            stream
                .write_all(
                    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nfirst",
                )
                .await
                .unwrap();
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
        });
        let mesh = Mesh::http(&[address]).await;
        let mut client = client(&mesh).await;
        until(|| client.is_extended_connect_protocol_enabled()).await;
        let request = Request::builder()
            .method("CONNECT")
            .uri("http://shop/ws")
            .extension(h2::ext::Protocol::from_static("websocket"))
            .body(())
            .unwrap();
        let (answer, mut upload) = client.send_request(request, false).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        upload.send_data(Bytes::from_static(b" and echoed"), true).unwrap();
        let (_, bytes, _) = whole(answer).await.unwrap();
        assert_eq!(bytes, b"first and echoed");
        let seen = mesh.seen(1).await;
        assert_eq!((seen[0].status, &*seen[0].flags, seen[0].received, seen[0].sent), (200, "-", 11, 16));
    });
}

#[test]
fn a_tunnel_that_is_not_granted_is_none() {
    run(async {
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::http(&[backend.address]).await;
        let mut client = client(&mesh).await;
        until(|| client.is_extended_connect_protocol_enabled()).await;
        let request = Request::builder()
            .method("CONNECT")
            .uri("http://shop/ws")
            .extension(h2::ext::Protocol::from_static("websocket"))
            .body(())
            .unwrap();
        let (answer, _upload) = client.send_request(request, false).unwrap();
        assert_eq!(answer.await.unwrap().status(), 502);
        // Nor is one that says not what it is to be.
        let plain = Request::builder().method("CONNECT").uri("shop:80").body(()).unwrap();
        let (answer, _upload) = client.send_request(plain, false).unwrap();
        assert_eq!(answer.await.unwrap().status(), 400);
        assert_eq!(backend.count(), 1);
    });
}
