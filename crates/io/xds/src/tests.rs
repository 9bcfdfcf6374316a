//! Server and client over loopback.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tonic::{
    body::Body,
    transport::{Channel, Endpoint},
};
use tower::ServiceExt;
use weir_world::Delta;

use crate::{
    Client, Discovery, Event, Kind, Limits, Mode, Node, Refused, Store, Subscriber,
    testing::{delta, policy, service, workload},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server, and where it is.
struct Served {
    address: SocketAddr,
    store: Arc<Store>,
    discovery: Discovery,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(ip: IpAddr, store: Arc<Store>, limits: Limits) -> Served {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    serve_on(listener, store, limits)
}

fn serve_on(listener: TcpListener, store: Arc<Store>, limits: Limits) -> Served {
    let admit = |_: &http::Extensions, node: &Node| {
        let name = node.metadata.get("NODE_NAME").ok_or_else(|| Refused::Denied("no NODE_NAME".to_owned()))?;
        let node = Some(name.parse().map_err(|error| Refused::Denied(format!("{error}")))?);
        Ok(Subscriber { label: "test".to_owned(), node })
    };
    let discovery = Discovery::new(store.clone(), limits, admit, |_| {});
    let address = listener.local_addr().unwrap();
    let service = discovery.clone();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let service = service.clone().map_request(|call: http::Request<_>| call.map(Body::new));
            connections.spawn(async move {
                let builder = Builder::new(TokioExecutor::new()).http2_only();
                drop(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).await);
            });
        }
    });
    Served { address, store, discovery, task }
}

fn node(name: &str) -> Node {
    let metadata = [("NODE_NAME".to_owned(), name.to_owned())].into();
    Node { id: format!("ztunnel~10.0.0.1~agent-{name}.weir-system~x"), cluster: "agent".to_owned(), metadata }
}

fn client(
    address: SocketAddr,
    mode: Mode,
) -> Client<impl Fn() -> futures_util::future::BoxFuture<'static, Result<Channel, tonic::transport::Error>>> {
    let connect = move || -> futures_util::future::BoxFuture<'static, _> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Box::pin(async move { endpoint.connect().await })
    };
    Client::new(connect, mode, node("node-1"))
}

macro_rules! next {
    ($client:expr) => {
        timeout(PATIENCE, $client.next()).await.expect("an event in time")
    };
}

/// All that comes until everything is there.
macro_rules! synced {
    ($client:expr) => {{
        let mut all = Delta::default();
        loop {
            match next!($client) {
                Event::Delta(delta) => {
                    all.workloads.extend(delta.workloads);
                    all.services.extend(delta.services);
                    all.policies.extend(delta.policies);
                }
                Event::Synced => break all,
                Event::Lost(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }};
}

fn sorted(mut delta: Delta) -> Delta {
    delta.workloads.sort_by(|one, two| one.0.cmp(&two.0));
    delta.services.sort_by(|one, two| one.0.cmp(&two.0));
    delta.policies.sort_by(|one, two| one.0.cmp(&two.0));
    delta
}

fn shop() -> Delta {
    let workloads = vec![workload("a", &["10.0.0.1", "fd00::1"], &["shop"]), workload("b", &["10.0.0.2"], &[])];
    delta(workloads, vec![service("shop", &["10.96.0.1", "fd00:96::1"])], vec![policy("p")])
}

#[tokio::test]
async fn a_wildcard_client_gets_the_mesh_and_what_changes_of_it_over_either_family() {
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let served = serve(ip, Arc::new(Store::new()), Limits::default()).await;
        served.store.apply(&shop());
        let mut client = client(served.address, Mode::Wildcard);
        assert_eq!(sorted(synced!(client)), sorted(shop()));
        let gone = Delta { workloads: vec![(workload("a", &[], &[]).uid, None)], ..Delta::default() };
        served.store.apply(&gone);
        assert_eq!(next!(client), Event::Delta(gone));
        assert_eq!(served.discovery.stats().nacks(Kind::Address), 0);
    }
}
