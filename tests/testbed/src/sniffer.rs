//! An ear on a link: finds what must not be there, and reads what of TLS is in the clear.

mod flow;
mod packet;
mod tls;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use serde::Serialize;
use weir_netlink::{NetNs, PacketSocket};

use self::flow::{Flow, hits};
use self::packet::{Segment, parse};
pub use self::tls::TlsSession;

/// HBONE's port.
const HBONE: u16 = 15008;
/// A packet that the kernel has not cut up yet, with its Ethernet header.
const LARGEST_PACKET: usize = 80 << 10;
/// How long to listen on after the end, for packets still queued.
const AFTERWARDS: Duration = Duration::from_millis(100);

/// What was heard.
#[derive(Debug, Clone, Default, Serialize)]
pub struct WireReport {
    /// Packets heard; one that is left to hardware segmentation counts once.
    pub packets: u64,
    /// Bytes heard, headers included.
    pub bytes: u64,
    /// Packets that passed unheard because the listener was too slow. Anything but zero makes the counts below lower bounds.
    pub lost: u64,
    /// Times the needle passed, also across the segments of a TCP stream.
    pub needle_hits: u64,
    /// TCP connections opened to port 15008.
    pub hbone_connections: u64,
    /// TCP connections opened to other ports.
    pub other_connections: u64,
    /// The TLS handshakes on connections to port 15008.
    pub tls: Vec<TlsSession>,
}

/// Listens from its start to [`Sniffer::stop`].
#[derive(Debug)]
pub struct Sniffer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<WireReport>>>,
}

struct Listener {
    needle: Vec<u8>,
    report: WireReport,
    flows: HashMap<flow::Key, Flow>,
}

impl Sniffer {
    /// Starts to listen on `link` of `netns` for `needle`. Everything sent after it returns is heard.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, or when there is no such link.
    pub fn start(netns: &NetNs, link: &str, needle: &[u8]) -> anyhow::Result<Self> {
        let socket = PacketSocket::listen(netns, link)?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut listener = Listener { needle: needle.to_vec(), report: WireReport::default(), flows: HashMap::new() };
        let asked = Arc::clone(&stop);
        let thread = thread::Builder::new().name("sniffer".into()).spawn(move || {
            listener.listen(&socket, &asked)?;
            Ok(listener.finish())
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Stops, once all that is queued was looked at.
    ///
    /// # Errors
    /// When the link went away meanwhile.
    pub fn stop(mut self) -> anyhow::Result<WireReport> {
        self.stop.store(true, Ordering::Release);
        let thread = self.thread.take().context("it is stopped once")?;
        thread.join().map_err(|_| anyhow!("the sniffer panicked"))?
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

impl Listener {
    fn listen(&mut self, socket: &PacketSocket, asked_to_stop: &AtomicBool) -> anyhow::Result<()> {
        let mut buffer = vec![0; LARGEST_PACKET];
        let mut last = None;
        loop {
            let stopping = asked_to_stop.load(Ordering::Acquire);
            let heard = socket.receive(&mut buffer, AFTERWARDS)?;
            if let Some(packet) = heard {
                self.take(packet);
            }
            if stopping {
                let deadline = *last.get_or_insert_with(|| Instant::now() + Duration::from_secs(5));
                if heard.is_none() || Instant::now() > deadline {
                    self.report.lost += u64::from(socket.stats()?.lost);
                    return Ok(());
                }
            }
        }
    }

    fn take(&mut self, packet: &[u8]) {
        self.report.packets += 1;
        self.report.bytes += u64::try_from(packet.len()).expect("64 bits at most");
        let Some(segment) = parse(packet) else {
            self.report.needle_hits += hits(&self.needle, packet);
            return;
        };
        let Segment { from, to, .. } = segment;
        if segment.opens {
            let count = if to.port() == HBONE {
                &mut self.report.hbone_connections
            } else {
                &mut self.report.other_connections
            };
            // A SYN that is sent again opens nothing new.
            if self.flows.get(&(from, to)).is_none_or(|flow| !flow.began_at(segment.sequence)) {
                *count += 1;
                self.flows.insert((from, to), Flow::default());
                self.flows.insert((to, from), Flow::default());
            }
        }
        let keep = from.port() == HBONE || to.port() == HBONE;
        let flow = self.flows.entry((from, to)).or_default();
        self.report.needle_hits += flow.take(&segment, &self.needle, keep);
    }

    fn finish(mut self) -> WireReport {
        let mut clients: Vec<_> = self.flows.keys().filter(|(_, to)| to.port() == HBONE).copied().collect();
        clients.sort_unstable();
        for (from, to) in clients {
            let (client, server) = (self.flows.get(&(from, to)), self.flows.get(&(to, from)));
            let prefix = |flow: Option<&Flow>| flow.map(|flow| flow.prefix().to_vec()).unwrap_or_default();
            if let Some(session) = tls::session(&prefix(client), &prefix(server)) {
                self.report.tls.push(session);
            }
        }
        self.report
    }
}
