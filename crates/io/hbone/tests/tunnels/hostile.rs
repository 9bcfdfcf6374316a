//! Peers with a legal certificate and bad manners, and peers without either.

use std::{net::Ipv4Addr, time::Duration};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use weir_hbone::{Error, Role};
use weir_wire::{
    frame::{self, Code, PREFACE, flag, kind},
    hpack,
};

use crate::mesh::{LOOPBACKS, Pki, SOON, application, echo, server, settings, until, worker};

/// Speaks raw HTTP/2 over TLS: sends `bytes` and gives back all that came until the other side closed.
async fn converse(bytes: &[u8]) -> (Vec<u8>, String) {
    let pki = Pki::new();
    let (at, seen) = server(LOOPBACKS[0], &pki, settings(Role::Server));
    let name = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
    let stream = tokio::net::TcpStream::connect(at).await.unwrap();
    let mut tls = TlsConnector::from(pki.client.clone()).connect(name, stream).await.unwrap();
    // A peer that closes in the middle of our flood is as good as one that says why first.
    let (mut read, mut write) = tokio::io::split(&mut tls);
    let mut got = Vec::new();
    let (_, _) = tokio::join!(
        async {
            drop(write.write_all(PREFACE).await);
            drop(write.write_all(bytes).await);
            drop(write.flush().await);
        },
        tokio::time::timeout(SOON, read.read_to_end(&mut got)),
    );
    until("the end of the connection", || !seen.ended.borrow().is_empty()).await;
    let why = seen.ended.borrow()[0].clone();
    (got, why)
}

fn settings_frame() -> Vec<u8> {
    let mut out = Vec::new();
    frame::write_settings(&mut out, &[]);
    out
}

fn connect(id: u32, target: &str) -> Vec<u8> {
    let mut block = Vec::new();
    hpack::write_named(&mut block, hpack::index::METHOD, b"CONNECT");
    hpack::write_named(&mut block, hpack::index::AUTHORITY, target.as_bytes());
    let mut out = Vec::new();
    frame::write(&mut out, kind::HEADERS, flag::END_HEADERS, id, &block);
    out
}

/// The code of the last GOAWAY among the frames.
fn goaway(mut bytes: &[u8]) -> Option<Code> {
    let mut code = None;
    while let Some(&head) = bytes.first_chunk::<9>() {
        let head = frame::Head::decode(head);
        let end = 9 + usize::try_from(head.length).unwrap();
        let Some(payload) = bytes.get(9..end) else { break };
        if head.kind == kind::GOAWAY {
            code = Some(Code::from(u32::from_be_bytes(payload[4..8].try_into().unwrap())));
        }
        bytes = &bytes[end..];
    }
    code
}

#[test]
fn each_flood_and_each_breach_ends_the_connection_with_its_code() {
    worker(async {
        let app = echo(LOOPBACKS[0]).to_string();
        let mut rapid = settings_frame();
        for n in 0..500u32 {
            rapid.extend(connect(2 * n + 1, &app));
            frame::write_reset(&mut rapid, 2 * n + 1, Code::Cancel);
        }
        let mut pings = settings_frame();
        let mut parameters = Vec::new();
        let mut empty = [settings_frame(), connect(1, &app)].concat();
        for _ in 0..3_000 {
            frame::write(&mut pings, kind::PING, 0, 0, b"12345678");
            frame::write_settings(&mut parameters, &[]);
            frame::write(&mut empty, kind::DATA, 0, 1, &[]);
        }
        let mut endless = settings_frame();
        frame::write(&mut endless, kind::HEADERS, 0, 1, &[]);
        for _ in 0..1_000 {
            frame::write(&mut endless, kind::CONTINUATION, 0, 1, &[]);
        }
        let mut fat = settings_frame();
        let mut block = Vec::new();
        for _ in 0..60 {
            hpack::write_literal(&mut block, b"x", &[b'y'; 1_200]);
        }
        frame::write(&mut fat, kind::HEADERS, flag::END_HEADERS, 1, &block);
        // More than the window and all that the kernel may hold for an application that does not read.
        let deaf = application(LOOPBACKS[0], |stream| {
            std::thread::park_timeout(3 * SOON);
            drop(stream);
        });
        let mut greedy = [settings_frame(), connect(1, &deaf.to_string())].concat();
        for _ in 0..24 {
            frame::write(&mut greedy, kind::DATA, 0, 1, &vec![0; 1 << 20]);
        }
        let mut even = settings_frame();
        even.extend(connect(2, &app));
        let mut unknown = settings_frame();
        frame::write(&mut unknown, kind::DATA, 0, 5, b"x");
        let mut wide = [settings_frame(), connect(1, &app)].concat();
        frame::write_window_update(&mut wide, 1, frame::MAX_WINDOW);
        let mut broken = settings_frame();
        frame::write(&mut broken, kind::HEADERS, flag::END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        for (name, bytes, want) in [
            ("rapid reset", rapid, Code::Calm),
            ("pings", pings, Code::Calm),
            ("settings", parameters, Code::Calm),
            ("empty data", empty, Code::Calm),
            ("continuation flood", endless, Code::Calm),
            ("header list", fat, Code::Calm),
            ("window overrun", greedy, Code::FlowControl),
            ("even stream", even, Code::Protocol),
            ("idle stream", unknown, Code::Protocol),
            ("window overflow", wide, Code::FlowControl),
            ("hpack", broken, Code::Compression),
        ] {
            let (got, why) = converse(&bytes).await;
            assert_eq!(why, "protocol broken by the peer", "{name}");
            // A peer that floods may miss our last words; one that does not must hear them.
            if let Some(code) = goaway(&got) {
                assert_eq!(code, want, "{name}");
            } else {
                assert!(bytes.len() > 16_000, "{name}: no GOAWAY");
            }
        }
    });
}

#[test]
fn streams_beyond_the_limit_are_refused_and_the_others_live() {
    worker(async {
        let app = echo(LOOPBACKS[0]).to_string();
        let mut bytes = settings_frame();
        for n in 0..205u32 {
            bytes.extend(connect(2 * n + 1, &app));
        }
        frame::write_goaway(&mut bytes, 0, Code::NoError, "");
        for n in 0..200u32 {
            frame::write_reset(&mut bytes, 2 * n + 1, Code::NoError);
        }
        let (got, _) = converse(&bytes).await;
        let mut rest = &got[..];
        let mut refused = 0;
        while let Some(&head) = rest.first_chunk::<9>() {
            let head = frame::Head::decode(head);
            let end = 9 + usize::try_from(head.length).unwrap();
            if head.kind == kind::RST_STREAM && rest[9..end] == u32::from(Code::Refused).to_be_bytes() {
                refused += 1;
                assert!(head.stream > 400, "stream {} was within the limit", head.stream);
            }
            rest = &rest[end..];
        }
        assert_eq!(refused, 5);
    });
}

#[test]
fn what_is_not_tls_or_not_whole_is_told_apart_and_never_waits_for_ever() {
    worker(async {
        let pki = Pki::new();
        let mut quick = settings(Role::Server);
        quick.handshake = Duration::from_millis(300);
        for (bytes, close, want) in [
            (&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..], false, Error::NotTls.to_string()),
            (&[0; 100][..], false, Error::NotTls.to_string()),
            (&[22, 3, 1, 0, 100, 1][..], false, "no TLS handshake within 0s".to_owned()),
            (&[22, 3, 1, 0, 4, 1, 0, 0, 0][..], false, "TLS handshake".to_owned()),
            (&[22, 3, 1, 0, 4, 9, 9, 9, 9][..], false, "TLS handshake".to_owned()),
            (&[22, 3, 1, 0, 5, 1, 0, 0, 2, 3][..], true, Error::Closed.to_string()),
            (&[][..], true, Error::Closed.to_string()),
            (&[][..], false, "no TLS handshake within 0s".to_owned()),
        ] {
            for ip in LOOPBACKS {
                let (at, seen) = server(ip, &pki, quick);
                let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
                stream.write_all(bytes).await.unwrap();
                if close {
                    stream.shutdown().await.unwrap();
                }
                until("the verdict", || !seen.ended.borrow().is_empty()).await;
                assert_eq!(seen.ended.borrow()[0], want, "{bytes:x?}");
            }
        }
    });
}

#[test]
fn a_hello_with_any_byte_changed_or_cut_off_gets_a_verdict_and_harms_nothing() {
    worker(async {
        let pki = Pki::new();
        let mut quick = settings(Role::Server);
        quick.handshake = Duration::from_millis(300);
        let (at, seen) = server(LOOPBACKS[0], &pki, quick);
        let name = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
        let mut client = rustls::ClientConnection::new(pki.client.clone(), name).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        let mut sent = 0;
        for position in (0..hello.len()).step_by(5) {
            let mut bytes = hello.clone();
            bytes[position] ^= 0x5a;
            // A second record behind it: what follows an error must not matter either.
            bytes.extend_from_slice(&[22, 3, 3, 0, 4, 9, 9, 9, 9]);
            for bytes in [&bytes[..], &hello[..position]] {
                let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
                // The server may have hung up in the middle.
                drop(stream.write_all(bytes).await);
                drop(stream.shutdown().await);
                sent += 1;
                until("the verdict", || seen.ended.borrow().len() == sent).await;
            }
        }
    });
}
