//! What the demonstration found, for programs and for people.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// What the demonstration found.
#[derive(Debug, Clone, Serialize)]
pub struct DemoReport {
    /// Without a waypoint.
    #[serde(flatten)]
    pub node: NodeSeen,
    /// How the sample's VirtualService split requests for todoui.
    pub split: SplitSeen,
    /// What a policy about requests did.
    pub authz: AuthzSeen,
}

/// What was found before there was a waypoint.
#[derive(Debug, Clone, Serialize)]
pub struct NodeSeen {
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

/// Answers by version, where the VirtualService says 90 to 10.
#[derive(Debug, Clone, Serialize)]
pub struct SplitSeen {
    /// Requests sent.
    pub requests: u64,
    /// Answers from version 0.1.
    pub v0_1: u64,
    /// Answers from version 0.2.
    pub v0_2: u64,
}

/// Requests to the backend under a policy by which only the UI may GET it.
#[derive(Debug, Clone, Serialize)]
pub struct AuthzSeen {
    /// Requests of the UI that the backend answered.
    pub allowed: u64,
    /// Requests of another client that the waypoint answered with 403.
    pub denied: u64,
    /// Who was allowed: the identity that the waypoint was shown.
    pub allowed_identity: String,
    /// Who was denied.
    pub denied_identity: String,
}

impl SplitSeen {
    /// Whether it is 90 to 10: every request answered, and no further off than chance, five times its standard deviation.
    fn is_as_written(&self) -> bool {
        let tenth = self.requests / 10;
        // The variance of a tenth of n is 0.09 n.
        let off = self.v0_2.abs_diff(tenth);
        self.requests > 0 && self.v0_1 + self.v0_2 == self.requests && off * off * 100 <= 25 * 9 * self.requests
    }
}

impl DemoReport {
    /// What is not as it must be; empty when all is well.
    #[must_use]
    pub fn faults(&self) -> Vec<&'static str> {
        let Self { node, split, authz } = self;
        let (ui, client) =
            (authz.allowed_identity.ends_with("/sa/todoui"), authz.denied_identity.ends_with("/sa/client"));
        let checks = [
            (node.requests_ok == 0 || node.requests_failed > 0, "requests failed"),
            (!node.source_ip_preserved, "the server did not see the client's own address"),
            (node.wire.plaintext_hits > 0, "payload was readable on the wire"),
            (node.wire.control_hits == 0, "the listener did not hear what was sent in the clear"),
            (node.wire.packets_missed > 0, "the listener missed packets"),
            (node.wire.tls_version != "TLSv1.3", "the wire did not speak TLS 1.3"),
            (!split.is_as_written(), "the split is not 90 to 10"),
            (authz.allowed == 0 || !ui, "the UI was not let in"),
            (authz.denied == 0 || authz.denied != authz.allowed || !client, "somebody else was not kept out"),
        ];
        checks.into_iter().filter_map(|(wrong, what)| wrong.then_some(what)).collect()
    }
}

impl fmt::Display for DemoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, split, authz } = self;
        let NodeSeen { wire, metrics, .. } = node;
        let line = |f: &mut fmt::Formatter<'_>, what: &str, value: String| writeln!(f, "  {what:<22} {value}");
        let versions: Vec<_> = node.versions.iter().map(|(version, count)| format!("{count} from {version}")).collect();
        writeln!(f, "requests")?;
        line(f, "served in the mesh", format!("{} ok, {} failed", node.requests_ok, node.requests_failed))?;
        line(f, "todoui answered", versions.join(", "))?;
        line(f, "to a pod outside", format!("{} ok, in the clear", node.requests_to_unenrolled_ok))?;
        writeln!(f, "the server saw")?;
        line(f, "client address", node.client_seen.join(", "))?;
        let kept = if node.source_ip_preserved { "yes" } else { "NO" };
        line(f, "is the client's own", format!("{kept} ({})", node.client_addresses.join(", ")))?;
        line(f, "client identity", node.peer_identity.clone())?;
        writeln!(f, "on the wire")?;
        line(f, "connections, packets", format!("{} to port 15008, {} packets", wire.hbone_connections, wire.packets))?;
        line(f, "TLS", format!("{}, {}, {}", wire.tls_version, wire.key_exchange, wire.cipher))?;
        line(f, "server name in clear", if wire.server_name_sent { "YES" } else { "no" }.into())?;
        line(f, "payload in the clear", format!("{} times", wire.plaintext_hits))?;
        line(f, "proof we can hear", format!("{} times, what went outside the mesh", wire.control_hits))?;
        writeln!(f, "metrics (:15020)")?;
        let (source, destination) = (metrics.connections_by_source, metrics.connections_by_destination);
        line(f, "connections", format!("{source} by source, {destination} by destination"))?;
        line(f, "bytes", format!("{} sent, {} received", metrics.bytes_sent, metrics.bytes_received))?;
        writeln!(f, "through a waypoint")?;
        line(f, "todoui, 90 to 10", format!("{} from 0.1, {} from 0.2", split.v0_1, split.v0_2))?;
        line(f, "GET todobackend", format!("{} allowed, {} denied", authz.allowed, authz.denied))?;
        line(f, "allowed", authz.allowed_identity.clone())?;
        line(f, "denied", authz.denied_identity.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> DemoReport {
        let wire = WireSeen {
            tls_version: "TLSv1.3".into(),
            key_exchange: "X25519MLKEM768".into(),
            cipher: "TLS_AES_128_GCM_SHA256".into(),
            server_name_sent: false,
            hbone_connections: 8,
            packets: 1649,
            bytes: 300_000,
            packets_missed: 0,
            plaintext_hits: 0,
            control_hits: 250,
        };
        let metrics =
            MetricsSeen { connections_by_source: 1, connections_by_destination: 1, bytes_sent: 1, bytes_received: 1 };
        let node = NodeSeen {
            requests_ok: 1000,
            requests_failed: 0,
            requests_to_unenrolled_ok: 250,
            source_ip_preserved: true,
            client_seen: Vec::new(),
            client_addresses: Vec::new(),
            peer_identity: String::new(),
            versions: BTreeMap::new(),
            wire,
            metrics,
        };
        let authz = AuthzSeen {
            allowed: 100,
            denied: 100,
            allowed_identity: "spiffe://cluster.local/ns/default/sa/todoui".into(),
            denied_identity: "spiffe://cluster.local/ns/default/sa/client".into(),
        };
        DemoReport { node, split: SplitSeen { requests: 10_000, v0_1: 9_000, v0_2: 1_000 }, authz }
    }

    #[test]
    fn what_is_not_as_it_must_be_is_said() {
        assert_eq!(report().faults(), Vec::<&str>::new());
        type Change = fn(&mut DemoReport);
        let changes: [(Change, &str); 9] = [
            (|r| r.node.requests_failed = 1, "requests failed"),
            (|r| r.node.wire.plaintext_hits = 1, "payload was readable on the wire"),
            (|r| (r.split.v0_1, r.split.v0_2) = (8_849, 1_151), "the split is not 90 to 10"),
            (|r| r.split.v0_1 = 8_999, "the split is not 90 to 10"),
            (|r| r.split = SplitSeen { requests: 0, v0_1: 0, v0_2: 0 }, "the split is not 90 to 10"),
            (|r| (r.authz.allowed, r.authz.denied) = (0, 0), "the UI was not let in"),
            (|r| r.authz.allowed_identity.clear(), "the UI was not let in"),
            (|r| r.authz.denied = 99, "somebody else was not kept out"),
            (|r| r.authz.denied_identity.push('2'), "somebody else was not kept out"),
        ];
        for (number, (change, want)) in changes.into_iter().enumerate() {
            let mut changed = report();
            change(&mut changed);
            assert!(changed.faults().contains(&want), "change {number}: {:?}", changed.faults());
        }
        let mut chance = report();
        (chance.split.v0_1, chance.split.v0_2) = (9_150, 850);
        assert_eq!(chance.faults(), Vec::<&str>::new());
    }

    #[test]
    fn programs_and_people_find_the_same() {
        let json = serde_json::to_value(report()).unwrap();
        for (pointer, want) in [
            ("/requests_ok", 1000),
            ("/wire/plaintext_hits", 0),
            ("/split/v0_1", 9_000),
            ("/split/v0_2", 1_000),
            ("/authz/allowed", 100),
            ("/authz/denied", 100),
        ] {
            assert_eq!(json.pointer(pointer).and_then(serde_json::Value::as_u64), Some(want), "{pointer} in {json}");
        }
        let text = report().to_string();
        for want in ["9000 from 0.1, 1000 from 0.2", "100 allowed, 100 denied", "/sa/todoui\n", "/sa/client\n"] {
            assert!(text.contains(want), "{want} is not in\n{text}");
        }
    }
}
