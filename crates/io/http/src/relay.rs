//! Connections whose bytes nobody reads: TCP, and what HTTP was changed to.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes},
    task::spawn_local,
    time::timeout,
};
use weir_balance::{Ask, Choice, Chosen, Outcome};
use weir_model::{Namespace, canonical_ip};
use weir_route::{Asker, MESH, TcpAction, TcpFacts};
use weir_serving::UpstreamTls;

use crate::{
    around::{Around, Speaks, Target},
    cluster::{Cluster, KeyOf, Upstream},
    engine::Engine,
    log::Log,
    meter::{Ending, Meter},
    record::{Flag, Protocol},
    serve::{Switch, Talk},
    wire::Wire,
};

/// Bytes of the buffer of each direction.
const BUFFER: usize = 16 << 10;
/// How long a connection that HTTP was changed to may be silent. Envoy `idle_timeout` of TCP, 1 h.
const SWITCHED: Duration = Duration::from_secs(3_600);

/// How copying ended.
enum End {
    /// Both sides are done.
    Done,
    /// One broke.
    Broken,
    /// It was silent for too long, or its time is over.
    Silent,
}

/// Copies both ways, each to its own end.
async fn copy<C, E>(meter: &Meter, silence: Duration, client: &mut C, endpoint: &mut E) -> End
where
    C: AsyncRead + AsyncWrite + Unpin,
    E: AsyncRead + AsyncWrite + Unpin,
{
    meter.relays(silence);
    let mut copying = pin!(copy_bidirectional_with_sizes(client, endpoint, BUFFER, BUFFER));
    poll_fn(|cx| {
        match meter.poll_ending(cx) {
            Some(Ending::Silent | Ending::Overdue) => return Poll::Ready(End::Silent),
            // What is relayed cannot be told to finish: it goes on as long as it is let.
            Some(Ending::Draining) | None => {}
        }
        copying.as_mut().poll(cx).map(|copied| if copied.is_ok() { End::Done } else { End::Broken })
    })
    .await
}

/// Relays what HTTP was changed to, a WebSocket for one.
pub(crate) async fn switched<A, C>(meter: &Meter, mut client: C, switch: Switch<A>)
where
    A: Around,
    C: AsyncRead + AsyncWrite + Unpin,
{
    let Switch { mut io, slot, mut log } = switch;
    let before = meter.bytes();
    let end = copy(meter, SWITCHED, &mut client, &mut io).await;
    drop(slot);
    let after = meter.bytes();
    (log.received, log.written) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
    match end {
        End::Done => log.completes(),
        End::Broken => log.breaks(Flag::UpstreamConnectionTermination, "upgraded_connection_broken"),
        End::Silent => log.breaks(Flag::StreamIdleTimeout, "stream_idle_timeout"),
    }
}

/// Relays a stream of HTTP/2 that has become a tunnel. It ends with the client's connection.
pub(crate) fn tunnel<A: Around>(engine: &Rc<Engine<A>>, tunnel: OnUpgrade, switch: Switch<A>) {
    let (meter, metered) = engine.meter();
    spawn_local(async move {
        let _metered = metered;
        // If not, the client went away before it was told.
        if let Ok(Ok(stream)) = timeout(GRANTED, tunnel).await {
            let client = Wire::new(TokioIo::new(stream), Bytes::new(), Rc::clone(&meter));
            switched(&meter, client, switch).await;
        }
    });
}

/// How long it may take to tell a client that it has its tunnel.
const GRANTED: Duration = Duration::from_secs(30);

/// Relays a connection that is not HTTP.
pub(crate) async fn connection<A, Io>(talk: Rc<Talk<A>>, mut client: Wire<Io>)
where
    A: Around,
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let span = talk.engine.around.begin(&talk.arrival, &mut HeaderMap::new());
    let nothing = (Protocol::Tcp, Method::default(), Uri::default());
    let mut log = Log::new(Rc::clone(&talk), span, nothing, HeaderValue::from_static(""));
    if let Err((flag, why)) = through(&talk, &mut client, &mut log).await {
        log.flag(flag);
        log.details = why.into();
    }
    let (received, written) = talk.meter.bytes();
    (log.received, log.written) = (received, written);
    log.completes();
}

/// Why a connection was closed.
type Closed = (Flag, String);

/// Asks whether the connection may go on.
fn admit<A: Around>(talk: &Talk<A>) -> Result<(), Closed> {
    let snapshot = talk.engine.around.snapshot();
    let host = match &talk.arrival.target {
        Target::Service { host, .. } => snapshot.serving.host(host),
        Target::Pod { .. } => None,
    };
    let admitted = talk.engine.around.admit_connection(&talk.arrival, host.map(|host| &**host));
    admitted.map_err(|why| (Flag::Unauthorized, why.into()))
}

async fn through<A, Io>(talk: &Rc<Talk<A>>, client: &mut Wire<Io>, log: &mut Log<A>) -> Result<(), Closed>
where
    A: Around,
    Io: AsyncRead + AsyncWrite + Unpin,
{
    admit(talk)?;
    let cluster = cluster(talk)?;
    log.goes_to(&cluster);
    if let UpstreamTls::Refused(why) = &cluster.policy.tls {
        return Err((Flag::NoCluster, why.to_string()));
    }
    let _slot = cluster.breaker.connection().map_err(|full| (Flag::UpstreamOverflow, full.to_string()))?;
    let (upstream, chosen) = pick(talk, &cluster)?;
    log.is_tried(&upstream, chosen);
    let tcp = &cluster.policy.tcp;
    let dial = cluster.dial(&talk.arrival, Speaks::Anything);
    let connecting = talk.engine.around.connect(&upstream.endpoint, dial);
    let connected = match timeout(tcp.connect_timeout, connecting).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no connection within {:?}", tcp.connect_timeout)),
    };
    let mut endpoint = connected.map_err(|why| {
        log.judge(Outcome::Failed);
        log.failure = Some(why.as_str().into());
        (Flag::UpstreamConnectionFailure, why)
    })?;
    log.judge(Outcome::Connected);
    log.opens();
    let silence = tcp.idle_timeout.unwrap_or(Duration::MAX);
    let longest = tcp.max_duration.unwrap_or(FOREVER);
    match timeout(longest, copy(&talk.meter, silence, client, &mut endpoint)).await {
        Ok(End::Done) => Ok(()),
        Ok(End::Broken) => Err((Flag::UpstreamConnectionTermination, "one side broke the connection".to_owned())),
        Ok(End::Silent) => Err((Flag::StreamIdleTimeout, "nothing moved for too long".to_owned())),
        Err(_) => Err((Flag::DurationTimeout, format!("the connection lasted {longest:?}"))),
    }
}

/// As good as no limit, and a time that can be added to now.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

fn cluster<A: Around>(talk: &Rc<Talk<A>>) -> Result<Rc<Cluster<A>>, Closed> {
    let snapshot = talk.engine.around.snapshot();
    let Target::Service { host: name, port, .. } = &talk.arrival.target else {
        return Ok(talk.lone(snapshot.version, &Arc::default()));
    };
    let host = talk.host(&snapshot);
    if let Some(why) = host.as_ref().and_then(|host| host.refused.as_ref()) {
        return Err((Flag::NoRoute, why.to_string()));
    }
    let asked = KeyOf { host: name, port: *port, subset: None };
    let labels: Option<Vec<(&str, &str)>> =
        talk.arrival.labels.as_ref().map(|labels| labels.iter().map(|(key, value)| (&**key, &**value)).collect());
    let namespace: Option<&Namespace> = talk.arrival.identity.as_ref().map(|identity| identity.namespace());
    let asker = Asker { namespace, labels: labels.as_deref(), gateway: MESH, port: *port };
    let facts = TcpFacts {
        destination: canonical_ip(talk.arrival.destination.ip()),
        client: canonical_ip(talk.arrival.client.ip()),
        name: talk.name.as_deref(),
    };
    let decision = host.as_ref().map(|host| host.tcp.decide(&facts, &asker, &mut *talk.engine.rng()));
    let key = match decision.map(|decision| decision.action) {
        None | Some(TcpAction::Service) => asked,
        Some(TcpAction::Forward(destination, _)) => KeyOf {
            host: &destination.host,
            port: destination.port.unwrap_or(*port),
            subset: destination.subset.as_deref(),
        },
        Some(TcpAction::Refuse(why)) => return Err((Flag::NoRoute, why.to_owned())),
    };
    talk.engine.cluster(&snapshot, key).map_err(|error| (Flag::NoCluster, error.to_string()))
}

fn pick<A: Around>(talk: &Talk<A>, cluster: &Cluster<A>) -> Result<(Rc<Upstream<A>>, Option<Chosen>), Closed> {
    let engine = &talk.engine;
    let choice = cluster.balancer.borrow_mut().pick(&Ask::default(), engine.now(), &mut *engine.rng());
    let nobody = |why: String| (Flag::NoHealthyUpstream, why);
    match choice {
        Choice::Endpoint(chosen) => {
            let upstream = cluster.member(&chosen.name).cloned();
            let upstream = upstream.ok_or_else(|| nobody("the endpoint has just gone".to_owned()))?;
            Ok((upstream, Some(chosen)))
        }
        Choice::Original => {
            let upstream = talk.original(&cluster.policy);
            Ok((upstream.ok_or_else(|| nobody("nobody is where the client wanted to go".to_owned()))?, None))
        }
        Choice::Nowhere(why) => Err(nobody(why.to_string())),
    }
}
