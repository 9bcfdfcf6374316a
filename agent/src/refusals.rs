//! Connections that were refused lately, with what is needed to say why and what would let them through. Telling that is left to whoever asks:
//! what is refused costs no more than its line in the log.

use std::{net::SocketAddr, sync::Arc};

use serde_json::{Value, json};
use weir_explain::listing::limit_of;
use weir_model::{Namespace, ResponseFlag, SpiffeId, Workload};
use weir_telemetry::{Cursor, Direction, Happened, Query, Recent, Recorder, clipped};
use weir_world::{Refusal, World};

use crate::{
    observe::{Party, Subject},
    run::timestamp,
};

/// Refusals that are kept for each worker.
const KEPT: usize = 256;

/// The refusals of all workers.
pub(crate) type Refusals = Arc<Recent<Refused>>;

/// Those of so many workers.
pub(crate) fn rings(workers: usize) -> Refusals {
    Recent::new(workers, KEPT)
}

/// A connection that did not come about, or was ended.
#[derive(Debug)]
pub(crate) struct Refused {
    direction: Direction,
    source: Option<Party>,
    destination: Party,
    service: Option<Box<str>>,
    flag: ResponseFlag,
    reason: Box<str>,
    /// What the mesh said, if it was that.
    by: Option<Box<Refusal>>,
}

/// The end of one worker.
#[derive(Debug)]
pub(crate) struct Refuser(Recorder<Refused>);

impl Refuser {
    pub(crate) fn new(refusals: &Refusals, worker: usize) -> Self {
        Self(refusals.recorder(worker))
    }

    /// Notes a connection that did not come about.
    pub(crate) fn note(&self, subject: &Subject, flag: ResponseFlag, reason: &str, by: Option<&Refusal>) {
        self.0.note(Refused {
            direction: subject.direction,
            source: Some(subject.source.clone()),
            destination: subject.destination.clone(),
            service: subject.service.as_ref().map(|service| service.name.hostname.as_str().into()),
            flag,
            reason: clipped(reason),
            by: by.cloned().map(Box::new),
        });
    }
}

/// What connections somebody asks about: those with an end like this.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ends {
    namespace: Option<Namespace>,
    name: Option<Box<str>>,
}

impl Ends {
    /// What the fields `namespace` and `name` say.
    ///
    /// # Errors
    /// If one is none.
    pub(crate) fn read(namespace: Option<&str>, name: Option<&str>) -> Result<Self, String> {
        let namespace =
            namespace.map(|text| text.parse().map_err(|error| format!("namespace: {error}"))).transpose()?;
        Ok(Self { namespace, name: name.map(Into::into) })
    }

    /// Whether one end is.
    pub(crate) fn has(&self, one: &Party, other: &Party) -> bool {
        self.is(one) || self.is(other)
    }

    fn is(&self, party: &Party) -> bool {
        let workload = party.workload.as_deref();
        let namespace = workload.map(|own| &own.namespace).or(party.identity.as_ref().map(SpiffeId::namespace));
        let called = |name: &str| {
            workload.is_some_and(|own| *own.name == *name || *own.workload_name == *name)
                || party.identity.as_ref().is_some_and(|own| own.service_account().as_str() == name)
        };
        self.namespace.as_ref().is_none_or(|wanted| namespace == Some(wanted))
            && self.name.as_deref().is_none_or(called)
    }
}

/// `/debug/refusals`: the newest, or what came behind a cursor.
///
/// # Errors
/// What is wrong with the query.
pub(crate) fn answer(refusals: &Refusals, world: &World, query: &Query) -> Result<Value, String> {
    let [namespace, name, after, limit] = query.fields(["namespace", "name", "after", "limit"])?;
    let ends = Ends::read(namespace, name)?;
    let after = after.map(str::parse::<Cursor>).transpose()?;
    let wanted = |one: &Refused| ends.has(one.source.as_ref().unwrap_or(&one.destination), &one.destination);
    let page = refusals.after(after.as_ref(), limit_of(limit)?, wanted);
    Ok(page.told("refusals", |one| told(world, one)))
}

fn told(world: &World, one: &Happened<Refused>) -> Value {
    let Refused { direction, source, destination, service, flag, reason, by } = &one.what;
    let client = match direction {
        Direction::Inbound => source.as_ref().and_then(|party| party.identity.as_ref()),
        Direction::Outbound => None,
    };
    let policy = match by.as_deref() {
        Some(Refusal::Policy { policy: Some(name), .. }) => world.policy(name).map(|policy| {
            json!({ "kind": policy.source.kind.to_string(), "namespace": name.namespace.as_str(), "name": &*policy.source.name })
        }),
        Some(_) | None => None,
    };
    json!({
        "at": timestamp(one.at),
        "direction": in_words(*direction),
        "source": source.as_ref().map(|party| end(world, party)),
        "destination": end(world, destination),
        "service": service,
        "flag": flag.as_str(),
        "reason": reason,
        "policy": policy,
        "remedy": by.as_deref().and_then(|by| world.remedy(by, client)),
    })
}

/// One end of a connection, for people and programs.
pub(crate) fn end(world: &World, party: &Party) -> Value {
    // Who came without an identity may yet be somebody the mesh knows; that is a hint, and decides nothing.
    let known = || world.workload_at(&weir_model::Network::default(), party.address.ip());
    let workload: Option<Arc<Workload>> = party.workload.clone().or_else(known);
    let own = workload.as_deref();
    json!({
        "address": address(party.address),
        "namespace": own.map(|own| own.namespace.as_str()),
        "workload": own.map(|own| &*own.name),
        "identity": party.identity.as_ref().map(ToString::to_string),
    })
}

fn address(address: SocketAddr) -> Option<String> {
    (!address.ip().is_unspecified()).then(|| address.to_string())
}

/// As logs have it.
pub(crate) fn in_words(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    }
}

#[cfg(test)]
mod tests {
    use weir_model::Tunnel;

    use super::*;
    use crate::testing::{uid, world};

    #[test]
    fn what_was_refused_is_told_to_whoever_asks_for_one_of_its_ends() {
        let (refusals, world) = (rings(1), world([], Tunnel::Hbone));
        let refuser = Refuser::new(&refusals, 0);
        let party = |name: &str| {
            let workload = world.workload(&uid(name)).unwrap();
            Party { address: SocketAddr::new(workload.addresses[0], 80), workload: Some(workload), identity: None }
        };
        let subject = Subject {
            direction: Direction::Inbound,
            tunnel: None,
            source: party("a"),
            destination: party("b"),
            service: None,
        };
        let gone = Refusal::UnknownWorkload(uid("gone"));
        refuser.note(&subject, gone.response_flag(), &gone.to_string(), Some(&gone));
        refuser.note(&subject, ResponseFlag::Connect, &"ü".repeat(9_000), None);
        let ask = |query: &str| answer(&refusals, &world, &query.parse().unwrap()).unwrap();
        let told = ask("namespace=ns&name=a");
        let first = &told["refusals"][0];
        assert_eq!((&first["source"]["workload"], &first["destination"]["workload"]), (&json!("a"), &json!("b")));
        assert!(first["remedy"].as_str().unwrap().contains("weirctl status"), "{first}");
        let second = &told["refusals"][1];
        assert!(second["reason"].as_str().unwrap().ends_with("ü…"), "not cut: {second}");
        assert_eq!(second["remedy"], Value::Null);
        for (query, want) in [("", 2), ("name=b", 2), ("namespace=other", 0), ("name=c", 0), ("limit=1", 1)] {
            assert_eq!(ask(query)["refusals"].as_array().unwrap().len(), want, "{query}");
        }
        let behind = format!("after={}", told["cursor"].as_str().unwrap());
        assert_eq!(ask(&behind)["refusals"], json!([]));
    }
}
