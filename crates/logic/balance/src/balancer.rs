//! All of it together: the endpoints of one service, as one worker sees them, and its policy.
//!
//! In: endpoints, what came of requests, the time, randomness. Out: the endpoint of a request, with a slot that counts it as long as it is held, or the
//! reason why there is none. Nothing is computed anew for a request: tables are made when endpoints come, go, or are ejected.
//!
//! What a worker learns of an endpoint is its own: one that fails is ejected by each of four workers, each after as many errors of its own.

mod tier;

use std::{sync::Arc, time::Duration};

use rand::Rng;
use weir_model::{Health, Locality};

use crate::{
    Algorithm, Among, Census, Detector, HashKey, Load, Outcome, PerWorker, Percent, Place, Policy, Reaction, Share,
    Slot, Tally, Warmup, Weight, loads, locality::arrange, parts::Parts,
};
use tier::{Tier, View};

/// An endpoint, as it is known to all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address as text, `10.0.0.1:80` or `[2001:db8::1]:80`: what Envoy hashes it by.
    pub name: Arc<str>,
    /// How much it gets.
    pub weight: Weight,
    /// Whether it takes new connections. One that does not is never chosen, but counts among those that its level has lost.
    pub health: Health,
    /// Where it is.
    pub place: Arc<Place>,
}

/// Who sends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// Where it is.
    pub place: Place,
    /// How many like it there are in each zone, itself included, for zone-aware balancing.
    pub siblings: Vec<(Locality, u32)>,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask<'a> {
    /// Its key. Without one, any endpoint will do.
    pub key: Option<HashKey>,
    /// Where it has been already: a retry goes elsewhere if it can.
    pub avoid: &'a [Arc<str>],
    /// The endpoint that its client holds on to: it goes there if that one will do. Gateway API v1 `sessionPersistence`.
    pub hold: Option<&'a str>,
    /// Levels that it passes over, if somebody is left: a retry that is to go further away. Istio `retryRemoteLocalities`.
    pub beyond: &'a [usize],
}

/// Where a request goes.
#[derive(Debug)]
pub enum Choice {
    /// To an endpoint.
    Endpoint(Chosen),
    /// Where the client wanted it to go.
    Original,
    /// Nowhere.
    Nowhere(Nowhere),
}

/// The endpoint, for as long as the request is under way.
#[derive(Debug)]
pub struct Chosen {
    /// Its name.
    pub name: Arc<str>,
    /// How many levels are better.
    pub level: usize,
    /// Among whom it was chosen.
    pub among: Among,
    _active: Slot<PerWorker>,
}

/// Why no endpoint. Response flag `UH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Nowhere {
    /// There is none.
    #[error("there are no endpoints")]
    NoEndpoints,
    /// None is ready.
    #[error("no endpoint is ready")]
    NoneReady,
    /// Those that are ready are where nothing of this client's traffic is distributed to.
    #[error("no endpoint is ready where this client's traffic is distributed to")]
    NotDistributed,
    /// All that are ready failed, and are left alone.
    #[error("every endpoint that is ready has been ejected")]
    AllEjected,
}

/// How often a retry is drawn anew to avoid where it has been. Istio `hostSelectionRetryMaxAttempts`: 5.
const REDRAWS: usize = 5;

/// The endpoints of one service.
#[derive(Debug)]
pub struct Balancer {
    policy: Arc<Policy>,
    /// Sorted by name.
    members: Vec<Member>,
    detector: Option<Detector>,
    tiers: Vec<Tier>,
    parts: Parts,
    /// Ejections have changed since tables were made.
    stale: bool,
}

#[derive(Debug, Clone)]
struct Member {
    endpoint: Endpoint,
    /// Since when it takes connections.
    since: Duration,
    active: PerWorker,
}

impl Balancer {
    /// Endpoints of which nothing is known yet. Of several with one name, the first counts.
    pub fn new(
        policy: Arc<Policy>,
        client: &Client,
        endpoints: Vec<Endpoint>,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Self {
        let nobody =
            Self { policy, members: vec![], detector: None, tiers: vec![], parts: Parts::default(), stale: false };
        nobody.renewed(Arc::clone(&nobody.policy), client, endpoints, now, rng)
    }

    /// Other endpoints, or another policy. What is known of endpoints that stay is kept: how long they have been there, what they have under way,
    /// and what they did wrong.
    #[must_use]
    pub fn renewed(
        &self,
        policy: Arc<Policy>,
        client: &Client,
        mut endpoints: Vec<Endpoint>,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Self {
        endpoints.sort_by(|one, other| one.name.cmp(&other.name));
        endpoints.dedup_by(|one, other| one.name == other.name);
        let from: Vec<Option<usize>> = endpoints.iter().map(|endpoint| self.find(&endpoint.name)).collect();
        let member = |(endpoint, from): (Endpoint, &Option<usize>)| match from.and_then(|from| self.members.get(from)) {
            Some(old) if old.endpoint.health == endpoint.health => Member { endpoint, ..old.clone() },
            Some(old) => Member { endpoint, since: now, active: old.active.clone() },
            None => Member { endpoint, since: now, active: PerWorker::default() },
        };
        let members: Vec<Member> = endpoints.into_iter().zip(&from).map(member).collect();
        let detector = policy.outlier.clone().map(|settings| match &self.detector {
            Some(detector) => detector.moved(settings, &from, now),
            None => Detector::new(settings, members.len(), now),
        });
        let places: Vec<&Place> = members.iter().map(|member| &*member.endpoint.place).collect();
        let levels = arrange(&policy.locality, detector.is_some(), &client.place, &places);
        let endpoint = |at: usize| members.get(at).map(|member| &member.endpoint);
        let tiers = levels.0.into_iter().map(|level| Tier::new(level, &policy.algorithm, client, endpoint)).collect();
        let mut renewed = Self { policy, members, detector, tiers, parts: Parts::default(), stale: false };
        renewed.tabulate(rng);
        renewed
    }

    /// The endpoint of a request.
    pub fn pick(&mut self, ask: &Ask<'_>, now: Duration, rng: &mut impl Rng) -> Choice {
        let hashed = match self.policy.algorithm {
            Algorithm::Passthrough => return Choice::Original,
            Algorithm::ConsistentHash(_) => true,
            Algorithm::LeastRequest | Algorithm::RoundRobin | Algorithm::Random => false,
        };
        self.stale |= self.detector.as_mut().is_some_and(|detector| detector.sweep(now));
        if self.stale {
            self.tabulate(rng);
        }
        if let Some(chosen) = ask.hold.and_then(|name| self.held(name, ask.avoid)) {
            return Choice::Endpoint(chosen);
        }
        let mut drawn = None;
        for _ in 0..=REDRAWS {
            let key = hashed.then(|| ask.key.unwrap_or_else(|| HashKey::from_hash(rng.random())));
            drawn = self.draw(key, ask, now, rng);
            let been =
                |(_, at): &(usize, usize)| self.members.get(*at).is_some_and(|member| member.is_among(ask.avoid));
            if !drawn.as_ref().is_some_and(been) {
                break;
            }
        }
        let chosen = drawn.and_then(|(level, at)| {
            let (member, tier) = (self.members.get(at)?, self.tiers.get(level)?);
            member.chosen(level, tier.among())
        });
        chosen.map_or_else(|| Choice::Nowhere(self.why_nowhere()), Choice::Endpoint)
    }

    /// The endpoint that is held on to, if it takes requests and was not tried yet.
    fn held(&self, name: &str, avoid: &[Arc<str>]) -> Option<Chosen> {
        let at = self.find(name)?;
        let is_ejected = self.detector.as_ref().is_some_and(|detector| detector.is_ejected(at));
        let member =
            self.members.get(at).filter(|member| member.is_ready() && !is_ejected && !member.is_among(avoid))?;
        let (level, tier) = self.tiers.iter().enumerate().find(|(_, tier)| tier.reaches(|one| one == at))?;
        member.chosen(level, tier.among())
    }

    /// Takes note of what came of a request. Of an endpoint that is gone, nothing.
    pub fn report(&mut self, name: &str, outcome: Outcome, now: Duration) -> Reaction {
        let (Some(at), Some(detector)) = (self.find(name), &mut self.detector) else { return Reaction::Noted };
        let reaction = detector.report(at, outcome, now);
        self.stale |= matches!(reaction, Reaction::Ejected { .. });
        reaction
    }

    /// How many endpoints are ejected.
    pub fn ejected(&self) -> usize {
        self.detector.as_ref().map_or(0, Detector::ejected)
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.members.binary_search_by(|member| (*member.endpoint.name).cmp(name)).ok()
    }

    /// Makes the tables anew.
    fn tabulate(&mut self, rng: &mut impl Rng) {
        let detector = self.detector.as_ref();
        let view = view(&self.members, detector);
        let threshold = detector.and(self.policy.outlier.as_ref()).map_or(Percent::ZERO, |outlier| outlier.min_health);
        let census: Vec<_> = self.tiers.iter().map(|tier| tier.census(&view)).collect();
        let loads: Vec<Load> = loads(&census, threshold);
        for (tier, load) in self.tiers.iter_mut().zip(&loads) {
            tier.tabulate(load.among, &self.policy.algorithm, &view, rng);
        }
        self.parts = Parts::new(loads.iter().map(|load| load.part));
        self.stale = false;
    }

    /// What the levels get without these; nothing if nobody is left.
    fn parts_beyond(&self, levels: &[usize]) -> Option<Parts> {
        if levels.is_empty() {
            return None;
        }
        let view = view(&self.members, self.detector.as_ref());
        let census = |(at, tier): (usize, &Tier)| match levels.contains(&at) {
            true => Census::default(),
            false => tier.census(&view),
        };
        let census: Vec<Census> = self.tiers.iter().enumerate().map(census).collect();
        // Tables are there for who is well: in a panic nobody goes further away.
        let loads = loads(&census, Percent::ZERO);
        loads.iter().any(|load| load.part > 0).then(|| Parts::new(loads.iter().map(|load| load.part)))
    }

    /// A level, and an endpoint of it.
    fn draw(
        &mut self,
        key: Option<HashKey>,
        &Ask { avoid, beyond, .. }: &Ask<'_>,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Option<(usize, usize)> {
        let further = self.parts_beyond(beyond);
        let below = |rng: &mut _, salt: u64, sum: u64| match key {
            Some(key) => key.below(salt, sum),
            None => Rng::random_range(rng, 0..sum),
        };
        let level = further.as_ref().unwrap_or(&self.parts).choose(|sum| below(rng, 1, sum))?;
        let tier = self.tiers.get_mut(level)?;
        let group = tier.group(|sum| below(rng, 2, sum))?;
        let Some(key) = key else {
            let active = |at: usize| self.members.get(at).map_or(0, |member| member.active.count());
            let warmup = self.policy.warmup.as_ref();
            let share = |at: usize| self.members.get(at).map_or(Share::FULL, |member| member.share(warmup, now));
            return Some((level, group.next(active, share, rng)?));
        };
        let detector = self.detector.as_ref();
        let will_do = |at: usize| match group.among {
            Among::Ready => true,
            Among::Available => !detector.is_some_and(|detector| detector.is_ejected(at)),
        };
        let elsewhere = |at: usize| will_do(at) && !self.members.get(at).is_some_and(|member| member.is_among(avoid));
        let found = group.of_key(key, elsewhere).or_else(|| group.of_key(key, will_do))?;
        Some((level, found))
    }

    fn why_nowhere(&self) -> Nowhere {
        let is_ready = |at: usize| self.members.get(at).is_some_and(Member::is_ready);
        if self.members.is_empty() {
            Nowhere::NoEndpoints
        } else if !self.members.iter().any(Member::is_ready) {
            Nowhere::NoneReady
        } else if !self.tiers.iter().any(|tier| tier.reaches(is_ready)) {
            Nowhere::NotDistributed
        } else {
            Nowhere::AllEjected
        }
    }
}

/// What tables are made by.
fn view<'v>(
    members: &'v [Member],
    detector: Option<&'v Detector>,
) -> View<impl Fn(usize) -> Weight + 'v, impl Fn(usize) -> bool + 'v, impl Fn(usize) -> bool + 'v> {
    View {
        weight: |at: usize| members.get(at).map_or(Weight::ONE, |member| member.endpoint.weight),
        is_ready: |at: usize| members.get(at).is_some_and(Member::is_ready),
        is_ejected: move |at: usize| detector.is_some_and(|detector| detector.is_ejected(at)),
    }
}

impl Member {
    fn is_ready(&self) -> bool {
        self.endpoint.health == Health::Healthy
    }

    fn chosen(&self, level: usize, among: Among) -> Option<Chosen> {
        let active = Slot::take(&self.active, u32::MAX)?;
        Some(Chosen { name: Arc::clone(&self.endpoint.name), level, among, _active: active })
    }

    fn is_among(&self, names: &[Arc<str>]) -> bool {
        names.contains(&self.endpoint.name)
    }

    fn share(&self, warmup: Option<&Warmup>, now: Duration) -> Share {
        warmup.map_or(Share::FULL, |warmup| warmup.share(now.saturating_sub(self.since)))
    }
}

#[cfg(test)]
mod tests;
