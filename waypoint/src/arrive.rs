//! What comes in: tunnels whose clients have proven who they are, and, where that is asked for, connections in the clear.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use tokio::{net::TcpStream, sync::oneshot, task::spawn_local};
use weir_hbone::Incoming;
use weir_http::{Arrival, Target};
use weir_identity::causes;
use weir_model::{AppProtocol, Port, Service, SpiffeId, canonical_socket};
use weir_net::Stream;
use weir_wire::head::Authority;
use weir_world::Bound;

use crate::{cli::Plain, compiled::State, worker::Worker};

/// Who asks, over one connection.
struct Peer {
    worker: Rc<Worker>,
    client: SocketAddr,
    identity: SpiffeId,
}

/// Serves one tunnel connection to its end. `handshaking` is dropped when the handshake is over.
pub(crate) async fn tunnels(worker: Rc<Worker>, stream: Stream, client: SocketAddr, handshaking: oneshot::Sender<()>) {
    let (identity, established) = match prove(&worker, stream).await {
        Ok(proven) => proven,
        Err(reason) => {
            tracing::warn!(peer = %client, reason, "HBONE connection refused");
            worker.refuser.tunnel(client, None, 0, &reason);
            return;
        }
    };
    drop(handshaking);
    let peer = Rc::new(Peer { worker: worker.clone(), client, identity });
    let (closer, run) = weir_hbone::serve(established, worker.incoming, move |incoming| {
        spawn_local(tunnel(peer.clone(), incoming));
    });
    worker.note(closer.clone());
    let lost = run.await;
    tracing::debug!(peer = %client, reason = %causes(&lost), "HBONE connection ended");
    worker.forget(&closer);
}

async fn prove(worker: &Worker, stream: Stream) -> Result<(SpiffeId, weir_hbone::Established), String> {
    let (identities, own) = worker.shared.identities.as_ref().ok_or("there is no CA")?;
    let certificate = identities.current(own).ok_or_else(|| format!("no valid certificate for {own}"))?;
    let established = weir_hbone::accept(stream, certificate.server(), worker.incoming.handshake)
        .await
        .map_err(|error| causes(&error))?;
    let identity = weir_identity::peer_identity(established.peer_certificates()).map_err(|error| causes(&error))?;
    Ok((identity, established))
}

/// One request for a tunnel: taken if what it asks for is bound to this waypoint.
async fn tunnel(peer: Rc<Peer>, mut incoming: Incoming) {
    let refuse = |incoming: Incoming, status: u16, reason: &str| {
        tracing::warn!(peer = %peer.client, identity = %peer.identity, status, reason, "HBONE request refused");
        peer.worker.refuser.tunnel(peer.client, Some(&peer.identity), status, reason);
        incoming.refuse(status);
    };
    let request = match incoming.request() {
        Ok(request) => request,
        Err(error) => return refuse(incoming, 400, &causes(&error)),
    };
    let Authority::Address(asked) = request.authority else {
        let reason = format!("{} is asked for, and a waypoint serves addresses, not host names", request.authority);
        return refuse(incoming, 503, &reason);
    };
    let worker = &peer.worker;
    let _counted = worker.count();
    let state = worker.shared.state();
    let who = Client { address: peer.client, identity: Some(&peer.identity) };
    let arrival = match arrival(worker, &state, &who, canonical_socket(asked)) {
        Ok(arrival) => arrival,
        Err((status, reason)) => return refuse(incoming, status, &reason),
    };
    drop(state);
    let tunnel = incoming.accept(None);
    worker.engine.clone().serve(tunnel, arrival).await;
}

/// Who asks, as far as it is proven.
pub(crate) struct Client<'c> {
    pub(crate) address: SocketAddr,
    pub(crate) identity: Option<&'c SpiffeId>,
}

/// What comes in, if what it asks for is bound to this waypoint.
///
/// # Errors
/// With the status that refuses it, and why.
pub(crate) fn arrival(
    worker: &Worker,
    state: &State,
    client: &Client<'_>,
    asked: SocketAddr,
) -> Result<Arrival, (u16, String)> {
    let own = &worker.shared.own;
    let uid = own.uid.as_ref().ok_or((503, "this waypoint has no pod, so that nothing is bound to it".to_owned()))?;
    let bound = state.world.bound_to(uid, client.identity.map(SpiffeId::namespace), asked);
    let target = match bound {
        Some(Bound::Service(service)) => of_service(&service, asked.port()).map_err(|reason| (503, reason))?,
        Some(Bound::Workload(_)) => Target::Pod { address: asked },
        None => return Err((404, format!("{asked} is not bound to this waypoint"))),
    };
    // The address is the kernel's word and the identity the certificate's: only where both are one workload's, it is that.
    let workload = state.world.workload_at(&own.network, client.address.ip());
    let workload = workload.filter(|workload| client.identity == Some(&workload.identity()));
    let labels = workload.as_ref().and_then(|workload| state.labels(&workload.uid)).cloned();
    Ok(Arrival {
        client: client.address,
        identity: client.identity.cloned(),
        workload,
        labels,
        destination: asked,
        target,
        trusted_hops: worker.trusted_proxies,
    })
}

fn of_service(service: &Arc<Service>, port: u16) -> Result<Target, String> {
    let port = Port::new(port).ok_or("port 0 is asked for")?;
    let own = service.ports.iter().find(|own| own.port == port);
    let own = own.ok_or_else(|| format!("service {} has no port {port}", service.name))?;
    Ok(Target::Service { host: service.name.hostname.clone(), port, protocol: own.protocol })
}

/// Serves a connection in the clear, as if it were for that service.
pub(crate) async fn plain(worker: Rc<Worker>, stream: TcpStream, client: SocketAddr, plain: Plain) {
    let _counted = worker.count();
    let destination = stream.local_addr().map_or(plain.at, canonical_socket);
    let state = worker.shared.state();
    let service = state.names.get(&plain.host).and_then(|name| state.world.service(name));
    let own = service.and_then(|service| service.ports.iter().find(|own| own.port == plain.port));
    // One that is not there, or not yet, is answered as one without endpoints.
    let protocol = own.map_or(AppProtocol::Unknown, |own| own.protocol);
    drop(state);
    let arrival = Arrival {
        client: canonical_socket(client),
        identity: None,
        workload: None,
        labels: None,
        destination,
        target: Target::Service { host: plain.host, port: plain.port, protocol },
        trusted_hops: worker.trusted_proxies,
    };
    worker.engine.clone().serve(stream, arrival).await;
}
