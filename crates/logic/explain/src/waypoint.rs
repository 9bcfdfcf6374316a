//! The hop through a waypoint: who is proven to ask, what stands before the service, where it is sent.

use std::{net::IpAddr, sync::Arc};

use rand::Rng;
use weir_authz::Ruling;
use weir_authz::http::HttpExplanation;
use weir_balance::{Algorithm, HashSource, HashTable};
use weir_model::{AppProtocol, Hostname, Port, Service, SpiffeId, Termination, Workload, WorkloadUid};
use weir_route::{Asker, MESH, Share};
use weir_serving::{ClusterPolicy, Host, Serving, Subset, UpstreamTls};
use weir_world::{Bound, Endpoint, Family, Way};

use crate::{
    ends::{Comer, Goal, named, principal},
    explained::{About, At, Hop, ReachedBy, Routed, Verdict},
    http, onward, outside,
    request::RequestText,
    scene::{Scene, Served},
    tcp,
};

/// The most endpoints of one destination that are listed.
const LISTED: usize = 10;

/// What comes of it at a waypoint.
pub(crate) enum Came {
    /// It ends there.
    Ended(Verdict, String),
    /// It is sent on to any of these.
    Sent(Vec<Sent>),
}

/// One place it may be sent to.
pub(crate) struct Sent {
    pub(crate) verdict: Verdict,
    pub(crate) reason: String,
    /// Those that may be chosen; of what leaves the mesh none.
    pub(crate) endpoints: Vec<Endpoint>,
}

/// A connection that a waypoint has taken.
pub(crate) struct Arrival<'a> {
    pub(crate) identity: &'a SpiffeId,
    pub(crate) client: IpAddr,
    pub(crate) labels: Option<Vec<(&'a str, &'a str)>>,
    pub(crate) to: &'a Goal,
    pub(crate) port: Port,
    /// None for a pod by its own address.
    pub(crate) service: Option<Arc<Service>>,
    pub(crate) serving: &'a Serving,
    pub(crate) waypoint: &'a Workload,
}

impl Arrival<'_> {
    /// What is said of the service.
    pub(crate) fn host(&self) -> Option<&Arc<Host>> {
        self.service.as_ref().and_then(|service| self.serving.host(&service.name.hostname))
    }

    /// Who asks, as rules see it.
    pub(crate) fn asker(&self) -> Asker<'_> {
        Asker {
            namespace: Some(self.identity.namespace()),
            labels: self.labels.as_deref(),
            gateway: MESH,
            port: self.port,
        }
    }
}

/// What becomes of it at the waypoint.
pub(crate) fn pass<S: Scene>(
    scene: &S,
    (from, to): (&Comer, &Goal),
    request: Option<&RequestText>,
    waypoint: &Arc<Workload>,
    rng: &mut impl Rng,
) -> (Hop, Came) {
    let world = scene.world();
    let gateway = onward::gateway_of(world, from, to.address);
    let name = gateway.as_ref().map_or_else(|| named(waypoint), |(namespace, name)| format!("{namespace}/{name}"));
    let mut hop = Hop::new(At::Waypoint, name);
    let came = match (gateway, &from.identity) {
        (Some((namespace, name)), Some(identity)) => match scene.serving(&namespace, &name) {
            Some(served) => taken(scene, (from, identity, to), request, (waypoint, &served), &mut hop, rng),
            None => {
                let why = format!("what {namespace}/{name} serves is not known here: ask it, or a folder");
                Came::Ended(Verdict::Unknown, why)
            }
        },
        (None, _) | (_, None) => {
            Came::Ended(Verdict::Unknown, "which Gateway's waypoint it is, is not known".to_owned())
        }
    };
    match &came {
        Came::Ended(verdict, reason) => hop.ends(*verdict, reason.clone()),
        Came::Sent(sent) => {
            let verdict = Verdict::of_any(sent.iter().map(|one| one.verdict));
            let reason = match sent.iter().find(|one| one.verdict != Verdict::Allow) {
                Some(bad) => bad.reason.clone(),
                None => "it is sent on".to_owned(),
            };
            hop.ends(verdict, reason);
        }
    }
    (hop, came)
}

fn taken<S: Scene>(
    scene: &S,
    (from, identity, to): (&Comer, &SpiffeId, &Goal),
    request: Option<&RequestText>,
    (waypoint, served): (&Arc<Workload>, &Served),
    hop: &mut Hop,
    rng: &mut impl Rng,
) -> Came {
    let world = scene.world();
    let deny = |why: String| Came::Ended(Verdict::Deny, why);
    let Some(client) = from.address(Family::of(to.address.ip())).or(from.addresses.first().copied()) else {
        return deny("the client has no address".to_owned());
    };
    hop.step(About::Identity, format!("{}, proven by its certificate, at {client}", principal(identity)));
    if let Termination::Proxy(port) = waypoint.termination {
        let agent = "its agent ends HBONE for it, and hands it on";
        hop.step(
            About::Note,
            format!("{agent} to port {port} behind a PROXY header; what follows is what our waypoint would do"),
        );
    }
    let service = match world.bound_to(&waypoint.uid, Some(identity.namespace()), to.address) {
        Some(Bound::Service(service)) => Some(service),
        Some(Bound::Workload(_)) => None,
        None => return deny(format!("{} is not bound to this waypoint", to.address)),
    };
    let Some(port) = Port::new(to.address.port()) else { return deny("port 0 is asked for".to_owned()) };
    let protocol = match &service {
        None => AppProtocol::Unknown,
        Some(service) => match service.ports.iter().find(|own| own.port == port) {
            Some(own) => own.protocol,
            None => return deny(format!("service {} has no port {port}", service.name)),
        },
    };
    // The address is the kernel's word and the identity the certificate's: only where both are one workload's, it is that.
    let workload = world.workload_at(&waypoint.network, client).filter(|one| one.identity() == *identity);
    let labels = workload.and_then(|workload| scene.labels(&workload.uid));
    let serving = &*served.serving;
    let arrival = Arrival { identity, client, labels, to, port, service, serving, waypoint };
    told(&arrival, served, hop);
    match (protocol, request) {
        (AppProtocol::Tcp | AppProtocol::Tls, request) => {
            if request.is_some() {
                hop.step(About::Note, format!("port {port} is one of {}: no request is read there", words(protocol)));
            }
            tcp::relay(scene, &arrival, hop, rng)
        }
        (AppProtocol::Unknown, None) => {
            let note = format!(
                "nothing is said of what port {port} speaks: this is for what is no HTTP; say a request for what is"
            );
            hop.step(About::Note, note);
            tcp::relay(scene, &arrival, hop, rng)
        }
        (AppProtocol::Http11 | AppProtocol::Http2 | AppProtocol::Grpc, None) => {
            let why = "the connection is taken; what becomes of requests is decided of each: say one, as 'GET /'";
            Came::Ended(Verdict::Allow, why.to_owned())
        }
        (AppProtocol::Unknown | AppProtocol::Http11 | AppProtocol::Http2 | AppProtocol::Grpc, Some(request)) => {
            http::ask(scene, &arrival, request, hop, rng)
        }
    }
}

fn words(protocol: AppProtocol) -> &'static str {
    match protocol {
        AppProtocol::Tls => "TLS",
        AppProtocol::Tcp => "TCP",
        AppProtocol::Http11 | AppProtocol::Http2 | AppProtocol::Grpc => "HTTP",
        AppProtocol::Unknown => "which nothing is said",
    }
}

/// What is to be told of the objects that shape these requests, or were meant to.
fn told(at: &Arrival<'_>, served: &Served, hop: &mut Hop) {
    let Some(service) = &at.service else { return };
    let host = at.host();
    let http = host.iter().flat_map(|host| host.http.objects());
    let tcp = host.iter().flat_map(|host| host.tcp.objects());
    let rule = host.iter().filter_map(|host| host.destinations.object.as_ref());
    let mut objects: Vec<String> = http.map(|one| format!("{} {}/{}", one.kind, one.namespace, one.name)).collect();
    objects.extend(tcp.map(|one| format!("{} {}/{}", one.kind, one.namespace, one.name)));
    objects.extend(rule.map(|object| format!("DestinationRule {object}")));
    let is_of = |note: &str, object: &str| note.strip_prefix(object).is_some_and(|rest| rest.starts_with([' ', ':']));
    let concerns = |note: &&String| {
        note.contains(service.name.hostname.as_str()) || objects.iter().any(|object| is_of(note, object))
    };
    served.notes.iter().filter(concerns).for_each(|note| hop.step(About::Note, note));
}

/// Takes over what policies say; whether it may go on, or else gets this answer.
pub(crate) fn ruled(said: HttpExplanation, answer: &str, hop: &mut Hop) -> Result<(), Came> {
    hop.step(About::Policy, format!("{}: {}", said.verdict, said.reason));
    hop.policies = said.policies;
    if let Some(audit) = said.audit {
        hop.step(About::Note, format!("audited by {audit}"));
    }
    if let Some(foreseen) = said.dry_run {
        hop.step(About::Note, format!("dry run: {}: {}", foreseen.verdict, foreseen.reason));
    }
    said.notes.iter().for_each(|note| hop.step(About::Note, note));
    match said.verdict {
        Ruling::Allow => Ok(()),
        Ruling::Deny => Err(Came::Ended(Verdict::Deny, format!("{answer}, {}", said.reason))),
    }
}

/// A place that something is sent to: a service's port, or a part of it.
pub(crate) struct Whither<'w> {
    pub(crate) host: &'w Hostname,
    pub(crate) port: Port,
    pub(crate) subset: Option<&'w str>,
    pub(crate) share: Share,
}

/// What is found there.
pub(crate) fn sent_to<S: Scene>(scene: &S, at: &Arrival<'_>, to: &Whither<'_>) -> (Routed, Sent) {
    let Whither { host, port, subset, share } = to;
    let name = format!("{host}:{port}{}", subset.map(|subset| format!(" subset {subset}")).unwrap_or_default());
    let mut routed = nowhere(*share, name);
    let destinations = at.serving.destinations(host);
    routed.rule = destinations
        .object
        .as_ref()
        .map(|object| (object.to_string(), destinations.file.as_deref().map(str::to_owned)));
    let chosen = match subset.map(|subset| destinations.subset(host, subset)).transpose() {
        Ok(chosen) => chosen,
        Err(error) => return refuse(routed, format!("503, {error}")),
    };
    let policies = chosen.map_or(&destinations.policies, |subset| &subset.policies);
    let policy = policies.of(*port);
    routed.policy = said_of(policy);
    if let UpstreamTls::Refused(why) = &policy.tls {
        return refuse(routed, format!("503, {why}"));
    }
    if let Some(out) = outside::sent_out(scene.world(), at, to, chosen, &routed) {
        return out;
    }
    let found = match policy.balance.algorithm {
        // Whoever it is: nothing is chosen.
        Algorithm::Passthrough => {
            original(scene, at).map(|found| found.into_iter().map(|(one, _)| (one, true)).collect())
        }
        Algorithm::LeastRequest | Algorithm::RoundRobin | Algorithm::Random | Algorithm::ConsistentHash(_) => {
            endpoints(scene, at, (host, *port, chosen))
        }
    };
    match found {
        Ok(found) => list(routed, found),
        Err(why) => refuse(routed, format!("503, {why}")),
    }
}

/// The pod that the client asked for by its address.
pub(crate) fn sent_to_pod<S: Scene>(scene: &S, at: &Arrival<'_>) -> (Routed, Sent) {
    let mut routed = nowhere(Share { weight: 1, total: 1 }, at.to.address.to_string());
    routed.policy = said_of(&ClusterPolicy::default());
    match original(scene, at) {
        Ok(found) => list(routed, found),
        Err(why) => refuse(routed, format!("503, {why}")),
    }
}

/// A place of which nothing is known yet.
pub(crate) fn nowhere(share: Share, to: String) -> Routed {
    Routed {
        weight: share.weight,
        total: share.total,
        to,
        verdict: Verdict::Allow,
        reason: String::new(),
        rule: None,
        policy: Vec::new(),
        changes: Vec::new(),
        ready: 0,
        endpoints: Vec::new(),
        more: 0,
    }
}

/// What is sent there is refused.
pub(crate) fn refuse(mut routed: Routed, why: String) -> (Routed, Sent) {
    (routed.verdict, routed.reason) = (Verdict::Deny, why.clone());
    let reason = format!("{} to {}: {why}", routed.share(), routed.to);
    (routed, Sent { verdict: Verdict::Deny, reason, endpoints: Vec::new() })
}

type Found = Vec<(Endpoint, bool)>;

fn list(mut routed: Routed, found: Found) -> (Routed, Sent) {
    routed.endpoints = found.iter().take(LISTED).map(|(endpoint, ready)| reached(endpoint, *ready)).collect();
    routed.more = found.len().saturating_sub(LISTED);
    let known = found.len();
    let endpoints: Vec<Endpoint> = found.into_iter().filter(|(_, ready)| *ready).map(|(one, _)| one).collect();
    routed.ready = endpoints.len();
    if endpoints.is_empty() {
        return refuse(
            routed,
            match known {
                0 => "503, it has no endpoint".to_owned(),
                1 => "503, its one endpoint is not ready".to_owned(),
                _ => format!("503, none of its {known} endpoints is ready"),
            },
        );
    }
    routed.reason = format!("{} of {known} endpoints ready", endpoints.len());
    (routed, Sent { verdict: Verdict::Allow, reason: String::new(), endpoints })
}

fn reached(endpoint: &Endpoint, ready: bool) -> ReachedBy {
    let way = match &endpoint.way {
        Way::Tunnel { .. } => "over HBONE".to_owned(),
        Way::Plain => "in the clear".to_owned(),
        Way::Unreachable(refusal) => format!("not at all: {refusal}"),
    };
    ReachedBy { workload: named(&endpoint.workload), address: endpoint.target, ready, way }
}

/// Who is where the client wanted to go.
fn original<S: Scene>(scene: &S, at: &Arrival<'_>) -> Result<Found, String> {
    let found = scene.world().pod_endpoint(&at.waypoint.network, at.to.address.ip(), at.port);
    let found = found.ok_or("nobody is where the client wanted to go")?;
    let ready = found.health == weir_model::Health::Healthy;
    Ok(vec![(found, ready)])
}

/// The endpoints of a service, or of a part of it, and which may be chosen.
fn endpoints<S: Scene>(
    scene: &S,
    at: &Arrival<'_>,
    (host, port, subset): (&Hostname, Port, Option<&Subset>),
) -> Result<Found, String> {
    let (world, network) = (scene.world(), &at.waypoint.network);
    let service = world.services().filter(|service| service.name.hostname == *host).last();
    let service = service.ok_or_else(|| format!("the mesh knows no service {host}"))?;
    if let Some(why) = &service.unsupported {
        return Err(format!("service {} cannot be reached by this version: {why}", service.name));
    }
    if !service.ports.iter().any(|own| own.port == port) {
        return Err(format!("service {} has no port {port}", service.name));
    }
    let is_of = |uid: &WorkloadUid| match subset {
        None => true,
        Some(subset) => scene
            .labels(uid)
            .is_some_and(|labels| subset.labels.iter().all(|(key, value)| labels.contains(&(&**key, &**value)))),
    };
    let vip = service.vips.iter().find(|(of, _)| of == network);
    let family = vip.map_or(Family::V4, |(_, vip)| Family::of(vip.addr()));
    let all = world.endpoints(network, &service.name, port, family).filter(|one| is_of(&one.workload.uid));
    Ok(all
        .map(|one| {
            let ready = onward::is_ready(service, &one);
            (one, ready)
        })
        .collect())
}

/// What a policy says that is to be known, in words.
fn said_of(policy: &ClusterPolicy) -> Vec<String> {
    let mut said = vec![match &policy.balance.algorithm {
        Algorithm::LeastRequest => "the endpoint with fewer requests under way".to_owned(),
        Algorithm::RoundRobin => "one endpoint after the other".to_owned(),
        Algorithm::Random => "any endpoint".to_owned(),
        Algorithm::Passthrough => "the address that the client asked for".to_owned(),
        Algorithm::ConsistentHash(hash) => {
            let key = match &hash.source {
                HashSource::Header(name) => format!("header {name}"),
                HashSource::Cookie(_) => "a cookie".to_owned(),
                HashSource::SourceIp => "the client's address".to_owned(),
                HashSource::Query(name) => format!("parameter {name} of the query"),
            };
            let table = match hash.table {
                HashTable::Ring(_) => "ring",
                HashTable::Maglev(_) => "maglev",
            };
            format!("always the same endpoint for {key} ({table})")
        }
    }];
    if policy.balance.outlier.is_some() {
        said.push("endpoints that fail are left out for a time".to_owned());
    }
    if !policy.balance.limits.are_none() {
        said.push("circuit breakers limit it".to_owned());
    }
    said.extend(outside::dressed(policy));
    said
}
