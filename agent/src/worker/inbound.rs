//! What wants into a pod: over HBONE with a proven identity, or in plaintext without one.

use std::{
    future::poll_fn,
    io,
    net::{Ipv6Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, task::spawn_local, time::timeout};
use weir_hbone::Incoming;
use weir_identity::causes;
use weir_model::{Hostname, ResponseFlag, Service, ServiceName, SpiffeId};
use weir_net::{Source as From, Stream};
use weir_telemetry::Direction;
use weir_wire::{head::Authority, proxy_v2::Header};
use weir_world::{HBONE_PORT, Handover, Inbound, Permit, Refusal, Source, Verdict};

use super::{
    Worker,
    admitted::{Entered, Who},
    outbound::{broken, broken_socket},
};
use crate::{
    observe::{Party, Subject},
    pod::{MARK, Pod},
    shadow::Decided,
};

/// How long TCP to the application may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Who asks, over one connection.
struct Peer {
    worker: Rc<Worker>,
    pod: Arc<Pod>,
    who: Rc<Who>,
    connected: SocketAddr,
}

impl Peer {
    /// Who it proved to be.
    fn identity(&self) -> Option<&SpiffeId> {
        match &self.who.source {
            Source::Mesh(identity) => Some(identity),
            Source::Plaintext => None,
        }
    }

    /// Whether it may go there. What policies that decide nothing say is noted.
    fn ask(&self, entered: &Entered, target: SocketAddr) -> Verdict {
        let Self { worker, pod, who, connected } = self;
        let inbound = Inbound {
            source: who.source.clone(),
            client: who.client,
            tcp_destination: *connected,
            target,
            own_ports: pod.own_ports(),
        };
        let world = entered.world();
        let verdict = world.inbound(&pod.uid, &inbound);
        if matches!(verdict, Verdict::Admit(_) | Verdict::Refuse(Refusal::Policy { .. }))
            && let Some(policies) = world.policies_of(&pod.uid).filter(|policies| policies.has_shadows())
        {
            let decided = Decided { pod: &pod.uid, identity: self.identity(), client: who.client, target };
            worker.shared.shadows.look(&policies, &decided, Instant::now());
        }
        verdict
    }

    fn enter(&self, target: SocketAddr) -> Entered {
        self.worker.admitted.enter(&self.pod.uid, self.who.clone(), target)
    }
}

/// Why an admitted connection is not delivered.
struct Undelivered {
    flag: ResponseFlag,
    /// The status of an answer to a CONNECT.
    status: u16,
    reason: String,
}

/// Serves one tunnel connection to its end. `handshaking` is dropped when the handshake is over.
pub(super) async fn tunnels(
    worker: Rc<Worker>,
    pod: Arc<Pod>,
    stream: Stream,
    client: SocketAddr,
    handshaking: oneshot::Sender<()>,
) {
    let (peer, established) = match admit_peer(&worker, &pod, stream, client).await {
        Ok(admitted) => admitted,
        Err(reason) => {
            tracing::warn!(pod = %pod.uid, peer = %client, reason, "HBONE connection refused");
            worker.observer.unknown(&stranger(&worker, &pod, client), ResponseFlag::TlsFailure, &reason);
            return;
        }
    };
    drop(handshaking);
    let peer = Rc::new(peer);
    let incoming = worker.incoming;
    let (closer, run) = weir_hbone::serve(established, incoming, move |incoming| {
        spawn_local(tunnel(peer.clone(), incoming));
    });
    worker.closers.borrow_mut().push((pod.clone(), closer.clone()));
    if *worker.draining.borrow() {
        closer.drain("the agent stops");
    }
    let lost = run.await;
    tracing::debug!(pod = %pod.uid, peer = %client, reason = %causes(&lost), "HBONE connection ended");
    worker.closers.borrow_mut().retain(|(_, other)| !other.is(&closer));
}

async fn admit_peer(
    worker: &Rc<Worker>,
    pod: &Arc<Pod>,
    stream: Stream,
    client: SocketAddr,
) -> Result<(Peer, weir_hbone::Established), String> {
    let certificate =
        worker.certificate(&pod.identity).ok_or_else(|| format!("no valid certificate for {}", pod.identity))?;
    let connected = stream.local().map_err(|e| e.to_string())?;
    let established = weir_hbone::accept(stream, certificate.server(), worker.incoming.handshake)
        .await
        .map_err(|error| causes(&error))?;
    let identity = weir_identity::peer_identity(established.peer_certificates()).map_err(|error| causes(&error))?;
    let who = Rc::new(Who { source: Source::Mesh(identity), client });
    let peer = Peer { worker: worker.clone(), pod: pod.clone(), who, connected };
    Ok((peer, established))
}

/// One request for a tunnel.
async fn tunnel(peer: Rc<Peer>, mut incoming: Incoming) {
    let since = Instant::now();
    let Peer { worker, pod, .. } = &*peer;
    let counted = (worker.count(), pod.connection());
    let request = match incoming.request() {
        Ok(request) => request,
        Err(error) => {
            tracing::warn!(pod = %pod.uid, peer = %peer.who.client, identity = peer.identity().map(tracing::field::display), reason = %causes(&error), "HBONE request refused");
            let subject = refused(&peer, SocketAddr::new(peer.connected.ip(), 0));
            worker.observer.unknown(&subject, ResponseFlag::Protocol, &causes(&error));
            return incoming.refuse(400);
        }
    };
    let Authority::Address(target) = request.authority else {
        tracing::warn!(pod = %pod.uid, peer = %peer.who.client, identity = peer.identity().map(tracing::field::display), authority = %request.authority,
            "HBONE request refused: this node serves addresses, not host names");
        let reason = format!("{} is asked for, and this node serves addresses, not host names", request.authority);
        let subject = refused(&peer, SocketAddr::new(peer.connected.ip(), 0));
        worker.observer.unknown(&subject, ResponseFlag::Protocol, &reason);
        return incoming.refuse(503);
    };
    let mut entered = peer.enter(target);
    let permit = match peer.ask(&entered, target) {
        Verdict::Admit(permit) => permit,
        Verdict::Refuse(refusal) => {
            worker.observer.refused(&refused(&peer, target), since, &refusal);
            return incoming.refuse(refusal.http_status());
        }
    };
    let mut subject = subject(pod, &permit);
    subject.service = match permit.handover() {
        Handover::Application => request.host.and_then(|host| claimed_service(worker, host, &permit)),
        Handover::Proxy { service, .. } => service.clone(),
    };
    let baggage = worker.baggage(permit.destination());
    let delivered = tokio::select! {
        delivered = deliver(pod, permit, &mut entered) => delivered,
        () = incoming.withdrawn() => {
            return worker.observer.withdrawn(&subject, since);
        }
    };
    match delivered {
        Ok(app) => {
            let tunnel = incoming.accept(Some(&baggage));
            let flow = worker.observer.opened(subject, since);
            worker.relay(pod, counted, async move {
                // What is forbidden moves no byte more.
                tokio::select! {
                    biased;
                    why = entered.forbidden() => flow.forbidden(&why),
                    ended = tunnel.relay(app, &flow) => flow.ended(broken(&ended).as_deref()),
                }
            });
        }
        Err(undelivered) => {
            worker.observer.failed(&subject, undelivered.flag, since, &undelivered.reason);
            incoming.refuse(undelivered.status);
        }
    }
}

/// Serves a connection that came without HBONE.
pub(super) async fn plaintext(worker: Rc<Worker>, pod: Arc<Pod>, client: Stream, peer: SocketAddr) {
    let since = Instant::now();
    let counted = (worker.count(), pod.connection());
    let target = match client.local() {
        Ok(target) => target,
        Err(_gone) => return,
    };
    let who = Rc::new(Who { source: Source::Plaintext, client: peer });
    let peer = Peer { worker: worker.clone(), pod: pod.clone(), who, connected: target };
    let mut entered = peer.enter(target);
    let permit = match peer.ask(&entered, target) {
        Verdict::Admit(permit) => permit,
        Verdict::Refuse(refusal) => {
            worker.observer.refused(&refused(&peer, target), since, &refusal);
            return client.reset_on_close();
        }
    };
    let subject = subject(&pod, &permit);
    match deliver(&pod, permit, &mut entered).await {
        Ok(server) => {
            // The relay may be forbidden before its first turn.
            client.reset_on_close();
            let flow = worker.observer.opened(subject, since);
            worker.relay(&pod, counted, async move {
                tokio::select! {
                    biased;
                    why = entered.forbidden() => flow.forbidden(&why),
                    ended = weir_net::relay(client, server, |there, back| flow.moved(there, back)) => {
                        flow.ended(ended.err().map(|b| broken_socket(&b)).as_deref());
                    }
                }
            });
        }
        Err(undelivered) => {
            worker.observer.failed(&subject, undelivered.flag, since, &undelivered.reason);
            client.reset_on_close();
        }
    }
}

/// Connects to the application from inside the pod, with the client's own address; or to the pod's proxy, which is told it. Only a permit gets here, and a policy that
/// forbids the connection meanwhile ends it. Until a relay says otherwise, the application learns of an end by a reset.
async fn deliver(pod: &Arc<Pod>, permit: Permit, entered: &mut Entered) -> Result<Stream, Undelivered> {
    let (target, connecting) = (permit.target(), timeout(CONNECT, connect(pod, &permit)));
    let connected = tokio::select! {
        biased;
        why = entered.forbidden() => {
            let (flag, status) = (why.response_flag(), why.http_status());
            return Err(Undelivered { flag, status, reason: why.to_string() });
        }
        connected = connecting => connected.unwrap_or_else(|_late| Err(io::ErrorKind::TimedOut.into())),
    };
    match connected {
        Ok(app) => {
            app.reset_on_close();
            Ok(app)
        }
        Err(error) => {
            let reason = format!("connection to the application at {target}: {error}");
            Err(Undelivered { flag: ResponseFlag::Connect, status: 503, reason })
        }
    }
}

async fn connect(pod: &Pod, permit: &Permit) -> io::Result<Stream> {
    match permit.handover() {
        Handover::Application => {
            let (client, target) = (permit.client().ip(), permit.target());
            // A pod that calls itself by its service: the address is its own, nothing is carried.
            let source =
                if client == target.ip() { From::Own(client) } else { From::Client { ip: client, mark: MARK } };
            weir_net::connect(&pod.netns, target, source, None).await
        }
        Handover::Proxy { at, service } => {
            let identity = match permit.source() {
                Source::Mesh(identity) => Some(identity.clone()),
                Source::Plaintext => None,
            };
            let service = service.as_ref().map(|service| service.name.hostname.clone());
            let header = Header { client: permit.client(), target: permit.target(), identity, service }.encode();
            let proxy = weir_net::connect(&pod.netns, *at, From::Own(at.ip()), None).await?;
            let mut rest = header.as_slice();
            while !rest.is_empty() {
                let written = poll_fn(|cx| proxy.poll_write(cx, &[io::IoSlice::new(rest)])).await?;
                rest = rest.get(written..).unwrap_or_default();
            }
            Ok(proxy)
        }
    }
}

/// The service the peer says its client asked for, if this workload is behind it. Only metrics and logs read it.
fn claimed_service(worker: &Worker, hostname: Hostname, permit: &Permit) -> Option<Arc<Service>> {
    let namespace = hostname.as_str().split('.').nth(1)?.parse().ok()?;
    let world = worker.shared.world.load();
    let service = world.service(&ServiceName { namespace, hostname })?;
    let behind = permit.destination().services.iter().any(|membership| membership.service == service.name);
    behind.then(|| service.clone())
}

fn subject(pod: &Pod, permit: &Permit) -> Subject {
    let identity = match permit.source() {
        Source::Mesh(identity) => Some(identity.clone()),
        Source::Plaintext => None,
    };
    Subject {
        direction: Direction::Inbound,
        tunnel: identity.is_some().then(|| permit.target()),
        source: Party { address: permit.client(), workload: permit.source_workload().cloned(), identity },
        destination: Party {
            address: permit.target(),
            workload: Some(permit.destination().clone()),
            identity: Some(pod.identity.clone()),
        },
        service: None,
    }
}

fn refused(peer: &Peer, target: SocketAddr) -> Subject {
    let Peer { worker, pod, who, .. } = peer;
    let identity = peer.identity().cloned();
    let workload = worker.shared.world.load().workload(&pod.uid);
    Subject {
        direction: Direction::Inbound,
        tunnel: identity.is_some().then_some(target),
        source: Party { address: who.client, workload: None, identity },
        destination: Party { address: target, workload, identity: Some(pod.identity.clone()) },
        service: None,
    }
}

/// Somebody who did not prove who it is.
fn stranger(worker: &Worker, pod: &Pod, client: SocketAddr) -> Subject {
    let own = worker.shared.world.load().workload(&pod.uid);
    let ip = own.as_ref().and_then(|own| own.addresses.first().copied()).unwrap_or(Ipv6Addr::UNSPECIFIED.into());
    let address = SocketAddr::new(ip, HBONE_PORT);
    Subject {
        direction: Direction::Inbound,
        tunnel: None,
        source: Party { address: client, workload: None, identity: None },
        destination: Party { address, workload: own, identity: Some(pod.identity.clone()) },
        service: None,
    }
}
