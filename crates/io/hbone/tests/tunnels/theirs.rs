//! The `h2` crate, over tokio-rustls, as the other side: what a stock peer does.

use std::{net::Ipv4Addr, sync::Arc};

use bytes::Bytes;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::spawn_local,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};
use weir_hbone::{Role, Unmetered};

use crate::mesh::{Ask, LOOPBACKS, Pki, dial, echo, listen, pair, server, settings, worker};

async fn tls(to: std::net::SocketAddr, pki: &Pki) -> TlsStream<tokio::net::TcpStream> {
    let name = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
    let stream = tokio::net::TcpStream::connect(to).await.unwrap();
    TlsConnector::from(pki.client.clone()).connect(name, stream).await.unwrap()
}

async fn h2_client(to: std::net::SocketAddr, pki: &Pki) -> h2::client::SendRequest<Bytes> {
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .max_frame_size(1 << 20)
        .handshake::<_, Bytes>(tls(to, pki).await)
        .await
        .unwrap();
    spawn_local(connection);
    client.ready().await.unwrap()
}

fn connect_request(target: std::net::SocketAddr) -> http::Request<()> {
    http::Request::builder()
        .method("CONNECT")
        .uri(target.to_string())
        .header("baggage", "k8s.namespace.name=default,service.name=peer")
        .header("forwarded", "for=\"10.0.0.1:1234\";host=echo.default.svc.cluster.local")
        .body(())
        .unwrap()
}

#[test]
fn a_client_of_another_make_gets_its_bytes_back() {
    for ip in LOOPBACKS {
        worker(async move {
            let pki = Pki::new();
            let (at, _) = server(ip, &pki, settings(Role::Server));
            let mut client = h2_client(at, &pki).await;
            for _ in 0..3 {
                let (response, mut send) = client.send_request(connect_request(echo(ip)), false).unwrap();
                let response = response.await.unwrap();
                assert_eq!(response.status(), 200);
                assert_eq!(response.headers()["baggage"], "service.name=echo");
                let mut body = response.into_body();
                let sent: Vec<u8> = (0..5_000_000u32).map(|i| i.to_le_bytes()[1]).collect();
                let copy = Bytes::from(sent.clone());
                let sender = spawn_local(async move {
                    let mut rest = copy;
                    while !rest.is_empty() {
                        send.reserve_capacity(rest.len());
                        let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await.unwrap().unwrap();
                        send.send_data(rest.split_to(room), false).unwrap();
                    }
                    send.send_data(Bytes::new(), true).unwrap();
                });
                let mut got = Vec::new();
                while let Some(piece) = body.data().await {
                    let piece = piece.unwrap();
                    body.flow_control().release_capacity(piece.len()).unwrap();
                    got.extend_from_slice(&piece);
                }
                sender.await.unwrap();
                assert!(got == sent, "bytes changed");
            }
        });
    }
}

#[test]
fn a_client_of_another_make_is_refused_with_the_status_of_the_reason() {
    worker(async {
        let pki = Pki::new();
        let (at, _) = server(LOOPBACKS[0], &pki, settings(Role::Server));
        let mut client = h2_client(at, &pki).await;
        let get = http::Request::get("https://10.0.0.1/").body(()).unwrap();
        for (request, want) in [
            (get, 400),
            (connect_request("127.0.0.1:1".parse().unwrap()), 401),
            (connect_request("127.0.0.1:2".parse().unwrap()), 503),
        ] {
            let (response, _) = client.send_request(request, true).unwrap();
            assert_eq!(response.await.unwrap().status(), want);
        }
    });
}

#[test]
fn a_server_of_another_make_serves_us() {
    for ip in LOOPBACKS {
        worker(async move {
            let pki = Pki::new();
            let (listener, at) = listen(ip);
            let acceptor = TlsAcceptor::from(Arc::new({
                let mut config = (*pki.server).clone();
                config.send_tls13_tickets = 2;
                config
            }));
            spawn_local(async move {
                let (stream, _) = listener.accept().await.unwrap();
                let mut connection = h2::server::handshake(acceptor.accept(stream).await.unwrap()).await.unwrap();
                while let Some(request) = connection.accept().await {
                    let (request, mut respond) = request.unwrap();
                    assert_eq!(request.method(), "CONNECT");
                    assert!(request.headers().contains_key("traceparent"));
                    assert_eq!(request.headers()["baggage"], "service.name=test");
                    let response = http::Response::builder().status(200).body(()).unwrap();
                    let mut send = respond.send_response(response, false).unwrap();
                    spawn_local(async move {
                        let mut body = request.into_body();
                        while let Some(piece) = body.data().await {
                            let mut piece = piece.unwrap();
                            body.flow_control().release_capacity(piece.len()).unwrap();
                            while !piece.is_empty() {
                                send.reserve_capacity(piece.len());
                                let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await.unwrap().unwrap();
                                send.send_data(piece.split_to(room), false).unwrap();
                            }
                        }
                        send.send_data(Bytes::new(), true).unwrap();
                    });
                }
            });
            let (client, run) =
                weir_hbone::connect(dial(at).await, pki.client.clone(), settings(Role::Client)).await.unwrap();
            spawn_local(run);
            let (tunnel, _) = client.open(&Ask::of("10.9.9.9:80".parse().unwrap()).head()).await.unwrap();
            let (mut app, agent) = pair(ip).await;
            let relay = spawn_local(async move { tunnel.relay(agent, &Unmetered).await });
            let sent: Vec<u8> = (0..4_000_000u32).map(|i| i.to_le_bytes()[1]).collect();
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
            assert!(got == sent, "bytes changed");
            assert!(matches!(relay.await.unwrap(), weir_hbone::Relayed::Complete));
        });
    }
}
