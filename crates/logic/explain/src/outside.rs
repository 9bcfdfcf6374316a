//! What a waypoint sends out of the mesh: to names, or to the very address that was asked for.

use weir_serving::{Answers, ClusterPolicy, NamedEndpoint, ProxyProtocol, Resolution, Spot, Subset, UpstreamTls};
use weir_world::World;

use crate::{
    explained::{Routed, Verdict},
    waypoint::{Arrival, Sent, Whither, refuse},
};

/// What is sent to a host whose endpoints are no workloads; nothing for one whose endpoints are.
pub(crate) fn sent_out(
    world: &World,
    at: &Arrival<'_>,
    to: &Whither<'_>,
    subset: Option<&Subset>,
    routed: &Routed,
) -> Option<(Routed, Sent)> {
    let host = at.serving.host(to.host)?;
    let mut routed = routed.clone();
    let place = match &host.external.resolution {
        Resolution::Mesh => return None,
        Resolution::Original => {
            let asked = at.to.address;
            if world.pod_endpoint(&at.waypoint.network, asked.ip(), at.port).is_some() {
                return None;
            }
            if let Some(choice) = routed.policy.first_mut() {
                *choice = "the address that the client asked for".to_owned();
            }
            format!("{asked}, the address that was asked for")
        }
        Resolution::Names(answers, endpoints) => {
            let is_of = |one: &&NamedEndpoint| {
                let has = |(key, value)| one.labels.get(key).is_some_and(|own| own == value);
                subset.is_none_or(|subset| subset.labels.iter().all(has)) && one.ports.contains_key(&to.port)
            };
            let places: Vec<String> = endpoints.iter().filter(is_of).map(|one| said(one, to)).collect();
            let which = match answers {
                Answers::All => "any address",
                Answers::First => "the first address",
            };
            match places.as_slice() {
                [] => return Some(refuse(routed, "503, it has no endpoint".to_owned())),
                places => format!("{which} of {}", places.join(", ")),
            }
        }
    };
    let reason = format!("it leaves the mesh for {place}");
    let routed = Routed { verdict: Verdict::Allow, reason: reason.clone(), ..routed };
    Some((routed, Sent { verdict: Verdict::Allow, reason, endpoints: Vec::new() }))
}

fn said(one: &NamedEndpoint, to: &Whither<'_>) -> String {
    let port = one.ports.get(&to.port).copied().unwrap_or(to.port);
    match &one.at {
        Spot::Ip(ip) => std::net::SocketAddr::new(*ip, port.number()).to_string(),
        Spot::Name(name) => format!("{name}:{port}"),
    }
}

/// What is on the connection before its client's bytes.
pub(crate) fn dressed(policy: &ClusterPolicy) -> Vec<String> {
    let mut said = Vec::new();
    match policy.proxy_protocol {
        Some(ProxyProtocol::V1) => said.push("behind a PROXY header of version 1".to_owned()),
        Some(ProxyProtocol::V2) => said.push("behind a PROXY header of version 2".to_owned()),
        None => {}
    }
    match &policy.tls {
        UpstreamTls::Own(tls) => {
            let mode = if tls.own.is_some() { "MUTUAL" } else { "SIMPLE" };
            said.push(format!("with TLS of its own, of mode {mode}"));
        }
        UpstreamTls::Mesh | UpstreamTls::Off | UpstreamTls::Refused(_) => {}
    }
    if let Some(tunnel) = &policy.tunnel {
        said.push(format!("what is no HTTP led on to {}:{} by CONNECT", tunnel.host, tunnel.port));
    }
    said
}
