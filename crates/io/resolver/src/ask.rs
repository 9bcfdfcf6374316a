//! One name, asked for.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ProtocolConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use weir_model::{Hostname, canonical_ip};

use crate::{
    Error,
    usable::{has_route, is_usable},
};

/// Most addresses of a name that count.
const MOST: usize = 256;
/// How long a server may take, and how often it is asked.
const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;

/// Who is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Servers {
    /// Those of the system: `/etc/resolv.conf` and `/etc/hosts`, as they are now.
    #[default]
    System,
    /// These.
    These(Vec<SocketAddr>),
}

/// What a name has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its addresses, at least one, in the order of the answer.
    pub addresses: Vec<IpAddr>,
    /// How long that holds.
    pub holds: Duration,
}

impl Servers {
    /// A resolver that asks them.
    pub(crate) fn resolver(&self) -> Result<TokioResolver, Error> {
        let mut builder = match self {
            Self::System => TokioResolver::builder_tokio().map_err(Error::System)?,
            Self::These(servers) => {
                let servers = servers.iter().map(|at| server(*at)).collect();
                let config = ResolverConfig::from_parts(None, Vec::new(), servers);
                Resolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        (options.timeout, options.attempts) = (PATIENCE, ATTEMPTS);
        // What holds how long is known here.
        options.cache_size = 0;
        builder.build().map_err(Error::Setup)
    }
}

fn server(at: SocketAddr) -> NameServerConfig {
    let over = |protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = at.port();
        connection
    };
    NameServerConfig::new(canonical_ip(at.ip()), true, vec![over(ProtocolConfig::Udp), over(ProtocolConfig::Tcp)])
}

/// Asks for the addresses of a name.
pub(crate) async fn ask(resolver: &TokioResolver, name: &Hostname) -> Result<Answer, Error> {
    // A name with a dot is whole: none of the cluster's domains is put behind it first.
    let whole = if name.as_str().contains('.') { format!("{name}.") } else { name.to_string() };
    let found = resolver.lookup_ip(whole).await;
    let found = found.map_err(|why| Error::Lookup { name: name.to_string(), why: why.to_string() })?;
    let holds = found.valid_until().saturating_duration_since(Instant::now());
    let all: Vec<IpAddr> = found.iter().take(MOST).map(canonical_ip).collect();
    Ok(Answer { addresses: chosen(name, &all, has_route)?, holds })
}

/// Those that may be gone to and can, each once.
fn chosen(name: &Hostname, all: &[IpAddr], has_route: impl Fn(IpAddr) -> bool) -> Result<Vec<IpAddr>, Error> {
    let mut chosen: Vec<IpAddr> = Vec::new();
    for ip in all.iter().copied().filter(|ip| is_usable(*ip) && has_route(*ip)) {
        if !chosen.contains(&ip) {
            chosen.push(ip);
        }
    }
    match chosen.is_empty() {
        true => Err(Error::Unusable { name: name.to_string(), found: all.len() }),
        false => Ok(chosen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_lead_nowhere_are_not_chosen() {
        let ip = |text: &&str| text.parse::<IpAddr>().unwrap();
        for (all, want) in [
            (vec!["192.0.2.1", "2001:db8::1"], Some(vec!["192.0.2.1"])),
            (vec!["192.0.2.2", "192.0.2.1", "192.0.2.2"], Some(vec!["192.0.2.2", "192.0.2.1"])),
            (vec!["127.0.0.1", "192.0.2.1"], Some(vec!["192.0.2.1"])),
            (vec!["2001:db8::1"], None),
            (vec!["169.254.169.254"], None),
            (vec![], None),
        ] {
            let all: Vec<IpAddr> = all.iter().map(ip).collect();
            let chosen = chosen(&"a.example".parse().unwrap(), &all, |ip| ip.is_ipv4());
            assert_eq!(chosen.ok(), want.map(|want| want.iter().map(ip).collect()), "{all:?}");
        }
    }
}
