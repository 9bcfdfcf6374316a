//! What clients say of where they want to go and how long they wait: sessions, timeouts of gRPC, names in TLS.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::spawn_local,
};
use weir_model::AppProtocol;
use weir_route::{
    Act as Does, AskerMatch, Audience, Backend, Backends, Carrier, Destination, Forwarding, ObjectKind, RouteObject,
    RouteTable, Rule, Session, Target, TcpKind, TcpMatch, TcpObject, TcpRule, TcpTable, Timeouts,
};
use weir_serving::Host;

use crate::bed::{Act, FAMILIES, Mesh, OK, SHOP, backend, run, settings, status};

const OTHER: &str = "other.default.svc.cluster.local";

fn to(hosts: &[&str]) -> Backends {
    let destination = |host: &str| Destination { host: host.parse().unwrap(), port: None, subset: None };
    let backend = |host: &&str| (None, Backend::new(Target::Valid(destination(host))));
    Backends::of_gateway_route(hosts.iter().map(backend).collect())
}

fn host(http: RouteTable, tcp: TcpTable) -> Host {
    Host {
        name: format!("default/{SHOP}").parse().unwrap(),
        http: Arc::new(http),
        tcp: Arc::new(tcp),
        destinations: Arc::default(),
        external: Default::default(),
        guard: Arc::default(),
        refused: None,
    }
}

fn forwarding(forwarding: Forwarding) -> Host {
    let object = RouteObject {
        kind: ObjectKind::HttpRoute,
        namespace: "default".parse().unwrap(),
        name: "route".into(),
        file: None,
        created: None,
        audience: Audience::Everyone,
        rules: vec![Rule::new(0, Does::Forward(Box::new(forwarding)))],
    };
    host(RouteTable::new(vec![object]).unwrap(), TcpTable::default())
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next()?;
    head.lines().filter_map(|line| line.split_once(": ")).find(|(found, _)| *found == name).map(|(_, value)| value)
}

#[test]
fn a_client_goes_on_with_the_backend_and_endpoint_it_went_to_first() {
    run(async {
        let mut backends = Vec::new();
        for _ in 0..4 {
            backends.push(backend(|_, _| Act::Answer(OK)).await);
        }
        for (carrier, told, sent) in [(Carrier::SessionCookie, "set-cookie", "cookie"), (Carrier::Header, "s", "s")] {
            let mesh = Mesh::http(&[backends[0].address, backends[1].address]).await;
            mesh.endpoints(OTHER, &[backends[2].address, backends[3].address], AppProtocol::Http11);
            let session = Some(Session::new("s", carrier, None).unwrap());
            mesh.serve(forwarding(Forwarding { session, ..Forwarding::to(to(&[SHOP, OTHER])) }));
            let counts = || backends.iter().map(|one| one.count()).collect::<Vec<_>>();
            let ask = |held: Option<&str>| {
                let held = held.map(|held| format!("{sent}: {held}\r\n")).unwrap_or_default();
                let text = format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{held}\r\n");
                let mesh = &mesh;
                async move { mesh.raw(text.as_bytes()).await }
            };
            let mut homes = BTreeSet::new();
            for _ in 0..20 {
                let before = counts();
                let answer = ask(None).await;
                let held = header(&answer, told).unwrap().split(';').next().unwrap().to_owned();
                let home = counts().iter().zip(&before).position(|(now, before)| now > before).unwrap();
                homes.insert(home);
                for _ in 0..5 {
                    let before = backends[home].count();
                    let answer = ask(Some(&held)).await;
                    assert_eq!((status(&answer), header(&answer, told)), (200, None), "it knows already");
                    assert_eq!(backends[home].count(), before + 1, "{held}");
                }
            }
            assert!(homes.len() > 1, "new clients go anywhere: {homes:?}");
            // Who holds on to what is gone begins anew.
            let answer = ask(Some(if carrier == Carrier::Header { "1-2-3" } else { "s=1-2-3" })).await;
            assert!(status(&answer) == 200 && header(&answer, told).is_some(), "{answer}");
        }
    });
}

#[test]
fn a_call_lasts_as_long_as_its_client_waits_and_its_rule_lets_it() {
    let time = |millis| Some(Duration::from_millis(millis));
    run(async {
        for (said, rule, want) in [
            ("content-type: application/grpc\r\ngrpc-timeout: 50m\r\n", None, "50m"),
            ("content-type: application/grpc\r\ngrpc-timeout: 1H\r\n", time(60), "60m"),
            ("content-type: application/grpc\r\n", time(70), "70m"),
        ] {
            let backend = backend(|_, _| Act::Hang).await;
            let mesh = Mesh::http(&[backend.address]).await;
            let timeouts = Timeouts::new(rule, None);
            mesh.serve(forwarding(Forwarding { timeouts, ..Forwarding::to(to(&[SHOP])) }));
            let request =
                format!("POST /s/m HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n{said}\r\n");
            let answer = mesh.raw(request.as_bytes()).await;
            // 504 is UNAVAILABLE to a client of gRPC.
            assert_eq!((status(&answer), header(&answer, "grpc-status")), (200, Some("14")), "{said}: {answer}");
            assert_eq!(mesh.seen(1).await[0].flags, "UT", "{said}");
            let told = backend.last();
            assert_eq!(header(&told, "grpc-timeout"), Some(want), "{said}: {told}");
        }
        // It is a header like any other where there is no gRPC.
        let backend = backend(|_, _| Act::Answer(OK)).await;
        let mesh = Mesh::http(&[backend.address]).await;
        mesh.serve(forwarding(Forwarding::to(to(&[SHOP]))));
        mesh.raw(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ngrpc-timeout: 1n\r\n\r\n").await;
        assert_eq!(header(&backend.last(), "grpc-timeout"), Some("1n"));
    });
}

/// A ClientHello that asks for that host. RFC 8446 §4.1.2, RFC 6066 §3.
fn hello(name: &str) -> Vec<u8> {
    let of_two = |content: &[u8]| [&u16::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat();
    let names = of_two(&[&[0][..], &of_two(name.as_bytes())].concat());
    let extensions = [&[0, 0][..], &of_two(&names)].concat();
    let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0], &of_two(&extensions)].concat();
    let message = [&[1, 0][..], &of_two(&body)].concat();
    [&[22, 3, 1][..], &of_two(&message)].concat()
}

#[test]
fn the_name_in_tls_chooses_where_a_connection_goes_and_nothing_of_it_is_lost() {
    /// Says who it is and gives back what it gets.
    async fn server(name: &'static str) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                spawn_local(async move {
                    stream.write_all(name.as_bytes()).await.unwrap_or_default();
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await.unwrap_or_default();
                    write.shutdown().await.unwrap_or_default();
                });
            }
        });
        address
    }
    let rule = |index, names: &[&str], host| TcpRule {
        index,
        line: None,
        matches: vec![TcpMatch {
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            asker: AskerMatch::default(),
            ..TcpMatch::default()
        }],
        backends: to(&[host]),
    };
    run(async {
        let (shop, other) = (server("shop").await, server("other").await);
        let rules = vec![rule(0, &["shop.example"], SHOP), rule(1, &["*.other.example"], OTHER)];
        let object = TcpObject {
            kind: TcpKind::VirtualServiceTls,
            namespace: "default".parse().unwrap(),
            name: "v".into(),
            file: None,
            created: None,
            audience: Audience::Everyone,
            rules,
        };
        for family in FAMILIES {
            let mesh = Mesh::new(family, AppProtocol::Tls, settings()).await;
            mesh.endpoints(SHOP, &[shop], AppProtocol::Tls);
            mesh.endpoints(OTHER, &[other], AppProtocol::Tls);
            mesh.serve(host(RouteTable::default(), TcpTable::new(vec![object.clone()]).unwrap()));
            for (bytes, want) in [
                (hello("Shop.Example"), Some("shop")),
                (hello("a.other.example"), Some("other")),
                (hello("x.example"), None),
                (b"GET / HTTP/1.1\r\n\r\n".to_vec(), None),
                (b"\x16\x03".to_vec(), None),
            ] {
                let mut client = mesh.client().await;
                for piece in bytes.chunks(7) {
                    // It may be closed before it has said all.
                    client.write_all(piece).await.unwrap_or_default();
                    tokio::task::yield_now().await;
                }
                client.shutdown().await.unwrap_or_default();
                let mut got = Vec::new();
                client.read_to_end(&mut got).await.unwrap_or_default();
                let want = want.map(|name| [name.as_bytes(), &bytes].concat()).unwrap_or_default();
                assert_eq!(got, want, "{bytes:?}");
            }
            let seen = mesh.seen(5).await;
            let flags: Vec<&str> = seen.iter().map(|one| &*one.flags).collect();
            assert_eq!(flags, ["-", "-", "NR", "NR", "NR"]);
        }
    });
}
