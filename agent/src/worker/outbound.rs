//! What a pod sends: caught by the kernel, led where the mesh says.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::Rng;
use tokio::time::timeout;
use weir_hbone::{Dialed, Error, Lost, PoolKey, Relayed};
use weir_identity::causes;
use weir_model::{OrigDst, ResponseFlag, SpiffeId, Workload, WorkloadUid};
use weir_net::{Broken, Source, Stream};
use weir_telemetry::Direction;
use weir_wire::{
    head::{Authority, Connect},
    trace::Traceparent,
};
use weir_world::{PassthroughPlan, Plan, Refusal, TunnelPlan, Unmet};

use super::Worker;
use crate::{
    demand::Sought,
    observe::{Party, Subject},
    pod::{Connection, Pod},
};

/// How long TCP to a destination may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How many workloads of a waypoint are asked to take one connection.
const MOST_TRIED: usize = 3;

/// A tunnel that did not come about.
struct Failed {
    flag: ResponseFlag,
    reason: String,
    another: Another,
}

/// Whether another workload of a waypoint may take what one did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Another {
    MayTakeIt,
    WillNot,
}

impl Another {
    /// Nothing of the application is sent before the answer: whoever was not reached, or cannot serve now, leaves nothing behind.
    fn after(error: &Error) -> Self {
        match error {
            Error::Connect(_)
            | Error::Tls(_)
            | Error::NotTls
            | Error::Alpn
            | Error::Deadline { .. }
            | Error::Closed
            | Error::Lost(_)
            | Error::Reset(_)
            | Error::Refused { status: 503 } => Self::MayTakeIt,
            Error::Refused { .. } | Error::Answer(_) => Self::WillNot,
        }
    }
}

/// A caught connection while nothing is decided.
struct Caught {
    worker: Rc<Worker>,
    pod: Arc<Pod>,
    app: Stream,
    client: SocketAddr,
    since: Instant,
    counted: (super::Live, Connection),
}

/// Serves a caught connection to its end.
pub(super) async fn serve(worker: Rc<Worker>, pod: Arc<Pod>, app: Stream, client: SocketAddr) {
    let since = Instant::now();
    let counted = (worker.count(), pod.connection());
    let origin = match worker.origins.take(pod.netns.cookie(), client) {
        Ok(Some(origin)) => origin,
        Ok(None) => return lost_origin(&worker, &app, &pod, client, "the kernel noted no original destination"),
        Err(error) => return lost_origin(&worker, &app, &pod, client, &error.to_string()),
    };
    let caught = Caught { worker, pod, app, client, since, counted };
    let (mut plan, mut wanted) = caught.plan(origin);
    // To nobody that is known: where the control plane tells only what it is asked, it is asked before anything goes out in the clear.
    if let (Plan::Passthrough(PassthroughPlan { destination: None, service: None, .. }), Some(demands)) =
        (&plan, &caught.worker.shared.demands)
    {
        let network = caught.worker.shared.world.load().workload(&caught.pod.uid).map(|own| own.network.clone());
        let sought = Sought::Address(network.unwrap_or_default(), origin.ip().to_canonical());
        if let Err(reason) = demands.settle(sought).await {
            let subject = caught.subject(origin, None, None);
            return caught.refuse(&subject, ResponseFlag::NoCluster, &reason);
        }
        (plan, wanted) = caught.plan(origin);
    }
    // Nor is a waypoint that nobody asked for known there.
    if let (Plan::Refuse(Refusal::NoWaypoint { waypoint, why: Unmet::Unknown, .. }), Some(demands)) =
        (&plan, &caught.worker.shared.demands)
    {
        if let Err(reason) = demands.settle(Sought::from(&waypoint.destination)).await {
            let subject = caught.subject(origin, None, wanted);
            return caught.refuse(&subject, ResponseFlag::NoHealthyUpstream, &reason);
        }
        (plan, wanted) = caught.plan(origin);
    }
    match plan {
        Plan::Tunnel(plan) => caught.tunnel(plan).await,
        Plan::Passthrough(plan) => caught.passthrough(plan).await,
        Plan::Refuse(refusal) => {
            let subject = caught.subject(origin, None, wanted);
            caught.worker.observer.refused(&subject, caught.since, &refusal);
            caught.app.reset_on_close();
        }
    }
}

/// Somebody connected to our listener by hand, or the kernel's map was full: either way nobody knows where to.
fn lost_origin(worker: &Worker, app: &Stream, pod: &Pod, client: SocketAddr, reason: &str) {
    tracing::warn!(pod = %pod.uid, %client, reason, "outbound connection refused");
    let workload = worker.shared.world.load().workload(&pod.uid);
    let subject = Subject {
        direction: Direction::Outbound,
        source: Party { address: client, workload, identity: Some(pod.identity.clone()) },
        destination: Party { address: (Ipv6Addr::UNSPECIFIED, 0).into(), workload: None, identity: None },
        service: None,
        tunnel: None,
    };
    worker.observer.unknown(&subject, ResponseFlag::Connect, reason);
    app.reset_on_close();
}

impl Caught {
    /// Where it goes; and the service that was asked for, if that is why it does not.
    fn plan(&self, origin: SocketAddr) -> (Plan, Option<Arc<weir_model::Service>>) {
        let world = self.worker.shared.world.load();
        let plan = world.outbound(&self.pod.uid, OrigDst::new(origin), &mut *self.worker.rng.borrow_mut());
        let wanted = match &plan {
            Plan::Refuse(refusal) => refusal.service().and_then(|name| world.service(name)).cloned(),
            Plan::Tunnel(_) | Plan::Passthrough(_) => None,
        };
        (plan, wanted)
    }

    fn subject(
        &self,
        to: SocketAddr,
        destination: Option<Arc<Workload>>,
        service: Option<Arc<weir_model::Service>>,
    ) -> Subject {
        let workload = self.worker.shared.world.load().workload(&self.pod.uid);
        Subject {
            direction: Direction::Outbound,
            source: Party { address: self.client, workload, identity: Some(self.pod.identity.clone()) },
            destination: Party { address: to, workload: destination, identity: None },
            service,
            tunnel: None,
        }
    }

    fn refuse(&self, subject: &Subject, flag: ResponseFlag, reason: &str) {
        self.worker.observer.failed(subject, flag, self.since, reason);
        self.app.reset_on_close();
    }

    async fn tunnel(self, mut plan: TunnelPlan) {
        let mut tried = Vec::new();
        let (subject, tunnel) = loop {
            let subject = self.through(&plan);
            match self.open(&subject, &plan).await {
                Ok(tunnel) => break (subject, tunnel),
                Err(Failed { flag, reason, another }) => match self.elsewhere(&plan, another, &mut tried) {
                    Some(other) => {
                        tracing::debug!(pod = %self.pod.uid, reason, next_hop = %other.next_hop, "another workload of the waypoint is asked");
                        plan = other;
                    }
                    None => return self.refuse(&subject, flag, &reason),
                },
            }
        };
        drop(plan);
        let Self { worker, pod, app, since, counted, .. } = self;
        let flow = worker.observer.opened(subject, since);
        worker.relay(&pod, counted, async move {
            let ended = tunnel.relay(app, &flow).await;
            flow.ended(broken(&ended).as_deref());
        });
    }

    fn through(&self, plan: &TunnelPlan) -> Subject {
        let mut subject = self.subject(plan.next_hop, Some(plan.destination.clone()), plan.service.clone());
        subject.tunnel = Some(plan.authority);
        subject.destination.identity = plan.expect.first().cloned();
        subject
    }

    /// Through another workload of the waypoint that did not take it.
    fn elsewhere(&self, plan: &TunnelPlan, another: Another, tried: &mut Vec<WorkloadUid>) -> Option<TunnelPlan> {
        match another {
            Another::MayTakeIt if plan.is_through_waypoint() && tried.len() + 1 < MOST_TRIED => {}
            Another::MayTakeIt | Another::WillNot => return None,
        }
        tried.push(plan.destination.uid.clone());
        let world = self.worker.shared.world.load();
        world.outbound_elsewhere(&self.pod.uid, OrigDst::new(plan.authority), tried, &mut *self.worker.rng.borrow_mut())
    }

    async fn open(&self, subject: &Subject, plan: &TunnelPlan) -> Result<weir_hbone::Tunnel, Failed> {
        let source = subject.source.workload.as_ref().ok_or_else(|| Failed {
            flag: ResponseFlag::NoCluster,
            reason: format!("the source {} left the mesh", self.pod.uid),
            another: Another::WillNot,
        })?;
        let baggage = self.worker.baggage(source);
        // The only address that is not the client's own is the way to a waypoint of the other family.
        let alike = |ip: &IpAddr| ip.is_ipv4() == plan.next_hop.is_ipv4();
        let own = [self.client.ip()].into_iter().chain(source.addresses.iter().copied()).find(alike);
        let from = own.unwrap_or(self.client.ip());
        let authority = Authority::Address(plan.authority);
        let connect = Connect {
            authority: &authority,
            baggage: &baggage,
            source: self.client,
            host: plan.service.as_ref().map(|s| &s.name.hostname),
            trace: trace(&mut *self.worker.rng.borrow_mut()),
        };
        let key = PoolKey {
            source: self.pod.identity.clone(),
            source_ip: from,
            expect: plan.expect.clone(),
            next_hop: plan.next_hop,
            destination: plan.destination.uid.clone(),
            incarnation: plan.destination.incarnation.clone(),
        };
        let dial = || Box::pin(dial(self.worker.clone(), self.pod.clone(), plan.next_hop, from, plan.expect.clone()));
        match self.worker.pool.open(&key, &connect, dial).await {
            Ok((tunnel, _baggage)) => Ok(tunnel),
            Err(error) => Err(Failed {
                flag: flag(&error),
                reason: explain(&error, plan.next_hop),
                another: Another::after(&error),
            }),
        }
    }

    async fn passthrough(self, plan: PassthroughPlan) {
        let subject = self.subject(plan.target, plan.destination, plan.service);
        let source =
            if self.client.is_ipv4() == plan.target.is_ipv4() { Source::Own(self.client.ip()) } else { Source::Any };
        let connected = timeout(CONNECT, weir_net::connect(&self.pod.netns, plan.target, source, None)).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(server) => {
                let Self { worker, pod, app, since, counted, .. } = self;
                let flow = worker.observer.opened(subject, since);
                worker.relay(&pod, counted, async move {
                    let ended = weir_net::relay(app, server, |there, back| flow.moved(there, back)).await;
                    flow.ended(ended.err().map(|b| broken_socket(&b)).as_deref());
                });
            }
            Err(error) => {
                let reason = format!("connection to {}: {error}", plan.target);
                self.refuse(&subject, ResponseFlag::Connect, &reason);
            }
        }
    }
}

/// Makes a tunnel connection from inside the pod, with the pod's address and identity.
async fn dial(
    worker: Rc<Worker>,
    pod: Arc<Pod>,
    next_hop: SocketAddr,
    from: IpAddr,
    expect: Arc<[SpiffeId]>,
) -> Result<Dialed<impl Future<Output = Lost>>, Error> {
    let settings = worker.outgoing;
    let Some(certificate) = worker.certificate(&pod.identity) else {
        let reason = format!("no valid certificate for {}", pod.identity);
        return Err(Error::Tls(Rc::new(rustls::Error::General(reason))));
    };
    let connecting = weir_net::connect(&pod.netns, next_hop, Source::Own(from), Some(settings.tcp_keepalive));
    let late = Error::Deadline { what: "connection to the peer", after: settings.handshake };
    let stream =
        timeout(settings.handshake, connecting).await.map_err(|_| late)?.map_err(|e| Error::Connect(Rc::new(e)))?;
    let (client, run) = weir_hbone::connect(stream, certificate.client(&expect), settings).await?;
    Ok(Dialed { client, run })
}

fn trace(rng: &mut impl Rng) -> Traceparent {
    Traceparent { trace: rng.random::<u128>() | 1, span: rng.random::<u64>() | 1, flags: 0 }
}

/// The response flag of a tunnel that did not come about.
fn flag(error: &Error) -> ResponseFlag {
    match error {
        Error::Tls(_) | Error::NotTls | Error::Alpn | Error::Closed => ResponseFlag::TlsFailure,
        Error::Deadline { what: "connection to the peer", .. } => ResponseFlag::NetworkPolicy,
        Error::Refused { status: 401 } => ResponseFlag::Deny,
        Error::Connect(_)
        | Error::Deadline { .. }
        | Error::Lost(_)
        | Error::Refused { .. }
        | Error::Reset(_)
        | Error::Answer(_) => ResponseFlag::Connect,
    }
}

/// The reason a person reads, with what it may mean.
pub(super) fn explain(error: &Error, next_hop: SocketAddr) -> String {
    let told = causes(error);
    let hint = match flag(error) {
        ResponseFlag::NetworkPolicy => {
            ": maybe a NetworkPolicy is blocking the HBONE port, or the agent of that node is away"
        }
        ResponseFlag::Connect if matches!(error, Error::Connect(_)) => ": is the agent of that node running?",
        ResponseFlag::None
        | ResponseFlag::Deny
        | ResponseFlag::NoHealthyUpstream
        | ResponseFlag::NoRoute
        | ResponseFlag::NoCluster
        | ResponseFlag::Protocol
        | ResponseFlag::Connect
        | ResponseFlag::TlsFailure
        | ResponseFlag::H2HandshakeFailure
        | ResponseFlag::IdentityError => "",
    };
    format!("{told} at {next_hop}{hint}")
}

/// What broke a tunnel, if it broke.
pub(super) fn broken(ended: &Relayed) -> Option<String> {
    match ended {
        Relayed::Complete => None,
        Relayed::AppReset => Some("reset by the application".to_owned()),
        Relayed::PeerReset(code) => Some(format!("reset by the peer: {code}")),
        Relayed::Lost(lost) => Some(format!("tunnel connection lost: {}", causes(lost))),
    }
}

/// Which socket broke a relay.
pub(super) fn broken_socket(broken: &Broken) -> String {
    match broken {
        Broken::Client(error) => format!("client: {error}"),
        Broken::Server(error) => format!("server: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::{io, rc::Rc};

    use weir_wire::frame::Code;

    use super::*;

    #[test]
    fn who_was_not_reached_or_cannot_serve_now_is_followed_by_another() {
        for (error, want) in [
            (Error::Connect(Rc::new(io::ErrorKind::ConnectionRefused.into())), Another::MayTakeIt),
            (Error::Deadline { what: "answer", after: CONNECT }, Another::MayTakeIt),
            (Error::NotTls, Another::MayTakeIt),
            (Error::Lost(Lost::Eof), Another::MayTakeIt),
            (Error::Reset(Code::Refused), Another::MayTakeIt),
            (Error::Refused { status: 503 }, Another::MayTakeIt),
            // Its word holds for all of them.
            (Error::Refused { status: 401 }, Another::WillNot),
            (Error::Refused { status: 404 }, Another::WillNot),
        ] {
            assert_eq!(Another::after(&error), want, "{error}");
        }
    }
}
