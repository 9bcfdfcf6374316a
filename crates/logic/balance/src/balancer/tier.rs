//! The endpoints of one level: what divides it into groups, and the table each group is drawn from.
//!
//! In: a level, and who of it is ready and not ejected. Out: a group in proportion to its part, and an endpoint of the group.

use rand::Rng;
use weir_model::{Health, Locality};

use super::{Client, Endpoint};
use crate::{
    Algorithm, Among, Census, Draw, HashKey, HashTable, Maglev, Ring, RoundRobin, Share, Weight,
    locality::{Level, same_zone},
    parts::Parts,
    priority::health,
    zone,
};

/// What is to be known of endpoints to make a table of them.
pub(super) struct View<W, R, E> {
    pub(super) weight: W,
    pub(super) is_ready: R,
    pub(super) is_ejected: E,
}

impl<W: Fn(usize) -> Weight, R: Fn(usize) -> bool, E: Fn(usize) -> bool> View<W, R, E> {
    fn census(&self, group: &Group) -> Census {
        let ready = || group.members.iter().filter(|at| (self.is_ready)(**at));
        let available = ready().filter(|at| !(self.is_ejected)(**at)).count();
        Census { total: group.members.len(), ready: ready().count(), available }
    }
}

#[derive(Debug)]
pub(super) struct Tier {
    split: Split,
    groups: Vec<Group>,
    parts: Parts,
}

/// What the groups of a level get.
#[derive(Debug)]
enum Split {
    /// What their endpoints weigh.
    Weight,
    /// So much percent, as far as they are well.
    Shares(Vec<u32>),
    /// What the zones of the client and others need.
    Zones { min_cluster_size: u32, clients: Vec<u32>, in_all: u64 },
}

#[derive(Debug)]
pub(super) struct Group {
    /// All of its endpoints.
    members: Vec<usize>,
    /// Who of them the table is about, in its order.
    drawn: Vec<usize>,
    table: Table,
    pub(super) among: Among,
}

#[derive(Debug)]
enum Table {
    LeastRequest(Draw),
    Random(Draw),
    RoundRobin(RoundRobin),
    Ring(Ring),
    Maglev(Maglev),
}

impl Tier {
    pub(super) fn new<'e>(
        level: Level,
        algorithm: &Algorithm,
        client: &Client,
        endpoint: impl Fn(usize) -> Option<&'e Endpoint>,
    ) -> Self {
        let (split, groups) = match level {
            Level::Alike(members) => (Split::Weight, vec![members]),
            Level::Shares(shares) => {
                let (shares, groups) = shares.into_iter().unzip();
                (Split::Shares(shares), groups)
            }
            Level::Zones { min_cluster_size, zones } => {
                let in_zone = |zone: &Locality| {
                    let here = client.siblings.iter().filter(|(place, _)| same_zone(place, zone));
                    here.fold(0_u32, |sum, (_, count)| sum.saturating_add(*count))
                };
                // The client's own zone is the first, if it has endpoints.
                let own_first = zones.first().is_some_and(|(zone, _)| same_zone(zone, &client.place.locality));
                let clients = zones.iter().map(|(zone, _)| if own_first { in_zone(zone) } else { 0 }).collect();
                let in_all = client.siblings.iter().map(|(_, count)| u64::from(*count)).sum();
                (
                    Split::Zones { min_cluster_size, clients, in_all },
                    zones.into_iter().map(|(_, group)| group).collect(),
                )
            }
        };
        let groups = groups.into_iter().map(|members| Group::new(members, algorithm, &endpoint)).collect();
        Self { split, groups, parts: Parts::default() }
    }

    pub(super) fn among(&self) -> Among {
        self.groups.first().map_or(Among::Available, |group| group.among)
    }

    pub(super) fn census<W: Fn(usize) -> Weight, R: Fn(usize) -> bool, E: Fn(usize) -> bool>(
        &self,
        view: &View<W, R, E>,
    ) -> Census {
        self.groups.iter().map(|group| view.census(group)).fold(Census::default(), |sum, one| Census {
            total: sum.total + one.total,
            ready: sum.ready + one.ready,
            available: sum.available + one.available,
        })
    }

    /// Whether it has an endpoint of which this is true.
    pub(super) fn reaches(&self, is: impl Fn(usize) -> bool) -> bool {
        self.groups.iter().flat_map(|group| &group.members).any(|at| is(*at))
    }

    pub(super) fn tabulate<W: Fn(usize) -> Weight, R: Fn(usize) -> bool, E: Fn(usize) -> bool>(
        &mut self,
        among: Among,
        algorithm: &Algorithm,
        view: &View<W, R, E>,
        rng: &mut impl Rng,
    ) {
        for group in &mut self.groups {
            group.tabulate(among, algorithm, view, rng);
        }
        let census: Vec<Census> = self.groups.iter().map(|group| view.census(group)).collect();
        let counts = |census: &Census| match among {
            Among::Available => census.available,
            Among::Ready => census.ready,
        };
        let by_weight = || self.groups.iter().map(|group| group.drawn_weight(view)).collect();
        let parts: Vec<u64> = match &self.split {
            Split::Weight => by_weight(),
            Split::Shares(shares) => {
                let well = |census: &Census| health(Census { available: counts(census), ..*census });
                shares.iter().zip(&census).map(|(share, census)| u64::from(*share) * well(census)).collect()
            }
            Split::Zones { min_cluster_size, clients, in_all } => {
                let endpoints: Vec<u32> =
                    census.iter().map(|census| u32::try_from(counts(census)).unwrap_or(u32::MAX)).collect();
                let enough =
                    endpoints.iter().map(|count| u64::from(*count)).sum::<u64>() >= u64::from(*min_cluster_size);
                enough.then(|| zone::parts(&endpoints, clients, *in_all)).flatten().unwrap_or_else(by_weight)
            }
        };
        self.parts = Parts::new(parts);
    }

    pub(super) fn group(&mut self, below: impl FnOnce(u64) -> u64) -> Option<&mut Group> {
        self.groups.get_mut(self.parts.choose(below)?)
    }
}

impl Group {
    fn new<'e>(members: Vec<usize>, algorithm: &Algorithm, endpoint: impl Fn(usize) -> Option<&'e Endpoint>) -> Self {
        // Tables of keys stay as they are while endpoints are ejected and return, so that no other keys move.
        let table = match algorithm {
            Algorithm::ConsistentHash(hash) => {
                let ready = |at: &usize| endpoint(*at).filter(|endpoint| endpoint.health == Health::Healthy);
                let named: Vec<(&str, Weight)> =
                    members.iter().filter_map(ready).map(|endpoint| (&*endpoint.name, endpoint.weight)).collect();
                match hash.table {
                    HashTable::Ring(size) => Table::Ring(Ring::new(&named, size)),
                    HashTable::Maglev(size) => Table::Maglev(Maglev::new(&named, size)),
                }
            }
            Algorithm::RoundRobin => Table::RoundRobin(RoundRobin::default()),
            Algorithm::Random => Table::Random(Draw::default()),
            Algorithm::LeastRequest | Algorithm::Passthrough => Table::LeastRequest(Draw::default()),
        };
        Self { members, drawn: vec![], table, among: Among::Available }
    }

    fn tabulate<W: Fn(usize) -> Weight, R: Fn(usize) -> bool, E: Fn(usize) -> bool>(
        &mut self,
        among: Among,
        algorithm: &Algorithm,
        view: &View<W, R, E>,
        rng: &mut impl Rng,
    ) {
        let hashed = matches!(algorithm, Algorithm::ConsistentHash(_));
        let will_do = |at: &usize| {
            let regardless = hashed || among == Among::Ready;
            (view.is_ready)(*at) && (regardless || !(view.is_ejected)(*at))
        };
        self.among = among;
        self.drawn = self.members.iter().copied().filter(will_do).collect();
        let weights = self.drawn.iter().map(|at| (view.weight)(*at));
        match &mut self.table {
            Table::LeastRequest(draw) | Table::Random(draw) => *draw = Draw::new(weights),
            Table::RoundRobin(robin) => *robin = RoundRobin::new(weights, rng),
            Table::Ring(_) | Table::Maglev(_) => {}
        }
    }

    fn drawn_weight<W: Fn(usize) -> Weight, R, E>(&self, view: &View<W, R, E>) -> u64 {
        self.drawn.iter().map(|at| u64::from((view.weight)(*at).value())).sum()
    }

    /// The endpoint that is next.
    pub(super) fn next(
        &mut self,
        active: impl Fn(usize) -> u32,
        share: impl Fn(usize) -> Share,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        let drawn = &self.drawn;
        let active = |at: usize| drawn.get(at).map_or(0, |at| active(*at));
        let share = |at: usize| drawn.get(at).map_or(Share::FULL, |at| share(*at));
        let at = match &mut self.table {
            Table::LeastRequest(draw) => draw.least_request(active, share, rng),
            Table::Random(draw) => draw.random(rng),
            Table::RoundRobin(robin) => robin.next(share),
            Table::Ring(_) | Table::Maglev(_) => None,
        };
        self.drawn.get(at?).copied()
    }

    /// The endpoint of a key.
    pub(super) fn of_key(&self, key: HashKey, will_do: impl Fn(usize) -> bool) -> Option<usize> {
        let will_do = |at: usize| self.drawn.get(at).is_some_and(|at| will_do(*at));
        let at = match &self.table {
            Table::Ring(ring) => ring.pick(key, will_do),
            Table::Maglev(table) => table.pick(key, will_do),
            Table::LeastRequest(_) | Table::Random(_) | Table::RoundRobin(_) => None,
        };
        self.drawn.get(at?).copied()
    }
}
