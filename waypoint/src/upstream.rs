//! The way to an endpoint: over HBONE into the mesh, in the clear to what is outside.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    path::Path,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use weir_hbone::{Dialed, Error, Lost, Pool, PoolKey, Role, Settings, Tunnel};
use weir_identity::Identities;
use weir_model::{Hostname, SpiffeId, canonical_ip};
use weir_net::{Netns, Source};
use weir_wire::{
    head::{Authority, Connect},
    trace::Traceparent,
};
use weir_world::{Endpoint, Way, World};

use crate::{handed::is_of_this_pod, worker::Hbone};

/// A connection to an endpoint.
pub(crate) enum Io {
    /// In the clear.
    Plain(TcpStream),
    /// Over HBONE.
    Tunnel(Tunnel),
}

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
}

/// Who it is for: what the peer is told, and what it may log. Nobody authorizes by it.
pub(crate) struct OnBehalf<'a> {
    pub(crate) client: SocketAddr,
    pub(crate) host: Option<&'a Hostname>,
}

impl Upstream {
    /// A way out for a worker. Without identities there is none into the mesh, unless an agent is the way.
    pub(crate) fn new(identities: Option<(Arc<Identities>, SpiffeId)>, hbone: Hbone) -> anyhow::Result<Self> {
        Ok(Self {
            pool: Rc::default(),
            settings: Settings::new(Role::Client),
            netns: Rc::new(Netns::open(Path::new("/proc/self/ns/net"))?),
            identities,
            hbone,
            baggage: RefCell::new(Rc::from("")),
            rng: RefCell::new(SmallRng::from_os_rng()),
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
    pub(crate) async fn connect(&self, to: &Endpoint, of: OnBehalf<'_>) -> Result<Io, String> {
        match (&to.way, self.hbone) {
            // It leaves the pod in the agent's tunnel: what is sent here came from that very agent, and while it is away nothing leaves the pod.
            (Way::Plain, hbone) | (Way::Tunnel { .. }, hbone @ Hbone::Agent) => {
                clear(to.target, hbone).await.map(Io::Plain).map_err(|error| format!("{error} at {}", to.target))
            }
            (Way::Tunnel { next_hop, expect }, Hbone::Waypoint) => {
                self.tunnel(to, *next_hop, expect, of).await.map(Io::Tunnel)
            }
            (Way::Unreachable(refusal), _) => Err(refusal.to_string()),
        }
    }

    async fn tunnel(
        &self,
        to: &Endpoint,
        next_hop: SocketAddr,
        expect: &Arc<[SpiffeId]>,
        of: OnBehalf<'_>,
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
        let connect = Connect { authority: &authority, baggage: &baggage, source: of.client, host: of.host, trace };
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

async fn clear(target: SocketAddr, hbone: Hbone) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(target).await?;
    // Where headers of the PROXY protocol are believed from within the pod, a route must not lead a client's bytes there.
    let (own, peer) = (canonical_ip(stream.local_addr()?.ip()), canonical_ip(target.ip()));
    if hbone == Hbone::Agent && is_of_this_pod(own, peer) {
        return Err(io::Error::other("it leads back into this waypoint's own pod"));
    }
    stream.set_nodelay(true)?;
    Ok(stream)
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

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_shutdown(cx),
        }
    }
}
