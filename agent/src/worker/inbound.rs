//! What wants into a pod: over HBONE with a proven identity, or in plaintext without one.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::oneshot,
    task::{AbortHandle, spawn_local},
    time::timeout,
};
use weir_hbone::Incoming;
use weir_model::{Hostname, ResponseFlag, Service, ServiceName, SpiffeId};
use weir_net::{Source as From, Stream};
use weir_telemetry::Direction;
use weir_wire::head::Authority;
use weir_world::{Inbound, Permit, Source, Verdict};

use super::{
    Worker,
    outbound::{broken, broken_socket, causes},
};
use crate::{
    observe::{Party, Subject},
    pod::{MARK, Pod},
};

/// How long TCP to the application may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Handshakes under way in one pod, oldest first. A flood of half-open ones pushes out its own, not a neighbour's.
pub(super) struct Handshakes {
    most: usize,
    under_way: VecDeque<(AbortHandle, oneshot::Receiver<()>)>,
}

impl Handshakes {
    pub(super) fn new(most: usize) -> Self {
        Self { most, under_way: VecDeque::new() }
    }

    /// Begins one; if too many are under way, the oldest gives way. `serve` gets what to drop when its handshake is done.
    pub(super) fn begin<F: Future<Output = ()> + 'static>(&mut self, serve: impl FnOnce(oneshot::Sender<()>) -> F) {
        if self.under_way.len() >= self.most {
            self.under_way.retain_mut(|(_, done)| done.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        }
        while self.under_way.len() >= self.most {
            if let Some((oldest, _)) = self.under_way.pop_front() {
                oldest.abort();
            }
        }
        let (done, waits) = oneshot::channel();
        let task = spawn_local(serve(done));
        self.under_way.push_back((task.abort_handle(), waits));
    }
}

/// Who asks, over one tunnel connection.
struct Peer {
    worker: Rc<Worker>,
    pod: Arc<Pod>,
    identity: SpiffeId,
    client: SocketAddr,
    connected: SocketAddr,
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
    let peer = Peer { worker: worker.clone(), pod: pod.clone(), identity, client, connected };
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
            tracing::warn!(pod = %pod.uid, peer = %peer.client, identity = %peer.identity, reason = %causes(&error), "HBONE request refused");
            return incoming.refuse(400);
        }
    };
    let Authority::Address(target) = request.authority else {
        tracing::warn!(pod = %pod.uid, peer = %peer.client, identity = %peer.identity, authority = %request.authority,
            "HBONE request refused: this node serves addresses, not host names");
        return incoming.refuse(503);
    };
    let inbound = Inbound {
        source: Source::Mesh(peer.identity.clone()),
        client: peer.client,
        tcp_destination: peer.connected,
        target,
        own_ports: pod.own_ports(),
    };
    let verdict = worker.shared.world.load().inbound(&pod.uid, &inbound);
    let permit = match verdict {
        Verdict::Admit(permit) => permit,
        Verdict::Refuse(refusal) => {
            let subject = refused(worker, pod, target, peer.client, Some(peer.identity.clone()));
            worker.observer.failed(&subject, refusal.response_flag(), since, &refusal.to_string());
            return incoming.refuse(refusal.http_status());
        }
    };
    let mut subject = subject(pod, &permit);
    subject.service = request.host.and_then(|host| claimed_service(worker, host, &permit));
    let baggage = worker.baggage(permit.destination());
    let delivered = tokio::select! {
        delivered = deliver(pod, permit) => delivered,
        () = incoming.withdrawn() => {
            return worker.observer.failed(&subject, ResponseFlag::Connect, since, "taken back by the peer");
        }
    };
    match delivered {
        Ok(app) => {
            let tunnel = incoming.accept(Some(&baggage));
            let flow = worker.observer.opened(subject, since);
            worker.relay(pod, counted, async move {
                let ended = tunnel.relay(app, &flow).await;
                flow.ended(broken(&ended).as_deref());
            });
        }
        Err(error) => {
            let reason = format!("connection to the application at {target}: {error}");
            worker.observer.failed(&subject, ResponseFlag::Connect, since, &reason);
            incoming.refuse(503);
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
    let own_ports = pod.own_ports();
    let inbound = Inbound { source: Source::Plaintext, client: peer, tcp_destination: target, target, own_ports };
    let verdict = worker.shared.world.load().inbound(&pod.uid, &inbound);
    let permit = match verdict {
        Verdict::Admit(permit) => permit,
        Verdict::Refuse(refusal) => {
            let subject = refused(&worker, &pod, target, peer, None);
            worker.observer.failed(&subject, refusal.response_flag(), since, &refusal.to_string());
            return client.reset_on_close();
        }
    };
    let subject = subject(&pod, &permit);
    match deliver(&pod, permit).await {
        Ok(server) => {
            let flow = worker.observer.opened(subject, since);
            worker.relay(&pod, counted, async move {
                let ended = weir_net::relay(client, server, |there, back| flow.moved(there, back)).await;
                flow.ended(ended.err().map(|b| broken_socket(&b)).as_deref());
            });
        }
        Err(error) => {
            let reason = format!("connection to the application at {target}: {error}");
            worker.observer.failed(&subject, ResponseFlag::Connect, since, &reason);
            client.reset_on_close();
        }
    }
}

/// Connects to the application from inside the pod, with the client's own address. Only a permit gets here.
async fn deliver(pod: &Arc<Pod>, permit: Permit) -> io::Result<Stream> {
    let (client, target) = (permit.client().ip(), permit.target());
    // A pod that calls itself by its service: the address is its own, nothing is carried.
    let source = if client == target.ip() { From::Own(client) } else { From::Client { ip: client, mark: MARK } };
    let connecting = weir_net::connect(&pod.netns, target, source, None);
    timeout(CONNECT, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The service the peer says its client asked for, if this workload is behind it. Only metrics and logs read it.
fn claimed_service(worker: &Worker, hostname: Hostname, permit: &Permit) -> Option<Arc<Service>> {
    let namespace = hostname.as_str().split('.').nth(1)?.parse().ok()?;
    let world = worker.shared.world.load();
    let service = world.service(&ServiceName { namespace, hostname })?;
    let ours = &permit.destination().services;
    ours.iter().any(|own| own.service == service.name).then(|| service.clone())
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

fn refused(worker: &Worker, pod: &Pod, target: SocketAddr, client: SocketAddr, identity: Option<SpiffeId>) -> Subject {
    let workload = worker.shared.world.load().workload(&pod.uid);
    Subject {
        direction: Direction::Inbound,
        tunnel: identity.is_some().then_some(target),
        source: Party { address: client, workload: None, identity },
        destination: Party { address: target, workload, identity: Some(pod.identity.clone()) },
        service: None,
    }
}
