//! A client's connection, from its first byte to its last.

use std::{
    cell::RefCell,
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri};
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::timeout,
};
use weir_balance::{Shared, Slot};
use weir_model::AppProtocol;
use weir_serving::{ClusterPolicy, Host};

use crate::{
    around::{Around, Arrival, Snapshot, Target},
    cluster::{Client, Cluster, Upstream},
    engine::Engine,
    exchange::exchange,
    log::Log,
    meter::{Ending, Meter},
    mux::{CONNECTION_WINDOW, OnWorker, SEND_BUFFER, STREAM_WINDOW},
    record::{Flag, Protocol},
    relay,
    sniff::{self, Speech},
    wire::{Watched, Wire},
};

/// A client's connection.
pub(crate) struct Talk<A: Around> {
    pub(crate) engine: Rc<Engine<A>>,
    pub(crate) arrival: Arrival,
    pub(crate) meter: Rc<Meter>,
    /// The host that it asks for by TLS, where somebody wants to know.
    pub(crate) name: Option<Box<str>>,
    /// What is served to it, as of some version.
    seat: RefCell<Option<Seat>>,
    /// Where it wanted to go, if that was no service.
    lone: RefCell<Option<(u64, Rc<Cluster<A>>)>>,
    /// What was agreed to speak instead of HTTP.
    switch: RefCell<Option<Switch<A>>>,
}

#[derive(Clone)]
struct Seat {
    version: u64,
    host: Option<Arc<Host>>,
}

/// A request whose connections speak something else from now on.
pub(crate) struct Switch<A: Around> {
    pub(crate) io: Wire<A::Io>,
    pub(crate) slot: Slot<Shared>,
    pub(crate) log: Box<Log<A>>,
}

impl<A: Around> Talk<A> {
    /// What is said of the service that was asked for.
    pub(crate) fn host(&self, snapshot: &Snapshot) -> Option<Arc<Host>> {
        let Target::Service { host, .. } = &self.arrival.target else { return None };
        if let Some(seat) = &*self.seat.borrow()
            && seat.version == snapshot.version
        {
            return seat.host.clone();
        }
        let host = snapshot.serving.host(host).cloned();
        self.seat.replace(Some(Seat { version: snapshot.version, host: host.clone() }));
        host
    }

    /// Where the client wanted to go, as a service with one endpoint, whose connections begin as the policy has it.
    pub(crate) fn lone(&self, version: u64, policy: &Arc<ClusterPolicy>) -> Rc<Cluster<A>> {
        if let Some((known, cluster)) = &*self.lone.borrow()
            && *known == version
            && cluster.policy.is_dialed_as(policy)
        {
            return Rc::clone(cluster);
        }
        let original = self.engine.around.original(&self.arrival);
        let cluster = Rc::new(Cluster::alone(&self.engine, original, version, Arc::clone(policy)));
        self.lone.replace(Some((version, Rc::clone(&cluster))));
        cluster
    }

    /// Where the client wanted to go.
    pub(crate) fn original(&self, policy: &Arc<ClusterPolicy>) -> Option<Rc<Upstream<A>>> {
        let version = self.engine.around.snapshot().version;
        self.lone(version, policy).first()
    }

    pub(crate) fn switch(&self, switch: Switch<A>) {
        self.switch.replace(Some(switch));
    }
}

/// Serves a connection.
pub(crate) async fn serve<A, Io>(engine: Rc<Engine<A>>, mut io: Io, arrival: Arrival)
where
    A: Around,
    Io: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (meter, _metered) = engine.meter();
    let protocol = match &arrival.target {
        Target::Service { protocol, .. } => *protocol,
        Target::Pod { .. } => AppProtocol::Unknown,
    };
    let mut name = None;
    let (speech, first) = match protocol {
        AppProtocol::Tls if asks_for_names(&engine, &arrival) => {
            let (asked, first) = sniff::name(&mut io, &meter, engine.settings.idle).await;
            name = asked;
            (Speech::Other, first)
        }
        AppProtocol::Tcp | AppProtocol::Tls => (Speech::Other, Bytes::new()),
        AppProtocol::Unknown => sniff::sniff(&mut io, engine.settings.sniff).await,
        AppProtocol::Http11 | AppProtocol::Http2 | AppProtocol::Grpc => {
            sniff::version(&mut io, &meter, engine.settings.idle).await
        }
    };
    let talk = Rc::new(Talk {
        engine,
        arrival,
        meter: Rc::clone(&meter),
        name,
        seat: RefCell::default(),
        lone: RefCell::default(),
        switch: RefCell::default(),
    });
    match speech {
        Speech::Http1 => {
            meter.keep_heads(talk.engine.settings.head_bytes);
            http1(talk, Wire::new(io, first, meter)).await;
        }
        Speech::Http2 => http2(talk, Wire::new(io, first, meter)).await,
        Speech::Other => relay::connection(talk, Wire::new(io, first, meter)).await,
        Speech::Nothing => {}
    }
}

/// Whether it has to be known which host a client of TLS asks for. Else nobody waits for its first bytes.
fn asks_for_names<A: Around>(engine: &Engine<A>, arrival: &Arrival) -> bool {
    let Target::Service { host, port, .. } = &arrival.target else { return false };
    engine.around.snapshot().serving.host(host).is_some_and(|host| host.tcp.asks_for_names(*port))
}

/// What was agreed to speak instead of HTTP holds its connection, which would hold it: whatever ends the connection takes it out.
struct Unswitched<'t, A: Around>(&'t Talk<A>);

impl<A: Around> Drop for Unswitched<'_, A> {
    fn drop(&mut self) {
        // Outside of the borrow: its end is recorded.
        let switch = self.0.switch.take();
        drop(switch);
    }
}

async fn http1<A, Io>(talk: Rc<Talk<A>>, wire: Wire<Io>)
where
    A: Around,
    Io: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let head_bytes = talk.engine.settings.head_bytes;
    let service = service_fn(|request| {
        let talk = Rc::clone(&talk);
        async move { Ok::<_, Infallible>(exchange(talk, request, Client::Http1).await) }
    });
    let wire = Watched::new(wire);
    let _unswitched = Unswitched(&talk);
    let mut builder = http1::Builder::new();
    // Heads that take too long are the meter's, which arms no timer for each.
    // And whether a client is still there is looked at here: hyper makes room for a whole head each time it looks.
    builder
        .half_close(true)
        .header_read_timeout(None)
        .max_header_size(head_bytes)
        .max_buf_size(head_bytes.saturating_mul(2).max(8_192));
    let mut connection = builder.serve_connection(TokioIo::new(wire.clone()), service);
    let mut is_draining = false;
    let ended = poll_fn(|cx| {
        match talk.meter.poll_ending(cx) {
            Some(Ending::Silent | Ending::Overdue) => return Poll::Ready(None),
            Some(Ending::Draining) if !is_draining => {
                is_draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            Some(Ending::Draining) | None => {}
        }
        match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending => wire.poll_gone(cx).map(|()| None),
        }
    })
    .await;
    let Some(ended) = ended else { return };
    let parts = connection.into_parts();
    drop(parts.io);
    if let Some(switch) = talk.switch.take() {
        wire.put_back(parts.read_buf);
        return relay::switched(&talk.meter, wire, switch).await;
    }
    if let Err(error) = ended
        && error.is_parse()
    {
        malformed(&talk, if error.is_parse_too_large() { 431 } else { 400 });
        linger(wire).await;
    }
}

async fn http2<A, Io>(talk: Rc<Talk<A>>, wire: Wire<Io>)
where
    A: Around,
    Io: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let settings = &talk.engine.settings;
    let service = service_fn(|request| {
        let talk = Rc::clone(&talk);
        // Each stream is a task, into which its future is moved more than once: better by its address.
        let exchange = Box::pin(exchange(talk, request, Client::Http2));
        async move { Ok::<_, Infallible>(exchange.await) }
    });
    let mut builder = http2::Builder::new(OnWorker);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(settings.streams)
        .max_send_buf_size(SEND_BUFFER)
        .enable_connect_protocol()
        .max_header_list_size(u32::try_from(settings.head_bytes).unwrap_or(u32::MAX));
    let mut connection = builder.serve_connection(TokioIo::new(wire), service);
    let mut is_draining = false;
    poll_fn(|cx| {
        match talk.meter.poll_ending(cx) {
            Some(Ending::Silent | Ending::Overdue) => return Poll::Ready(()),
            Some(Ending::Draining) if !is_draining => {
                is_draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            Some(Ending::Draining) | None => {}
        }
        Pin::new(&mut connection).poll(cx).map(|ended| {
            if let Err(error) = ended {
                tracing::debug!(%error, "connection of a client");
            }
        })
    })
    .await;
}

/// Notes a request that was none.
fn malformed<A: Around>(talk: &Rc<Talk<A>>, status: u16) {
    let span = talk.engine.around.begin(&talk.arrival, &mut HeaderMap::new());
    let nothing = (Protocol::Http11, Method::default(), Uri::default());
    let mut log = Log::new(Rc::clone(talk), span, nothing, HeaderValue::from_static(""));
    log.status = status;
    log.flag(Flag::DownstreamProtocolError);
    log.details = if status == 431 { "request_headers_too_large" } else { "http1.codec_error" }.into();
    log.completes();
}

/// How long, and for how many bytes, a client is listened to whose request was refused in the middle: closing at once would reset the connection before it has
/// read why.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 1 << 20);

async fn linger<Io: AsyncRead + AsyncWrite + Unpin>(mut wire: Watched<Io>) {
    let (time, most) = LINGER;
    let reading = async {
        let mut ignored = [0; 4_096];
        let mut total = 0;
        while let Ok(count @ 1..) = wire.read(&mut ignored).await {
            total += count;
            if total > most {
                return;
            }
        }
    };
    // Whether the client closed in time or not, it is over now.
    timeout(time, reading).await.unwrap_or_default();
}
