//! The two ends of a connection somebody asks about, found in the mesh.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use weir_model::{Hostname, Namespace, Network, Port, Service, SpiffeId, Tunnel, Workload, hint, nearest};
use weir_world::{Client, Family, Target, Who, World};

use crate::question::Wanted;

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// Nobody runs as the client.
    #[error("no workload with an address runs as {client}{}", hint(.meant.as_deref()))]
    NobodyRuns {
        /// As asked.
        client: String,
        /// Who may have been meant.
        meant: Option<String>,
    },
    /// Somebody runs as the client, but not there.
    #[error("{client}: no workload that runs so has that address; there is {known}")]
    NotThere {
        /// As asked.
        client: String,
        /// Where one runs.
        known: IpAddr,
    },
    /// Of a client without an identity only the address says anything.
    #[error("a client that proves nothing is known by its address only; say it: plaintext@ADDRESS")]
    NoAddress,
    /// The mesh does not know the service.
    #[error("the mesh knows no service {host}{}", hint(.meant.as_deref()))]
    UnknownService {
        /// As asked.
        host: Hostname,
        /// What may have been meant.
        meant: Option<String>,
    },
    /// The mesh does not know the pod.
    #[error("the mesh knows no pod {pod}{}", hint(.meant.as_deref()))]
    UnknownPod {
        /// `namespace/name`.
        pod: String,
        /// What may have been meant.
        meant: Option<String>,
    },
    /// The two have no family of addresses in common.
    #[error("{to} has no address that {from} can connect to: they have no network and family of addresses in common")]
    NoAddressInCommon {
        /// The client.
        from: String,
        /// The destination.
        to: String,
    },
}

/// Who connects.
pub(crate) struct Comer {
    /// What it proves. None in plaintext.
    pub(crate) identity: Option<SpiffeId>,
    /// Its workload. None for one outside the mesh that nobody knows.
    pub(crate) workload: Option<Workload>,
    /// All its addresses, the one that was said alone if one was.
    pub(crate) addresses: Vec<IpAddr>,
    /// What should be known of it.
    pub(crate) notes: Vec<String>,
}

/// Where to.
pub(crate) struct Goal {
    /// What the client connects to.
    pub(crate) address: SocketAddr,
    /// The service, if that is its address.
    pub(crate) service: Option<Arc<Service>>,
    /// What it is called, if it is anybody's.
    pub(crate) name: Option<String>,
    /// The authority of a request of which none was said.
    pub(crate) authority: String,
    /// What should be known of it.
    pub(crate) notes: Vec<String>,
}

/// `namespace/name` of a workload.
pub(crate) fn named(workload: &Workload) -> String {
    format!("{}/{}", workload.namespace, workload.name)
}

/// An identity as policies write it.
pub(crate) fn principal(identity: &SpiffeId) -> String {
    identity.to_string().replacen("spiffe://", "", 1)
}

impl Comer {
    /// The client, in that mesh.
    pub(crate) fn find(world: &World, client: &Client) -> Result<Self, ExplainError> {
        match &client.who {
            Some(who) => Self::known(world, client, who),
            None => Self::plaintext(world, client.address.ok_or(ExplainError::NoAddress)?),
        }
    }

    fn known(world: &World, client: &Client, who: &Who) -> Result<Self, ExplainError> {
        let (mut elsewhere, mut outside) = (None, None);
        for workload in world.workloads() {
            let Some(first) = workload.addresses.first() else { continue };
            if who.identity(&workload.trust_domain) != workload.identity() {
                continue;
            }
            match client.address {
                Some(address) if !workload.addresses.contains(&address) => elsewhere = elsewhere.or(Some(*first)),
                Some(_) | None if workload.tunnel == Tunnel::Hbone => return Ok(Self::enrolled(workload, client)),
                Some(_) | None => outside = outside.or(Some(workload)),
            }
        }
        match (outside, elsewhere) {
            (Some(workload), _) => {
                let note =
                    format!("{} is outside the mesh: it connects in plaintext, and proves nothing", named(&workload));
                let addresses = said(client, &workload);
                Ok(Self { identity: None, workload: Some(workload), addresses, notes: vec![note] })
            }
            (None, Some(known)) => Err(ExplainError::NotThere { client: client.to_string(), known }),
            (None, None) => {
                let accounts = world.workloads().map(|one| format!("{}/{}", one.namespace, one.service_account));
                let meant = nearest(&format!("{}/{}", who.namespace, who.service_account), accounts);
                Err(ExplainError::NobodyRuns { client: client.to_string(), meant })
            }
        }
    }

    fn enrolled(workload: Workload, client: &Client) -> Self {
        let (identity, addresses) = (Some(workload.identity()), said(client, &workload));
        Self { identity, workload: Some(workload), addresses, notes: Vec::new() }
    }

    fn plaintext(world: &World, address: IpAddr) -> Result<Self, ExplainError> {
        let workload = world.workloads().find(|one| one.addresses.contains(&address));
        let enrolled = workload.as_ref().filter(|one| one.tunnel == Tunnel::Hbone);
        let note = enrolled.map(|one| {
            format!(
                "{} is in the mesh: its agent would carry this over HBONE; asked is what comes of plaintext",
                named(one)
            )
        });
        let notes = note.into_iter().collect();
        Ok(Self { identity: None, workload, addresses: vec![address], notes })
    }

    /// The network it is in; the default one if nobody knows.
    pub(crate) fn network(&self) -> Network {
        self.workload.as_ref().map(|workload| workload.network.clone()).unwrap_or_default()
    }

    /// Its namespace, as far as it is known.
    pub(crate) fn namespace(&self) -> Option<&Namespace> {
        self.workload.as_ref().map(|workload| &workload.namespace)
    }

    /// Its name, for people.
    pub(crate) fn name(&self) -> String {
        match (&self.workload, self.addresses.first()) {
            (Some(workload), _) => named(workload),
            (None, Some(address)) => address.to_string(),
            (None, None) => "the client".to_owned(),
        }
    }

    /// Its address of a family.
    pub(crate) fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|one| Family::of(*one) == family)
    }

    fn reaches(&self, ip: &IpAddr) -> bool {
        self.address(Family::of(*ip)).is_some()
    }
}

/// The address that was said, or all of the workload's.
fn said(client: &Client, workload: &Workload) -> Vec<IpAddr> {
    client.address.map_or_else(|| workload.addresses.clone(), |address| vec![address])
}

impl Goal {
    /// The destination, in that mesh, as the client reaches it.
    pub(crate) fn find(world: &World, wanted: &Wanted, from: &Comer) -> Result<Self, ExplainError> {
        match wanted {
            Wanted::Service(host, port) => Self::service(world, host, *port, from),
            Wanted::Pod(target) => Self::pod(world, target, from),
            Wanted::Address(address) => Ok(Self::address(world, *address, from)),
        }
    }

    fn service(world: &World, host: &Hostname, port: Port, from: &Comer) -> Result<Self, ExplainError> {
        let mut named = world.services().filter(|service| is_called(service, host));
        let Some(service) = named.next() else {
            let short = host.as_str().matches('.').count() < 2;
            let known = world.services().map(|service| if short { short_of(service) } else { long_of(service) });
            return Err(ExplainError::UnknownService { host: host.clone(), meant: nearest(host.as_str(), known) });
        };
        let none = || ExplainError::NoAddressInCommon { from: from.name(), to: service.name.hostname.to_string() };
        let network = from.workload.as_ref().map(|workload| &workload.network);
        let vips = service.vips.iter().filter(|(of, _)| network.is_none_or(|network| of == network));
        let vip = vips.map(|(_, range)| range.addr()).find(|ip| from.reaches(ip));
        let mut notes = Vec::new();
        if let Some(namespace) = from.namespace()
            && !service.seen.by(Some(namespace))
        {
            let what = &service.name;
            notes.push(format!(
                "{what} is not exported to {namespace}: to the client its addresses are like any outside the mesh"
            ));
        }
        let ip = match vip {
            Some(ip) => ip,
            None if service.vips.is_empty() => {
                notes.push("a headless service: the client connects to one of its pods, here the first".to_owned());
                first_of(world, service, port, from).ok_or_else(none)?
            }
            None => return Err(none()),
        };
        let authority = if port.number() == 80 { host.to_string() } else { format!("{host}:{port}") };
        Ok(Self {
            address: SocketAddr::new(ip, port.number()),
            name: Some(format!("{}:{port}", service.name.hostname)),
            service: vip.map(|_| service.clone()),
            authority,
            notes,
        })
    }

    fn pod(world: &World, target: &Target, from: &Comer) -> Result<Self, ExplainError> {
        let is_it = |one: &Workload| one.namespace == target.namespace && &*one.name == target.pod.as_str();
        let Some(pod) = world.workloads().find(is_it) else {
            let pod = format!("{}/{}", target.namespace, target.pod);
            let meant = nearest(&pod, world.workloads().map(|one| named(&one)));
            return Err(ExplainError::UnknownPod { pod, meant });
        };
        let ip = pod.addresses.iter().find(|ip| from.reaches(ip)).copied();
        let ip = ip.ok_or_else(|| ExplainError::NoAddressInCommon { from: from.name(), to: named(&pod) })?;
        let address = SocketAddr::new(ip, target.port.number());
        let name = Some(named(&pod));
        Ok(Self { address, service: None, name, authority: address.to_string(), notes: Vec::new() })
    }

    fn address(world: &World, address: SocketAddr, from: &Comer) -> Self {
        let network = from.network();
        let service = world.service_for(from.namespace(), &network, address.ip()).cloned();
        let name = match &service {
            Some(service) => Some(format!("{}:{}", service.name.hostname, address.port())),
            None => world.workload_at(&network, address.ip()).map(|workload| named(&workload)),
        };
        Self { address, service, name, authority: address.to_string(), notes: Vec::new() }
    }
}

/// Whether a service is meant: by its whole name, or without the cluster's suffix, as resolvers complete it.
fn is_called(service: &Service, host: &Hostname) -> bool {
    let (full, given) = (service.name.hostname.as_str(), host.as_str());
    full == given
        || full.strip_prefix(given).is_some_and(|rest| {
            let is_of_cluster = full.starts_with(&format!("{}.{}.svc.", service.short_name, service.name.namespace));
            is_of_cluster && (rest.starts_with(".svc.") || given.ends_with(".svc") && rest.starts_with('.'))
        })
}

fn short_of(service: &Service) -> String {
    let of_cluster = format!("{}.{}", service.short_name, service.name.namespace);
    if service.name.hostname.as_str().starts_with(&format!("{of_cluster}.svc.")) {
        of_cluster
    } else {
        long_of(service)
    }
}

fn long_of(service: &Service) -> String {
    service.name.hostname.to_string()
}

/// The first workload behind a service, at an address that the client reaches.
fn first_of(world: &World, service: &Service, port: Port, from: &Comer) -> Option<IpAddr> {
    let network = from.network();
    let family = from.addresses.first().map_or(Family::V4, |ip| Family::of(*ip));
    let mut all = world.endpoints(&network, &service.name, port, family).map(|one| one.target.ip());
    all.find(|ip| from.reaches(ip))
}
