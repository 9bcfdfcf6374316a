//! One subscriber's view of one kind: requests in, responses out. It holds no lock, no clock and no socket.
//!
//! A wildcard subscriber costs a number: what it has is what had changed up to there. Of one that asks by name it is kept what it was
//! sent. One response is under way at a time; what changes meanwhile is in the next one, as it is by then.
//!
//! A request that was never answered gets an answer even if that is empty: clients wait for it. An answer of several responses says so in
//! all but the last: their `system_version_info` ends in `+`.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    net::IpAddr,
    sync::Arc,
};

use foldhash::{HashMap, HashSet};
use ipnet::IpNet;
use weir_model::{Network, NodeName};

use crate::{
    kind::{Kind, Version},
    request::{ALL, Answer, MAX_NAMES, Request, RequestError},
    response::{Draft, MORE, Response},
    table::{Asked, Encoded, Table},
};

/// More was removed than is remembered before this subscriber took it: it has to begin again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the subscriber is so far behind that removals were forgotten: it must reconnect and say what it has")]
pub(crate) struct Behind;

/// What a request answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The response under way was taken.
    Ack,
    /// It was not, or not all of it.
    Nack,
    /// None, or one that is not under way any more.
    Nothing,
}

/// How it stands with a subscriber, for who looks from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether it takes everything.
    pub wildcard: bool,
    /// The names it asked for.
    pub subscribed: usize,
    /// The nonce and the version of the last response.
    pub sent: Option<(String, String)>,
    /// The nonce of the last response that was taken.
    pub acked: Option<String>,
    /// The nonce of the last one that was not, and why.
    pub nacked: Option<(String, String)>,
    /// Whether a response is under way.
    pub in_flight: bool,
    /// Whether something is to be sent after that.
    pub pending: bool,
    /// The number of the last change that was looked at.
    pub seen: u64,
}

/// Who takes everything, and how far it is.
#[derive(Debug)]
struct Scan {
    /// The last change when it began: what was removed before that it only has if it says so.
    start: u64,
    /// Whether the first time through is not over.
    initial: bool,
}

/// One subscriber's view of one kind.
#[derive(Debug)]
pub(crate) struct Subscription {
    kind: Kind,
    node: Option<NodeName>,
    begun: bool,
    /// Whether the first answer is not complete.
    beginning: bool,
    wildcard: Option<Scan>,
    asked: HashSet<Arc<str>>,
    /// How many of them mean each address.
    addresses: HashMap<(Network, IpAddr), usize>,
    /// On demand: what it has. For everything: what it said it has, until the first time through is over.
    held: HashMap<Arc<str>, Option<Version>>,
    /// Resources to look at.
    dirty: BTreeSet<Arc<str>>,
    /// What was asked for and is said to be gone, if it is.
    gone: BTreeMap<Arc<str>, Asked>,
    /// What it said it has and the first time through did not find.
    left: Vec<Arc<str>>,
    /// The last change that was looked at.
    cursor: u64,
    /// Whether an answer is owed, empty or not.
    owed: bool,
    /// Whether what it has cannot be told any more.
    lost: bool,
    responses: u64,
    in_flight: Option<String>,
    standing: Standing,
}

impl Subscription {
    /// Nobody asked yet. The workloads of `node` belong to whoever asks for anything by name.
    pub(crate) fn new(kind: Kind, node: Option<NodeName>) -> Self {
        Self {
            kind,
            node,
            begun: false,
            beginning: false,
            wildcard: None,
            asked: HashSet::default(),
            addresses: HashMap::default(),
            held: HashMap::default(),
            dirty: BTreeSet::new(),
            gone: BTreeMap::new(),
            left: Vec::new(),
            cursor: 0,
            owed: false,
            lost: false,
            responses: 0,
            in_flight: None,
            standing: Standing::default(),
        }
    }

    /// Takes a request of this kind.
    ///
    /// # Errors
    /// When it asks for more than is allowed.
    pub(crate) fn request(&mut self, table: &Table, request: Request) -> Result<Settled, RequestError> {
        let settled = request.answer.map_or(Settled::Nothing, |answer| self.settle(answer));
        let all = |names: &[Asked]| names.iter().any(|asked| &*asked.name == ALL);
        let (on, off) = (all(&request.subscribe), all(&request.unsubscribe));
        if mem::replace(&mut self.begun, true) {
            if on && !off && self.wildcard.is_none() {
                self.take_all(table);
            } else if off && self.wildcard.is_some() {
                self.take_no_more_than_asked(table);
            }
        } else {
            self.beginning = true;
            let nothing = request.subscribe.is_empty() && request.unsubscribe.is_empty();
            if (on && !off) || nothing {
                self.held = request.versions.into_iter().map(|(name, version)| (name.into(), version)).collect();
                self.take_all(table);
                if request.sum.is_some_and(|sum| sum == table.sum().to_string()) {
                    self.wildcard = Some(Scan { start: table.now(), initial: false });
                    (self.cursor, self.held) = (table.now(), HashMap::default());
                }
            } else {
                self.begin_on_demand(table, request.versions)?;
            }
        }
        for asked in request.subscribe.into_iter().filter(|asked| &*asked.name != ALL) {
            self.subscribe(table, asked)?;
        }
        for asked in request.unsubscribe.iter().filter(|asked| &*asked.name != ALL) {
            self.unsubscribe(table, asked);
        }
        Ok(settled)
    }

    /// The next response of about `most` bytes, if there is something to say and none is under way.
    ///
    /// # Errors
    /// When what is to be said is not known any more.
    pub(crate) fn next(&mut self, table: &Table, most: usize) -> Result<Option<Response>, Behind> {
        if !self.begun || self.in_flight.is_some() {
            return Ok(None);
        }
        let mut draft = Draft { most, ..Draft::default() };
        self.lost |= self.missed(table);
        if self.lost {
            return Err(Behind);
        }
        if self.wildcard.is_none() {
            self.look(table);
        }
        self.say_dirty(table, &mut draft);
        self.scan(table, &mut draft);
        self.say_gone(table, &mut draft);
        if draft.is_empty() && !self.owed {
            return Ok(None);
        }
        self.owed = false;
        self.responses += 1;
        let nonce = self.responses.to_string();
        let pending = self.pending(table);
        self.beginning &= pending;
        let more = if pending { MORE.to_string() } else { String::new() };
        let version = format!("{}{more}", table.now());
        self.in_flight = Some(nonce.clone());
        self.standing.sent = Some((nonce.clone(), version.clone()));
        let Draft { resources, removed, size, .. } = draft;
        Ok(Some(Response { kind: self.kind, nonce, version, resources, removed, size }))
    }

    /// Whether it asked for something and was not answered.
    pub(crate) fn owes(&self) -> bool {
        self.owed
    }

    /// The last change it has looked at; nothing while it is owed an answer, which is no push of a change.
    pub(crate) fn seen(&self) -> Option<u64> {
        let first = self.owed || self.wildcard.as_ref().is_some_and(|scan| scan.initial);
        (!first).then_some(self.cursor)
    }

    /// Whether it asked, and parts of the first answer are still to be sent.
    pub(crate) fn is_beginning(&self) -> bool {
        self.beginning
    }

    /// How it stands.
    pub(crate) fn standing(&self, table: &Table) -> Standing {
        Standing {
            wildcard: self.wildcard.is_some(),
            subscribed: self.asked.len(),
            in_flight: self.in_flight.is_some(),
            pending: self.owed || self.pending(table),
            seen: self.cursor,
            ..self.standing.clone()
        }
    }

    /// Whether a removal it was to be told of is forgotten.
    fn missed(&self, table: &Table) -> bool {
        self.wildcard.as_ref().is_some_and(|scan| table.forgotten() > self.cursor.max(scan.start))
    }

    /// Whether there may be something to say. What changed since the last look may concern who asks by name, too.
    fn pending(&self, table: &Table) -> bool {
        !self.dirty.is_empty() || !self.gone.is_empty() || !self.left.is_empty() || self.cursor < table.now()
    }

    fn settle(&mut self, answer: Answer) -> Settled {
        if self.in_flight.as_ref() != Some(&answer.nonce) {
            return Settled::Nothing;
        }
        self.in_flight = None;
        match answer.error {
            None => {
                self.standing.acked = Some(answer.nonce);
                Settled::Ack
            }
            Some(error) => {
                self.standing.nacked = Some((answer.nonce, error));
                Settled::Nack
            }
        }
    }

    /// From now on everything. What it has is sent again only if it differs.
    fn take_all(&mut self, table: &Table) {
        self.wildcard = Some(Scan { start: table.now(), initial: true });
        self.dirty.clear();
        (self.cursor, self.owed) = (0, true);
    }

    /// From now on what is asked for by name. All that is or was there it may have, each as it was once.
    fn take_no_more_than_asked(&mut self, table: &Table) {
        self.lost |= self.missed(table);
        self.wildcard = None;
        self.held.extend(table.since(0).map(|(_, slot)| (slot.name.clone(), None)));
        self.held.extend(self.left.drain(..).map(|name| (name, None)));
        self.dirty = self.held.keys().cloned().collect();
        (self.cursor, self.owed) = (table.now(), true);
    }

    /// What it has without saying in which version, it means to ask for: so does ztunnel after it lost its stream.
    fn begin_on_demand(&mut self, table: &Table, versions: Vec<(String, Option<Version>)>) -> Result<(), RequestError> {
        (self.cursor, self.owed) = (table.now(), true);
        for (name, version) in versions {
            let asked = Asked::new(&name);
            // An address is what it asked for, never what it has.
            if version.is_some() || asked.address.is_none() {
                self.dirty.insert(asked.name.clone());
                self.held.insert(asked.name.clone(), version);
            }
            if version.is_none() {
                self.subscribe(table, asked)?;
            }
        }
        // These are looked at anyway.
        self.gone.retain(|name, _| !self.held.contains_key(name));
        if let Some(node) = &self.node {
            self.dirty.extend(table.of_node(node).map(|own| own.name.clone()));
        }
        Ok(())
    }

    fn subscribe(&mut self, table: &Table, asked: Asked) -> Result<(), RequestError> {
        self.owed = true;
        if !self.asked.contains(&asked.name) {
            if self.asked.len() == MAX_NAMES {
                return Err(RequestError::TotalNames(self.kind));
            }
            self.asked.insert(asked.name.clone());
            if let Some(address) = asked.address.clone() {
                *self.addresses.entry(address).or_default() += 1;
            }
        }
        let meant = meant(table, &asked);
        if table.named(&asked).is_empty() {
            self.gone.insert(asked.name.clone(), asked);
        }
        for name in meant {
            // Who asks gets an answer, whatever it was sent; who begins says itself what it has.
            if self.standing.sent.is_some()
                && let Some(version) = self.held.get_mut(&name)
            {
                *version = None;
            }
            self.dirty.insert(name);
        }
        Ok(())
    }

    fn unsubscribe(&mut self, table: &Table, asked: &Asked) {
        if !self.asked.remove(&asked.name) {
            return;
        }
        if let Some(address) = &asked.address
            && let Some(count) = self.addresses.get_mut(address)
        {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(address);
            }
        }
        self.gone.remove(&asked.name);
        if self.wildcard.is_none() {
            let held = meant(table, asked).into_iter().filter(|name| self.held.contains_key(name));
            self.dirty.extend(held);
        }
    }

    /// Looks at what changed since the last time, for who asks by name.
    fn look(&mut self, table: &Table) {
        if table.forgotten() > self.cursor {
            // Removals are missing: whatever it has may be gone, whatever it asked for may be new.
            self.dirty.extend(self.held.keys().cloned());
            let asked: Vec<Asked> = self.asked.iter().map(|name| Asked::new(name)).collect();
            self.dirty.extend(asked.iter().flat_map(|asked| meant(table, asked)));
            if let Some(node) = &self.node {
                self.dirty.extend(table.of_node(node).map(|own| own.name.clone()));
            }
        }
        for (_, slot) in table.since(self.cursor) {
            let held = self.held.contains_key(&slot.name);
            let own = held || slot.resource.as_ref().is_some_and(|resource| self.selects(table, resource));
            if own {
                self.dirty.insert(slot.name.clone());
            }
            // With a service's addresses it changes who is meant by them, even if the service itself was not sent yet.
            let members = table.members(&slot.name).filter(|member| own || self.held.contains_key(&member.name));
            self.dirty.extend(members.map(|member| member.name.clone()));
        }
        self.cursor = table.now();
    }

    /// Whether the resource belongs to what was asked for by name.
    fn selects(&self, table: &Table, resource: &Encoded) -> bool {
        let facts = &resource.facts;
        let own = facts.node.is_some() && facts.node == self.node;
        own || self.names(resource)
            || facts.services.iter().any(|service| {
                self.asked.contains(service) || table.get(service).is_some_and(|service| self.names(service))
            })
    }

    /// Whether it was asked for itself, by its name or an address.
    fn names(&self, resource: &Encoded) -> bool {
        let asked = |address: &(Network, IpNet)| {
            let (network, range) = address;
            if range.prefix_len() == range.max_prefix_len() {
                return self.addresses.contains_key(&(network.clone(), range.addr()));
            }
            self.addresses.keys().any(|(own, ip)| own == network && range.contains(ip))
        };
        self.asked.contains(&resource.name)
            || (!self.addresses.is_empty() && resource.facts.addresses.iter().any(asked))
    }

    fn say_dirty(&mut self, table: &Table, draft: &mut Draft) {
        while let Some(name) = self.dirty.pop_first() {
            let taken = match (table.get(&name), &self.wildcard) {
                (Some(resource), Some(_)) => {
                    let taken = draft.resource(resource);
                    // What it said it has is not what it has from here on.
                    if let Some(version) = self.held.get_mut(&name).filter(|_| taken) {
                        *version = None;
                    }
                    taken
                }
                // It goes with the change that took it away.
                (None, Some(_)) => true,
                (Some(resource), None) if self.selects(table, resource) => {
                    let now = Some(resource.version);
                    let taken = self.held.get(&name) == Some(&now) || draft.resource(resource);
                    if taken {
                        self.held.insert(name.clone(), now);
                    }
                    taken
                }
                (Some(_) | None, None) if self.held.contains_key(&name) => {
                    let taken = draft.remove(&name);
                    if taken {
                        self.held.remove(&name);
                    }
                    taken
                }
                (Some(_) | None, None) => true,
            };
            if !taken {
                self.dirty.insert(name);
                return;
            }
        }
    }

    /// Goes on through the changes, for who takes everything.
    fn scan(&mut self, table: &Table, draft: &mut Draft) {
        let Some(scan) = &mut self.wildcard else { return };
        for (change, slot) in table.since(self.cursor) {
            let taken = match (&slot.resource, self.held.get(&slot.name)) {
                (Some(resource), Some(Some(version))) if *version == resource.version => true,
                (Some(resource), Some(_) | None) => draft.resource(resource),
                (None, Some(_)) => draft.remove(&slot.name),
                (None, None) if change > scan.start => draft.remove(&slot.name),
                (None, None) => true,
            };
            if !taken {
                return;
            }
            self.held.remove(&slot.name);
            self.cursor = change;
        }
        // What was forgotten after the last change is no change either.
        self.cursor = table.now();
        if mem::take(&mut scan.initial) {
            // It said it has these, and nobody here knows them.
            self.left.extend(mem::take(&mut self.held).into_keys());
        }
    }

    fn say_gone(&mut self, table: &Table, draft: &mut Draft) {
        while let Some(name) = self.left.last() {
            if table.get(name).is_none() && !draft.remove(name) {
                return;
            }
            self.left.pop();
        }
        while let Some((name, asked)) = self.gone.first_key_value() {
            if table.named(asked).is_empty() {
                if !draft.remove(name) {
                    return;
                }
                self.held.remove(name);
            }
            self.gone.pop_first();
        }
    }
}

/// All that a name means: what is called so or has that address, and who stands behind it.
fn meant(table: &Table, asked: &Asked) -> BTreeSet<Arc<str>> {
    let named = table.named(asked);
    let services = named.iter().map(|service| &*service.name).chain([&*asked.name]);
    let members = services.flat_map(|service| table.members(service)).map(|member| member.name.clone());
    named.iter().map(|resource| resource.name.clone()).chain(members).collect()
}

#[cfg(test)]
mod tests;
