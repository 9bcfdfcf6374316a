//! Server and client over loopback.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::uri::PathAndQuery;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use prost::Message;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    body::Body,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tower::ServiceExt;
use weir_world::{Delta, World};

use crate::{
    Client, Discovery, Event, Kind, Limits, Mode, Node, Refused, Store, Subscriber,
    proto::{self, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource},
    server::DELTA,
    store::{Change, encode},
    table::Facts,
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

type Connect = Box<dyn Fn() -> BoxFuture<'static, Result<Channel, tonic::transport::Error>>>;

/// A client, and the world it tells.
struct Agent {
    client: Client<Connect>,
    world: World,
}

impl Agent {
    async fn next(&mut self) -> Event {
        let event = self.client.next(&self.world).await;
        if let Event::Delta(delta) = &event {
            self.world = self.world.apply(delta.clone());
        }
        event
    }
}

fn client(address: SocketAddr, mode: Mode) -> Agent {
    let connect: Connect = Box::new(move || {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Box::pin(async move { endpoint.connect().await })
    });
    Agent { client: Client::new(connect, mode, node("node-1")), world: World::default() }
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
                Event::Lost(_) | Event::Absent(_) => {}
                other @ (Event::Rejected { .. } | Event::Objects(_) | Event::Answered(_)) => panic!("{other:?}"),
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

#[tokio::test]
async fn a_client_that_comes_back_is_sent_only_what_changed_meanwhile() {
    let store = Arc::new(Store::new());
    store.apply(&shop());
    let served = serve(Ipv4Addr::LOCALHOST.into(), store.clone(), Limits::default()).await;
    let address = served.address;
    let mut client = client(address, Mode::Wildcard);
    synced!(client);
    drop(served);
    assert!(matches!(next!(client), Event::Lost(_)));
    // Another replica, which compiled the same mesh by itself.
    let store = Arc::new(Store::new());
    store.apply(&shop());
    let served = serve_again(address, store).await;
    assert_eq!(synced!(client), Delta::default());
    for kind in Kind::ALL {
        assert_eq!(served.discovery.stats().resources(kind), 0, "{kind}");
    }
    drop(served);
    assert!(matches!(next!(client), Event::Lost(_)));
    let store = Arc::new(Store::new());
    let mut changed = shop();
    changed.workloads.retain(|(uid, _)| !uid.as_str().ends_with("/b"));
    let b = workload("b", &[], &[]).uid;
    changed.services[0].1 = Some(service("shop", &["10.96.0.2"]));
    store.apply(&changed);
    let served = serve_again(address, store).await;
    let news = synced!(client);
    assert_eq!((news.workloads, news.services), (vec![(b, None)], changed.services));
    assert_eq!(served.discovery.stats().resources(Kind::Address), 1);
}

/// A server on the address another has left.
async fn serve_again(address: SocketAddr, store: Arc<Store>) -> Served {
    serve_on(TcpListener::bind(address).await.unwrap(), store, Limits::default())
}

#[tokio::test]
async fn a_client_on_demand_gets_what_it_demands_and_again_on_the_next_connection() {
    let store = Arc::new(Store::new());
    store.apply(&shop());
    let served = serve(Ipv6Addr::LOCALHOST.into(), store.clone(), Limits::default()).await;
    let address = served.address;
    let mut client = client(address, Mode::OnDemand);
    let demand = client.client.demand();
    let first = synced!(client);
    assert_eq!((first.workloads, first.services.len(), first.policies.len()), (Vec::new(), 0, 1));
    demand.subscribe("/fd00:96::1").unwrap();
    let Event::Delta(got) = next!(client) else { panic!("nothing came") };
    assert_eq!((got.workloads.len(), got.services.len()), (1, 1));
    demand.subscribe("/10.99.0.1").unwrap();
    assert_eq!(next!(client), Event::Absent("/10.99.0.1".to_owned()));
    demand.unsubscribe("/fd00:96::1").unwrap();
    let Event::Delta(got) = next!(client) else { panic!("nothing came") };
    assert!(got.workloads.iter().all(|(_, now)| now.is_none()) && got.services.iter().all(|(_, now)| now.is_none()));
    demand.subscribe("/10.0.0.2").unwrap();
    assert!(matches!(next!(client), Event::Delta(_)));
    drop(served);
    assert!(matches!(next!(client), Event::Lost(_)));
    demand.subscribe("/10.0.0.1").unwrap();
    let served = serve_again(address, store).await;
    let mut news = synced!(client);
    if news.workloads.is_empty() {
        // The demand was taken when the link stood already.
        let Event::Delta(delta) = next!(client) else { panic!("nothing came") };
        news = delta;
    }
    assert_eq!(news.workloads.len(), 1, "the one it had is not sent again: {news:?}");
    assert!(news.workloads[0].0.as_str().ends_with("/a"));
    drop(served);
    assert!(demand.subscribe("").is_err());
    drop(client);
    assert_eq!(demand.subscribe("x"), Err(crate::DemandError::Closed));
}

#[tokio::test]
async fn a_resource_that_cannot_be_read_is_refused_by_name_and_the_rest_taken() {
    let served = serve(Ipv4Addr::LOCALHOST.into(), Arc::new(Store::new()), Limits::default()).await;
    let mut bad = crate::convert::workload_to(&workload("bad", &["10.0.0.9"], &[]));
    bad.addresses[0] = vec![1, 2, 3];
    let uid = bad.uid.clone();
    let message = proto::Address { r#type: Some(proto::AddressType::Workload(Box::new(bad))) };
    let resource = encode(&uid, Kind::Address, message.encode_to_vec(), Facts::default());
    served.store.put(Kind::Address, vec![Change::Is(resource)]);
    served.store.apply(&shop());
    let mut client = client(served.address, Mode::Wildcard);
    let (mut got, mut rejected) = (Delta::default(), Vec::new());
    loop {
        match next!(client) {
            Event::Delta(delta) if delta.policies.is_empty() => got = delta,
            Event::Delta(_) => {}
            Event::Rejected { name, why } => rejected.push((name, why)),
            Event::Synced => break,
            other @ (Event::Lost(_) | Event::Absent(_) | Event::Objects(_) | Event::Answered(_)) => panic!("{other:?}"),
        }
    }
    assert_eq!((got.workloads.len(), got.services.len()), (2, 1));
    assert_eq!(rejected.len(), 1);
    assert!(rejected[0].0 == uid && rejected[0].1.contains("addresses"), "{rejected:?}");
    let nacked = || served.discovery.reports()[0].standing[0].nacked.clone();
    until("the refusal is reported", || nacked().is_some()).await;
    assert!(nacked().unwrap().1.contains("an address of 3 bytes"), "{:?}", nacked());
    assert_eq!(served.discovery.stats().nacks(Kind::Address), 1);
    // The stream goes on.
    served.store.apply(&delta(vec![workload("c", &["10.0.0.3"], &[])], vec![], vec![]));
    assert!(matches!(next!(client), Event::Delta(_)));
}

/// Until it is so.
async fn until(what: &str, so: impl Fn() -> bool) {
    let wait = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        while !so() {
            ticks.tick().await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// A stream of whoever knows the wire and nothing of our client.
struct Raw {
    requests: Option<mpsc::Sender<DeltaDiscoveryRequest>>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Raw {
    async fn open(channel: Channel, first: DeltaDiscoveryRequest) -> Result<Self, Status> {
        let (requests, stream) = mpsc::channel(16);
        requests.try_send(first).unwrap();
        let mut grpc = Grpc::new(channel);
        grpc.ready().await.unwrap();
        let codec = ProstCodec::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>::default();
        let call = grpc.streaming(Request::new(ReceiverStream::new(stream)), PathAndQuery::from_static(DELTA), codec);
        let responses = call.await?.into_inner();
        Ok(Self { requests: Some(requests), responses })
    }

    async fn send(&self, request: DeltaDiscoveryRequest) {
        self.requests.as_ref().unwrap().send(request).await.unwrap();
    }

    async fn receive(&mut self) -> Result<Option<DeltaDiscoveryResponse>, Status> {
        timeout(PATIENCE, self.responses.message()).await.expect("a response in time")
    }

    async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.receive().await.map(|response| response.expect("a status")) {
                return status;
            }
        }
    }
}

async fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

fn first() -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { node: Some(node("node-1").to_wire()), ..plain() }
}

fn plain() -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { type_url: Kind::Address.type_url().to_owned(), ..DeltaDiscoveryRequest::default() }
}

fn ack(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { response_nonce: response.nonce.clone(), ..plain() }
}

#[tokio::test]
async fn a_slow_subscriber_is_sent_the_last_of_all_changes() {
    let served = serve(Ipv4Addr::LOCALHOST.into(), Arc::new(Store::new()), Limits::default()).await;
    served.store.apply(&shop());
    let mut raw = Raw::open(channel(served.address).await, first()).await.unwrap();
    let all = raw.receive().await.unwrap().unwrap();
    assert_eq!(all.resources.len(), 3);
    for change in 0..1000_u32 {
        let ip = format!("10.1.{}.{}", change / 250, change % 250);
        served.store.apply(&delta(vec![workload("b", &[&ip], &[])], vec![], vec![]));
    }
    let standing = served.discovery.reports()[0].standing[0].clone();
    assert!(standing.in_flight && standing.pending && standing.wildcard, "{standing:?}");
    raw.send(ack(&all)).await;
    let last = raw.receive().await.unwrap().unwrap();
    assert_eq!(last.resources.len(), 1, "a thousand changes of one pod are one");
    let resource = Resource::decode(last.resources[0].clone()).unwrap();
    assert_eq!(resource.aliases, ["/10.1.3.249"]);
    raw.send(ack(&last)).await;
    until("nothing is left", || {
        let standing = served.discovery.reports()[0].standing[0].clone();
        standing.acked.as_deref() == Some("2") && !standing.in_flight && !standing.pending
    })
    .await;
    assert_eq!(served.discovery.stats().pushes(Kind::Address), 2);
}

#[tokio::test]
async fn policies_come_when_all_parts_of_the_addresses_are_under_way() {
    let limits = Limits { response_bytes: 1, ..Limits::default() };
    let served = serve(Ipv4Addr::LOCALHOST.into(), Arc::new(Store::new()), limits).await;
    served.store.apply(&shop());
    let mut raw = Raw::open(channel(served.address).await, first()).await.unwrap();
    let policies = Kind::Authorization.type_url().to_owned();
    raw.send(DeltaDiscoveryRequest { type_url: policies.clone(), ..plain() }).await;
    let mut types = Vec::new();
    for _ in 0..4 {
        let response = raw.receive().await.unwrap().unwrap();
        raw.send(DeltaDiscoveryRequest { type_url: response.type_url.clone(), ..ack(&response) }).await;
        types.push(response.type_url);
    }
    let addresses = || Kind::Address.type_url().to_owned();
    assert_eq!(types, [addresses(), addresses(), addresses(), policies]);
}

#[tokio::test]
async fn changes_that_keep_coming_are_sent_at_a_pace() {
    let pace = Duration::from_millis(400);
    let served = serve(Ipv4Addr::LOCALHOST.into(), Arc::new(Store::new()), Limits { pace, ..Limits::default() }).await;
    let mut client = client(served.address, Mode::Wildcard);
    synced!(client);
    let start = std::time::Instant::now();
    for (round, name) in ["a", "b", "c"].into_iter().enumerate() {
        let news = delta(vec![workload(name, &[], &[])], Vec::new(), Vec::new());
        served.store.apply(&news);
        assert_eq!(next!(client), Event::Delta(news));
        let least = pace * u32::try_from(round).unwrap();
        assert!(start.elapsed() >= least, "{name} came {:?} after the first", start.elapsed());
    }
}

#[tokio::test]
async fn what_is_asked_for_comes_at_once_whatever_the_pace() {
    let limits = Limits { pace: Duration::from_secs(3600), ..Limits::default() };
    let served = serve(Ipv4Addr::LOCALHOST.into(), Arc::new(Store::new()), limits).await;
    served.store.apply(&shop());
    let mut client = client(served.address, Mode::OnDemand);
    synced!(client);
    let b = workload("b", &["10.0.0.2"], &[]);
    client.client.demand().subscribe(b.uid.as_str()).unwrap();
    assert_eq!(next!(client), Event::Delta(delta(vec![b], Vec::new(), Vec::new())));
    // The first change for long is sent soon, the next one has to wait, and with what is asked for it comes along.
    let moved = |address| delta(vec![workload("b", &[address], &[])], Vec::new(), Vec::new());
    served.store.apply(&moved("10.0.0.3"));
    assert_eq!(next!(client), Event::Delta(moved("10.0.0.3")));
    served.store.apply(&moved("10.0.0.4"));
    let a = workload("a", &["10.0.0.1", "fd00::1"], &["shop"]);
    client.client.demand().subscribe(a.uid.as_str()).unwrap();
    let Event::Delta(both) = next!(client) else { panic!("no delta") };
    let names: Vec<_> = both.workloads.iter().map(|(uid, _)| uid.clone()).collect();
    assert!(names.contains(&a.uid), "{names:?}");
}

#[tokio::test]
async fn a_stream_is_ended_that_does_not_say_who_it_is_or_does_not_answer() {
    let brief = Duration::from_millis(50);
    let limits = Limits { answer: brief, ..Limits::default() };
    let served = serve(Ipv4Addr::LOCALHOST.into(), Arc::new(Store::new()), limits).await;
    let mut silent = Raw::open(channel(served.address).await, first()).await.unwrap();
    let status = silent.end().await;
    assert!(status.code() == Code::DeadlineExceeded && status.message().contains("not answered"), "{status}");
    let limits = Limits { introduction: brief, ..Limits::default() };
    let served = serve(Ipv4Addr::LOCALHOST.into(), Arc::new(Store::new()), limits).await;
    let mut grpc = Grpc::new(channel(served.address).await);
    grpc.ready().await.unwrap();
    let codec = ProstCodec::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>::default();
    let nothing = Request::new(tokio_stream::pending());
    let call = grpc.streaming(nothing, PathAndQuery::from_static(DELTA), codec).await;
    let status = match call {
        Ok(stream) => stream.into_inner().message().await.unwrap_err(),
        Err(status) => status,
    };
    assert!(status.code() == Code::DeadlineExceeded && status.message().contains("no request"), "{status}");
}

#[tokio::test]
async fn a_thousand_idle_subscribers_hear_of_one_change_and_no_stream_more_is_opened_than_allowed() {
    const MANY: usize = 1000;
    let limits = Limits { streams: MANY, ..Limits::default() };
    let served = serve(Ipv4Addr::LOCALHOST.into(), Arc::new(Store::new()), limits).await;
    served.store.apply(&shop());
    let mut streams = Vec::new();
    let mut shared = channel(served.address).await;
    for number in 0..MANY {
        if number % 100 == 99 {
            shared = channel(served.address).await;
        }
        let mut raw = Raw::open(shared.clone(), first()).await.unwrap();
        let all = raw.receive().await.unwrap().unwrap();
        raw.send(ack(&all)).await;
        streams.push(raw);
    }
    until("all have answered", || served.discovery.stats().acks(Kind::Address) == 1000).await;
    let refused = match Raw::open(shared.clone(), first()).await {
        Ok(mut raw) => raw.end().await,
        Err(status) => status,
    };
    assert!(refused.code() == Code::ResourceExhausted && refused.message().contains("1000 streams"), "{refused}");
    served.store.apply(&delta(vec![workload("c", &["10.0.0.3"], &[])], vec![], vec![]));
    for raw in &mut streams {
        assert_eq!(raw.receive().await.unwrap().unwrap().resources.len(), 1);
    }
    assert_eq!(served.discovery.reports().len(), MANY);
    drop(streams);
    until("all streams are gone", || served.discovery.stats().connected() == 0).await;
}

#[tokio::test]
async fn nobody_is_there_and_the_client_goes_on_trying() {
    // Bound and closed again: nobody listens.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let mut client = client(address, Mode::Wildcard);
    for _ in 0..3 {
        assert!(matches!(next!(client), Event::Lost(_)));
    }
    let store = Arc::new(Store::new());
    store.apply(&shop());
    let _served = serve_again(address, store).await;
    assert_eq!(sorted(synced!(client)), sorted(shop()));
}

mod illegal;
mod objects;
