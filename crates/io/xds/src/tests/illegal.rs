//! Requests that are illegal, too much, or none: whose stream ends, and what it is told.

use bytes::Bytes;
use http_body_util::Full;
use tonic::codec::Codec;
use tower::Service;

use super::*;

#[tokio::test]
async fn whoever_asks_for_too_much_or_for_something_wrong_loses_its_stream_and_is_told_why() {
    let served = serve(Ipv4Addr::LOCALHOST.into(), Arc::new(Store::new()), Limits::default()).await;
    let channel = channel(served.address).await;
    let names = |count: usize, len: usize| vec!["n".repeat(len); count];
    let cases = [
        (Code::InvalidArgument, "names no node", plain()),
        (
            Code::PermissionDenied,
            "NODE_NAME",
            DeltaDiscoveryRequest { node: Some(Node::default().to_wire()), ..plain() },
        ),
        (Code::InvalidArgument, "is not served", DeltaDiscoveryRequest { type_url: "x".to_owned(), ..first() }),
        (
            Code::ResourceExhausted,
            "too long",
            DeltaDiscoveryRequest { resource_names_subscribe: names(1, 2 << 20), ..first() },
        ),
        (
            Code::ResourceExhausted,
            "too long",
            DeltaDiscoveryRequest { resource_names_subscribe: names(1_000_000, 10), ..first() },
        ),
        (
            Code::ResourceExhausted,
            "10001 names",
            DeltaDiscoveryRequest { resource_names_subscribe: names(10_001, 9), ..first() },
        ),
        (
            Code::InvalidArgument,
            "2000 bytes",
            DeltaDiscoveryRequest { resource_names_subscribe: names(1, 2000), ..first() },
        ),
    ];
    let count = cases.len();
    for (code, why, request) in cases {
        let status = match Raw::open(channel.clone(), request).await {
            Ok(mut raw) => raw.end().await,
            Err(status) => status,
        };
        assert!(status.code() == code && status.message().contains(why), "{why}: {status}");
    }
    assert_eq!(served.discovery.stats().refused(), u64::try_from(count).unwrap());
    until("all streams are gone", || served.discovery.stats().connected() == 0).await;
    assert_eq!(served.discovery.reports(), []);
}

#[tokio::test]
async fn names_come_in_requests_of_the_allowed_size_up_to_the_allowed_number() {
    let served = serve(Ipv4Addr::LOCALHOST.into(), Arc::new(Store::new()), Limits::default()).await;
    let mut raw = Raw::open(channel(served.address).await, first()).await.unwrap();
    let requests = raw.requests.take().unwrap();
    tokio::spawn(async move {
        for from in 0..100_u32 {
            let names = (0..10_000).map(|name| format!("{from}-{name}")).collect();
            // It is refused on the way: nobody takes the rest.
            if requests.send(DeltaDiscoveryRequest { resource_names_subscribe: names, ..plain() }).await.is_err() {
                return;
            }
        }
    });
    let status = raw.end().await;
    assert!(status.code() == Code::ResourceExhausted && status.message().contains("100000 names"), "{status}");
}

#[tokio::test]
async fn garbage_ends_its_stream_and_no_other() {
    let served = serve(Ipv4Addr::LOCALHOST.into(), Arc::new(Store::new()), Limits::default()).await;
    let channel = channel(served.address).await;
    let mut good = Raw::open(channel.clone(), first()).await.unwrap();
    good.receive().await.unwrap();
    let frames: [&'static [u8]; 4] =
        [b"garbage", &[0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff], &[1, 0, 0, 0, 1, 0], &[0, 0xff, 0xff, 0xff, 0xff, 0]];
    for frame in frames {
        let mut service = channel.clone();
        let body = Body::new(Full::new(Bytes::from_static(frame)));
        let call = http::Request::post(format!("http://{}{DELTA}", served.address));
        let call = call.header("content-type", "application/grpc").header("te", "trailers").body(body).unwrap();
        let answer = Service::call(service.ready().await.unwrap(), call).await.unwrap();
        let mut stream = Streaming::new_response(
            ProstCodec::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>::default().decoder(),
            answer.into_body(),
            http::StatusCode::OK,
            None,
            None,
        );
        let ended = timeout(PATIENCE, stream.message()).await.expect("an end in time");
        assert!(ended.is_err(), "{frame:?}: {ended:?}");
    }
    served.store.apply(&shop());
    good.send(DeltaDiscoveryRequest { response_nonce: "1".to_owned(), ..plain() }).await;
    assert_eq!(good.receive().await.unwrap().unwrap().resources.len(), 3);
}

#[tokio::test]
async fn only_the_delta_call_is_served() {
    let served = serve(Ipv4Addr::LOCALHOST.into(), Arc::new(Store::new()), Limits::default()).await;
    for (path, why) in [
        (
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
            "DeltaAggregatedResources",
        ),
        ("/envoy.service.discovery.v3.AggregatedDiscoveryService/Other", "Other"),
    ] {
        let mut grpc = Grpc::new(channel(served.address).await);
        grpc.ready().await.unwrap();
        let codec = ProstCodec::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>::default();
        let path = PathAndQuery::from_static(path);
        let status = grpc.streaming(Request::new(tokio_stream::iter([first()])), path, codec).await.unwrap_err();
        assert!(status.code() == Code::Unimplemented && status.message().contains(why), "{status}");
    }
}
