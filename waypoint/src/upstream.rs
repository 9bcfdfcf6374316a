//! The way to an endpoint: over HBONE into the mesh, to what is outside in the clear or with TLS as its DestinationRule says.

use std::{
    cell::RefCell,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use socket2::TcpKeepalive;
use tokio::{net::TcpStream, time::timeout};
use weir_hbone::{Dialed, Error, Lost, Pool, PoolKey, Role, Settings, Tunnel};
use weir_http::{Dial, Speaks, Target};
use weir_identity::Identities;
use weir_model::{SpiffeId, Workload, canonical_ip};
use weir_net::{Netns, Source};
use weir_origination::{Alpn, Originator, Peer};
use weir_serving::{ClusterPolicy, Keepalive, UpstreamTls};
use weir_wire::{
    head::{Authority, Connect},
    trace::Traceparent,
};
use weir_world::{Endpoint, Way, World};

use crate::{
    handed::is_of_this_pod,
    preface,
    stream::{Carrier, Io},
    worker::Hbone,
};

/// The longest that the system waits for a probe, in seconds, and the most probes. Linux `MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPCNT`.
const LONGEST_PROBE: u64 = 32_767;
const MOST_PROBES: u32 = 127;

/// Makes connections for one worker.
pub(crate) struct Upstream {
    pool: Rc<Pool>,
    settings: Settings,
    netns: Rc<Netns>,
    identities: Option<(Arc<Identities>, SpiffeId)>,
    hbone: Hbone,
    /// What this waypoint says of itself.
    baggage: RefCell<Rc<str>>,
    rng: RefCell<SmallRng>,
    originator: Arc<Originator>,
}

/// Where an endpoint is, and how it is reached.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// A workload that the mesh knows.
    Known(Rc<Endpoint>),
    /// An address that nobody in the mesh has.
    Outside(SocketAddr),
}

/// Who it is for: what the peer is told, and what it may log. Nobody authorizes by it.
pub(crate) struct OnBehalf<'a> {
    pub(crate) dial: Dial<'a>,
    /// Whose certificate the endpoint may have, if the policy does not say so. Istio `ServiceEntry.subjectAltNames`.
    pub(crate) names: &'a Arc<[Arc<str>]>,
}

impl Upstream {
    /// A way out for a worker. Without identities there is none into the mesh, unless an agent is the way.
    pub(crate) fn new(
        identities: Option<(Arc<Identities>, SpiffeId)>,
        hbone: Hbone,
        originator: Arc<Originator>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            pool: Rc::default(),
            settings: Settings::new(Role::Client),
            netns: Rc::new(Netns::own()?),
            identities,
            hbone,
            baggage: RefCell::new(Rc::from("")),
            rng: RefCell::new(SmallRng::from_os_rng()),
            originator,
        })
    }

    /// What it says of itself from now on.
    pub(crate) fn introduce(&self, baggage: &str) {
        *self.baggage.borrow_mut() = baggage.into();
    }

    /// The mesh changed: what leads to a workload that is gone is not used again.
    pub(crate) fn follow(&self, world: &World) {
        self.pool.retire("its workload left the mesh", |key| {
            let current = world.workload(&key.destination);
            current.is_none_or(|w| w.incarnation != key.incarnation || !w.addresses.contains(&key.next_hop.ip()))
        });
    }

    /// Opens no more tunnels on any connection.
    pub(crate) fn retire(&self) {
        self.pool.retire("the waypoint stops", |_| true);
    }

    /// Connections and streams open now.
    pub(crate) fn size(&self) -> (usize, usize) {
        self.pool.size()
    }

    /// A connection to an endpoint. The caller brings the deadline.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub(crate) async fn connect(&self, to: &Place, of: OnBehalf<'_>) -> Result<Io, String> {
        let policy = of.dial.policy;
        let own = match &policy.tls {
            UpstreamTls::Own(tls) => Some(tls),
            UpstreamTls::Mesh | UpstreamTls::Off => None,
            UpstreamTls::Refused(why) => return Err(why.to_string()),
        };
        let mut carrier = match to {
            Place::Outside(address) => Carrier::Plain(plain(*address, self.hbone, policy).await?),
            Place::Known(endpoint) => match (&endpoint.way, self.hbone) {
                // It leaves the pod in the agent's tunnel: what is sent here came from that very agent, and while it is away nothing leaves the pod.
                (Way::Plain, hbone) | (Way::Tunnel { .. }, hbone @ Hbone::Agent) => {
                    Carrier::Plain(plain(endpoint.target, hbone, policy).await?)
                }
                (Way::Tunnel { next_hop, expect }, Hbone::Waypoint) => {
                    Carrier::Tunnel(self.tunnel(endpoint, *next_hop, expect, &of).await?)
                }
                (Way::Unreachable(refusal), _) => return Err(refusal.to_string()),
            },
        };
        if let Some(version) = policy.proxy_protocol {
            preface::introduce(&mut carrier, version, of.dial.arrival.client, of.dial.arrival.destination).await?;
        }
        let mut io = match own {
            None => Io::Bare(carrier),
            Some(tls) => {
                let peer = Peer { host: of.dial.host, names: of.names, alpn: alpn(of.dial.speaks) };
                let opened = self.originator.connect(carrier, tls, peer).await;
                let failed = |error| format!("{} at {}", weir_identity::causes(&error), to.address());
                Io::Tls(Box::new(opened.map_err(failed)?))
            }
        };
        match (&policy.tunnel, of.dial.speaks) {
            (Some(tunnel), Speaks::Anything) => preface::lead(&mut io, tunnel).await?,
            // A forward proxy takes requests of HTTP as they are. Istio `tunnel`: for TCP and TLS alone.
            (Some(_), Speaks::Http1 | Speaks::Http2) | (None, _) => {}
        }
        Ok(io)
    }

    async fn tunnel(
        &self,
        to: &Endpoint,
        next_hop: SocketAddr,
        expect: &Arc<[SpiffeId]>,
        of: &OnBehalf<'_>,
    ) -> Result<Tunnel, String> {
        let Some((identities, own)) = &self.identities else {
            return Err(format!("{} is in the mesh, and this waypoint has no CA to enter it (--ca-dir)", to.target));
        };
        let authority = Authority::Address(to.target);
        let baggage = self.baggage.borrow().clone();
        let trace = {
            let mut rng = self.rng.borrow_mut();
            Traceparent { trace: rng.random::<u128>() | 1, span: rng.random::<u64>() | 1, flags: 0 }
        };
        let arrival = of.dial.arrival;
        let host = match &arrival.target {
            Target::Service { host, .. } => Some(host),
            Target::Pod { .. } => None,
        };
        let connect = Connect { authority: &authority, baggage: &baggage, source: arrival.client, host, trace };
        let key = PoolKey {
            source: own.clone(),
            // All its connections are its own, whoever they are for.
            source_ip: IpAddr::from([0, 0, 0, 0]),
            expect: expect.clone(),
            next_hop,
            destination: to.workload.uid.clone(),
            incarnation: to.workload.incarnation.clone(),
        };
        let dial = || {
            let certificate = identities.current(own);
            Box::pin(dial(self.netns.clone(), self.settings, next_hop, expect.clone(), certificate))
        };
        let opened = self.pool.open(&key, &connect, dial).await;
        opened.map(|(tunnel, _)| tunnel).map_err(|error| format!("{} at {next_hop}", weir_identity::causes(&error)))
    }
}

/// A connection in the clear.
async fn plain(to: SocketAddr, hbone: Hbone, policy: &ClusterPolicy) -> Result<TcpStream, String> {
    let failed = |error: io::Error| format!("{error} at {to}");
    let stream = TcpStream::connect(to).await.map_err(failed)?;
    // Where headers of the PROXY protocol are believed from within the pod, a route must not lead a client's bytes there.
    let (own, peer) = (canonical_ip(stream.local_addr().map_err(failed)?.ip()), canonical_ip(to.ip()));
    if hbone == Hbone::Agent && is_of_this_pod(own, peer) {
        return Err(format!("it leads back into this waypoint's own pod at {to}"));
    }
    stream.set_nodelay(true).map_err(failed)?;
    if let Some(keepalive) = &policy.tcp.keepalive {
        socket2::SockRef::from(&stream).set_tcp_keepalive(&probing(keepalive)).map_err(failed)?;
    }
    Ok(stream)
}

/// What is not said is the system's.
fn probing(of: &Keepalive) -> TcpKeepalive {
    // The system counts seconds, and takes no zero.
    let whole = |time: Duration| Duration::from_secs(time.as_secs().clamp(1, LONGEST_PROBE));
    let mut keepalive = TcpKeepalive::new();
    if let Some(time) = of.time {
        keepalive = keepalive.with_time(whole(time));
    }
    if let Some(interval) = of.interval {
        keepalive = keepalive.with_interval(whole(interval));
    }
    match of.probes {
        Some(probes) => keepalive.with_retries(probes.get().min(MOST_PROBES)),
        None => keepalive,
    }
}

fn alpn(speaks: Speaks) -> Alpn {
    match speaks {
        Speaks::Http1 => Alpn::Http1,
        Speaks::Http2 => Alpn::Http2,
        Speaks::Anything => Alpn::Unsaid,
    }
}

impl Place {
    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Known(endpoint) => endpoint.target,
            Self::Outside(address) => *address,
        }
    }

    /// The workload there, if it is one.
    pub(crate) fn workload(&self) -> Option<&Arc<Workload>> {
        match self {
            Self::Known(endpoint) => Some(&endpoint.workload),
            Self::Outside(_) => None,
        }
    }
}

async fn dial(
    netns: Rc<Netns>,
    settings: Settings,
    next_hop: SocketAddr,
    expect: Arc<[SpiffeId]>,
    certificate: Option<Arc<weir_identity::WorkloadTls>>,
) -> Result<Dialed<impl Future<Output = Lost>>, Error> {
    let certificate = certificate
        .ok_or_else(|| Error::Connect(Rc::new(io::Error::other("this waypoint has no valid certificate"))))?;
    let connecting = weir_net::connect(&netns, next_hop, Source::Any, Some(settings.tcp_keepalive));
    let late = Error::Deadline { what: "connection to the peer", after: settings.handshake };
    let stream =
        timeout(settings.handshake, connecting).await.map_err(|_| late)?.map_err(|e| Error::Connect(Rc::new(e)))?;
    let (client, run) = weir_hbone::connect(stream, certificate.client(&expect), settings).await?;
    Ok(Dialed { client, run })
}
