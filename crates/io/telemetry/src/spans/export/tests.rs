//! Spans against a collector that answers as it is told.

use std::{collections::VecDeque, convert::Infallible, net::SocketAddr, sync::Mutex};

use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    HeaderMap, Request, Response,
    body::{Bytes, Frame, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};

use super::*;
use crate::{Exposition, HttpRecord, Proxy, TraceContext, fixtures::Scene};

const SOON: Duration = Duration::from_secs(10);

/// One answer of the collector.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Takes,
    Rejects(i64),
    Status(u16),
    GrpcStatus(u32),
    /// Never.
    Silence,
}

/// A collector on loopback.
struct Collector {
    address: SocketAddr,
    got: mpsc::UnboundedReceiver<(String, HeaderMap, otlp::Request)>,
    _task: JoinHandle<()>,
}

impl Collector {
    async fn start(grpc: bool, answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, got) = mpsc::unbounded_channel();
        let answers = Arc::new(Mutex::new(VecDeque::from(answers.to_vec())));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, answers) = (sender.clone(), answers.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (sender, answers) = (sender.clone(), answers.clone());
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let message = if grpc { &body[5..] } else { &body[..] };
                        let message = otlp::Request::decode(message).unwrap();
                        sender.send((head.uri.path().to_owned(), head.headers, message)).unwrap();
                        let answer = answers.lock().unwrap().pop_front().unwrap_or(Answer::Takes);
                        Ok::<_, Infallible>(response(grpc, answer).await)
                    }
                });
                let io = TokioIo::new(stream);
                tokio::spawn(async move {
                    if grpc {
                        drop(http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await);
                    } else {
                        drop(http1::Builder::new().serve_connection(io, service).await);
                    }
                });
            }
        });
        Self { address, got, _task: task }
    }

    async fn next(&mut self) -> (String, HeaderMap, otlp::Request) {
        timeout(SOON, self.got.recv()).await.expect("a message in time").unwrap()
    }

    fn endpoint(&self, scheme: &str) -> OtlpEndpoint {
        format!("{scheme}://{}", self.address).parse().unwrap()
    }
}

async fn response(grpc: bool, answer: Answer) -> Response<BoxBody<Bytes, Infallible>> {
    let partial = |rejected_spans| {
        let partial = otlp::PartialSuccess { rejected_spans, error_message: "too old".to_owned() };
        otlp::Response { partial_success: Some(partial) }.encode_to_vec()
    };
    let (code, status, body) = match answer {
        Answer::Takes => (200, 0, Vec::new()),
        Answer::Rejects(spans) => (200, 0, partial(spans)),
        Answer::Status(code) => (code, 0, Vec::new()),
        Answer::GrpcStatus(status) => (200, status, Vec::new()),
        Answer::Silence => std::future::pending().await,
    };
    let builder = Response::builder().status(code);
    if !grpc {
        return builder.body(Full::new(Bytes::from(body)).boxed()).unwrap();
    }
    if code != 200 {
        return builder.body(Full::new(Bytes::new()).boxed()).unwrap();
    }
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let framed = [&[0][..], &length, &body].concat();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.into());
    let frames = [Frame::data(Bytes::from(framed)), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
    let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
    builder.header("content-type", "application/grpc").body(BodyExt::boxed(body)).unwrap()
}

const QUICK: Pace =
    Pace { gather: Duration::from_millis(20), deadline: Duration::from_secs(3), pause: Duration::from_millis(5) };

fn span(name: &str) -> Span {
    let scene = Scene::new();
    let settings = weir_model::TracingSettings { sampling: weir_model::SAMPLES_OF, ..Default::default() };
    let context = TraceContext::begin(&HeaderMap::new(), Some(&settings), || 0x1111_2222_3333_4444);
    let record = HttpRecord { service: None, authority: Some(name), ..scene.record() };
    Span::of(&record, &context, &settings, &Proxy::default()).unwrap()
}

/// How many spans were sent, dropped for want of room, and dropped as they were not taken.
fn counted(log: &SpanLog) -> [u64; 3] {
    let metrics = Metrics::of("test", "test");
    log.collect(&metrics);
    let text = metrics.render(Exposition::Plain);
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap();
    [
        value("weir_spans_sent_total "),
        value("weir_spans_dropped_total{reason=\"queue_full\"} "),
        value("weir_spans_dropped_total{reason=\"not_taken\"} "),
    ]
}

async fn until(log: &SpanLog, want: [u64; 3]) {
    let reached = async {
        while counted(log) != want {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, reached).await.unwrap_or_else(|_| panic!("{:?} and not {want:?}", counted(log)));
}

fn names(message: &otlp::Request) -> Vec<String> {
    let spans = message.resource_spans.iter().flat_map(|one| &one.scope_spans).flat_map(|one| &one.spans);
    spans.map(|span| span.name.clone()).collect()
}

fn resource() -> Vec<(String, String)> {
    vec![("service.name".to_owned(), "w.todo".to_owned())]
}

#[tokio::test]
async fn spans_arrive_by_http_and_by_grpc() {
    for (scheme, grpc, path, kind) in [
        ("http", false, "/v1/traces", "application/x-protobuf"),
        ("grpc", true, "/opentelemetry.proto.collector.trace.v1.TraceService/Export", "application/grpc"),
    ] {
        let mut collector = Collector::start(grpc, &[]).await;
        let (log, exporter) = exporter(collector.endpoint(scheme), resource(), QUICK);
        let task = tokio::spawn(exporter.run(std::future::pending()));
        log.report(span("a"));
        log.report(span("b"));
        let (at, headers, message) = collector.next().await;
        assert_eq!((at.as_str(), headers["content-type"].to_str().unwrap()), (path, kind));
        assert_eq!(names(&message), ["a/*", "b/*"]);
        let of = &message.resource_spans[0].resource.as_ref().unwrap().attributes[0];
        let name = otlp::AnyValue { is: Some(otlp::Is::Text("w.todo".to_owned())) };
        assert_eq!((of.key.as_str(), of.value.as_ref()), ("service.name", Some(&name)));
        let sent = &message.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!(sent.trace_id, 0x1111_2222_3333_4444_1111_2222_3333_4444_u128.to_be_bytes());
        assert_eq!(sent.span_id, 0x1111_2222_3333_4444_u64.to_be_bytes());
        assert_eq!(sent.end_time_unix_nano - sent.start_time_unix_nano, 12_900_000);
        assert_eq!((sent.kind, sent.status.as_ref(), sent.parent_span_id.len()), (2, None, 0));
        until(&log, [2, 0, 0]).await;
        drop(log);
        timeout(SOON, task).await.expect("it ends when nobody reports any more").unwrap();
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_may_not_is_not() {
    use Answer::{GrpcStatus, Rejects, Silence, Status, Takes};
    for (grpc, answers, tries, want) in [
        (false, vec![Status(503), Takes], 2, [1, 0, 0]),
        (false, vec![Status(429), Status(504), Takes], 3, [1, 0, 0]),
        (false, vec![Status(503); 3], 3, [0, 0, 1]),
        (false, vec![Status(400)], 1, [0, 0, 1]),
        (false, vec![Rejects(1)], 1, [0, 0, 1]),
        (false, vec![Rejects(-1)], 1, [1, 0, 0]),
        (false, vec![Silence, Takes], 2, [1, 0, 0]),
        (true, vec![GrpcStatus(14), Takes], 2, [1, 0, 0]),
        (true, vec![GrpcStatus(3)], 1, [0, 0, 1]),
        (true, vec![Status(503), Takes], 2, [1, 0, 0]),
        (true, vec![Rejects(1)], 1, [0, 0, 1]),
    ] {
        let mut collector = Collector::start(grpc, &answers).await;
        let scheme = if grpc { "grpc" } else { "http" };
        let (log, exporter) = exporter(collector.endpoint(scheme), resource(), QUICK);
        let task = tokio::spawn(exporter.run(std::future::pending()));
        log.report(span("a"));
        until(&log, want).await;
        for _ in 0..tries {
            collector.next().await;
        }
        assert!(collector.got.try_recv().is_err(), "{answers:?}: tried more often than {tries} times");
        task.abort();
    }
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_spans_and_nothing_else() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (log, exporter) = exporter(format!("grpc://{closed}").parse().unwrap(), resource(), QUICK);
    let full = u64::try_from(QUEUE).unwrap();
    for _ in 0..full + 3 {
        log.report(span("a"));
    }
    assert_eq!(counted(&log), [0, 3, 0], "the queue has a bound");
    let task = tokio::spawn(exporter.run(std::future::pending()));
    until(&log, [0, 3, full]).await;
    task.abort();
}

#[tokio::test]
async fn what_is_in_the_queue_is_sent_before_the_end() {
    let mut collector = Collector::start(false, &[]).await;
    let slow = Pace { gather: SOON * 100, ..QUICK };
    let (log, exporter) = exporter(collector.endpoint("http"), resource(), slow);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(exporter.run(async { drop(stopped.await) }));
    for _ in 0..BATCH + 1 {
        log.report(span("a"));
    }
    let (_, _, whole) = collector.next().await;
    assert_eq!(names(&whole).len(), BATCH, "a batch that is whole does not wait");
    until(&log, [u64::try_from(BATCH).unwrap(), 0, 0]).await;
    drop(stop);
    timeout(SOON, task).await.expect("it ends").unwrap();
    assert_eq!(names(&collector.next().await.2).len(), 1);
    log.report(span("late"));
    assert_eq!(counted(&log), [u64::try_from(BATCH + 1).unwrap(), 1, 0]);
}

#[tokio::test]
async fn a_message_that_is_interrupted_is_sent_once_more_and_within_the_deadline() {
    let mut collector = Collector::start(false, &[Answer::Silence, Answer::Takes]).await;
    let (log, exporter) = exporter(collector.endpoint("http"), resource(), Pace { deadline: SOON, ..QUICK });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(exporter.run(async { drop(stopped.await) }));
    log.report(span("a"));
    collector.next().await;
    drop(stop);
    assert_eq!(names(&collector.next().await.2), ["a/*"]);
    timeout(SOON, task).await.expect("it ends").unwrap();
    assert_eq!(counted(&log), [1, 0, 0]);
}
