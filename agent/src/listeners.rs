//! The agent's listeners inside a pod: for what the pod sends, for HBONE, for what comes in without it.

use std::{io, net::IpAddr, net::SocketAddr};

use weir_hbone::{Role, Settings};
use weir_net::{Listener, ListenerSettings, Netns};

/// The listeners of one worker in one pod.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// One per family of the pod, on its own address: the kernel rewrites caught connections to it.
    pub(crate) outbound: Vec<Listener>,
    /// Chosen by the kernel for port 15008.
    pub(crate) hbone: Listener,
    /// Chosen by the kernel for every other port.
    pub(crate) inbound: Listener,
}

impl Listeners {
    /// Where caught connections of each family must go.
    pub(crate) fn outbound(&self, v4: bool) -> Option<SocketAddr> {
        self.outbound.iter().map(Listener::local).find(|at| at.is_ipv4() == v4)
    }

    /// The ports they take.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let all = self.outbound.iter().chain([&self.hbone, &self.inbound]);
        all.map(|listener| listener.local().port()).collect()
    }
}

/// Opens the listeners of `workers` workers; those of one kind share a port and the kernel spreads connections over them.
///
/// # Errors
/// What the system says.
pub(crate) fn open(netns: &Netns, addresses: &[IpAddr], workers: usize) -> io::Result<Vec<Listeners>> {
    let plain = ListenerSettings { keepalive: None };
    let tunnel = ListenerSettings { keepalive: Some(Settings::new(Role::Server).tcp_keepalive) };
    let mut all: Vec<Listeners> = Vec::with_capacity(workers);
    for _ in 0..workers {
        let first = all.first();
        let port = |pick: fn(&Listeners) -> &Listener| first.map_or(0, |l| pick(l).local().port());
        let hbone = Listener::bind_any(netns, port(|l| &l.hbone), &tunnel)?;
        let inbound = Listener::bind_any(netns, port(|l| &l.inbound), &plain)?;
        let mut outbound = Vec::new();
        for v4 in [true, false] {
            let Some(ip) = addresses.iter().find(|ip| ip.is_ipv4() == v4) else { continue };
            let at = first.and_then(|l| l.outbound(v4)).unwrap_or(SocketAddr::new(*ip, 0));
            outbound.push(Listener::bind(netns, at, &plain)?);
        }
        all.push(Listeners { outbound, hbone, inbound });
    }
    Ok(all)
}
