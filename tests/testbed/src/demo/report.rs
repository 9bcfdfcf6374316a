//! What the demonstration found, for programs and for people.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// What the demonstration found.
#[derive(Debug, Clone, Serialize)]
pub struct DemoReport {
    /// Requests between pods of the mesh that were answered with 200.
    pub requests_ok: u64,
    /// Those that were not.
    pub requests_failed: u64,
    /// Requests from the mesh to the pod outside that were answered with 200.
    pub requests_to_unenrolled_ok: u64,
    /// Whether the server saw the client's own address, on IPv4 and IPv6.
    pub source_ip_preserved: bool,
    /// Whom the server saw.
    pub client_seen: Vec<String>,
    /// The client's own addresses.
    pub client_addresses: Vec<String>,
    /// Whom the server's agent saw: the identity in the client's certificate.
    pub peer_identity: String,
    /// Answers by version of the app behind the service todoui.
    pub versions: BTreeMap<String, u32>,
    /// What was heard on the wire.
    pub wire: WireSeen,
    /// What the agents count.
    pub metrics: MetricsSeen,
}

/// What was heard on the wire between the nodes.
#[derive(Debug, Clone, Serialize)]
pub struct WireSeen {
    /// TLS version, such as `TLSv1.3`.
    pub tls_version: String,
    /// Key exchange group, such as `X25519MLKEM768`.
    pub key_exchange: String,
    /// Cipher suite.
    pub cipher: String,
    /// Whether a client named its server in the clear.
    pub server_name_sent: bool,
    /// TCP connections between the agents.
    pub hbone_connections: u64,
    /// Packets heard.
    pub packets: u64,
    /// Bytes heard.
    pub bytes: u64,
    /// Packets that passed unheard; must be zero for the next line to be a proof.
    pub packets_missed: u64,
    /// Times the payload of the mesh was found.
    pub plaintext_hits: u64,
    /// Times the payload sent to the pod outside the mesh was found: the proof that the listener hears.
    pub control_hits: u64,
}

/// Sums of the agents' metrics.
#[derive(Debug, Clone, Serialize)]
pub struct MetricsSeen {
    /// Connections that the agents of the clients count.
    pub connections_by_source: u64,
    /// Connections that the agents of the servers count.
    pub connections_by_destination: u64,
    /// Payload bytes the clients sent.
    pub bytes_sent: u64,
    /// Payload bytes the clients received.
    pub bytes_received: u64,
}

impl DemoReport {
    /// What is not as it must be; empty when all is well.
    #[must_use]
    pub fn faults(&self) -> Vec<&'static str> {
        let checks = [
            (self.requests_ok == 0 || self.requests_failed > 0, "requests failed"),
            (!self.source_ip_preserved, "the server did not see the client's own address"),
            (self.wire.plaintext_hits > 0, "payload was readable on the wire"),
            (self.wire.control_hits == 0, "the listener did not hear what was sent in the clear"),
            (self.wire.packets_missed > 0, "the listener missed packets"),
            (self.wire.tls_version != "TLSv1.3", "the wire did not speak TLS 1.3"),
        ];
        checks.into_iter().filter_map(|(wrong, what)| wrong.then_some(what)).collect()
    }
}

impl fmt::Display for DemoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wire, metrics, .. } = self;
        let line = |f: &mut fmt::Formatter<'_>, what: &str, value: String| writeln!(f, "  {what:<22} {value}");
        let versions: Vec<_> = self.versions.iter().map(|(version, count)| format!("{count} from {version}")).collect();
        writeln!(f, "requests")?;
        line(f, "served in the mesh", format!("{} ok, {} failed", self.requests_ok, self.requests_failed))?;
        line(f, "todoui answered", versions.join(", "))?;
        line(f, "to a pod outside", format!("{} ok, in the clear", self.requests_to_unenrolled_ok))?;
        writeln!(f, "the server saw")?;
        line(f, "client address", self.client_seen.join(", "))?;
        let kept = if self.source_ip_preserved { "yes" } else { "NO" };
        line(f, "is the client's own", format!("{kept} ({})", self.client_addresses.join(", ")))?;
        line(f, "client identity", self.peer_identity.clone())?;
        writeln!(f, "on the wire")?;
        line(f, "connections, packets", format!("{} to port 15008, {} packets", wire.hbone_connections, wire.packets))?;
        line(f, "TLS", format!("{}, {}, {}", wire.tls_version, wire.key_exchange, wire.cipher))?;
        line(f, "server name in clear", if wire.server_name_sent { "YES" } else { "no" }.into())?;
        line(f, "payload in the clear", format!("{} times", wire.plaintext_hits))?;
        line(f, "proof we can hear", format!("{} times, what went outside the mesh", wire.control_hits))?;
        writeln!(f, "metrics (:15020)")?;
        let (source, destination) = (metrics.connections_by_source, metrics.connections_by_destination);
        line(f, "connections", format!("{source} by source, {destination} by destination"))?;
        line(f, "bytes", format!("{} sent, {} received", metrics.bytes_sent, metrics.bytes_received))
    }
}
