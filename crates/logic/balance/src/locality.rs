//! Near before far: which endpoints are of which level, and what share of the traffic goes where. `DestinationRule.loadBalancer.localityLbSetting`.
//!
//! In: where the client and each endpoint are, and what the policy prefers. Out: a level for each endpoint, 0 the best, or its part of a
//! distribution. Whether the endpoints of a level are well is no question here: that is `priority`'s.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use weir_model::Locality;

use crate::{Distance, PolicyError};

/// Where somebody runs, and what it is labelled with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Region, zone and subzone.
    pub locality: Locality,
    /// Its labels; also `topology.istio.io/network`, `topology.istio.io/cluster` and `kubernetes.io/hostname`, which Istio takes from elsewhere.
    pub labels: Arc<BTreeMap<Arc<str>, Arc<str>>>,
}

impl Place {
    /// What it has for a label. That of nobody is equal to that of nobody else: Istio makes no difference between none and an empty one.
    fn label(&self, name: &str) -> &str {
        match name {
            "topology.kubernetes.io/region" => &self.locality.region,
            "topology.kubernetes.io/zone" => &self.locality.zone,
            "topology.istio.io/subzone" => &self.locality.subzone,
            _ => self.labels.get(name).map_or("", |value| value),
        }
    }
}

/// What is preferred. Only one of them counts (Istio `LocalityLoadBalancerSetting`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalityPolicy {
    /// `enabled: false`: all places are alike.
    Disabled,
    /// The nearest that are well.
    Failover(Failover),
    /// `distribute`: to each place its share. The first that names the client's place counts; a client that none of them names makes no difference.
    Distribute(Vec<Distribute>),
    /// `zoneAwareLbSetting`: the client's zone, as far as it can take the load of that zone's clients.
    ZoneAware(ZoneAware),
}

impl Default for LocalityPolicy {
    /// Istio `MeshConfig.localityLbSetting`: enabled, which is failover by locality.
    fn default() -> Self {
        Self::Failover(Failover::default())
    }
}

/// By how far away, in levels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failover {
    /// `failover`: to which region another's traffic goes before all others.
    pub regions: Vec<RegionFailover>,
    /// `failoverPriority`: labels in which an endpoint is to be like the client; the more of the first of them, the better.
    pub priority: Vec<LabelMatch>,
    /// When it counts.
    pub engaged: Engaged,
}

/// When levels count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Engaged {
    /// If the policy has outlier detection, too: Istio's rule for `localityLbSetting`, since without it nobody would be found to be unwell.
    #[default]
    WithOutlierDetection,
    /// In any case: Istio's rule for a Service's `trafficDistribution`.
    Always,
}

/// Traffic of one region goes to another rather than to any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionFailover {
    /// The client's region.
    pub from: Arc<str>,
    /// Where it goes.
    pub to: Arc<str>,
}

/// A label that counts: `key`, or `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelMatch {
    name: Arc<str>,
    /// What endpoints are to have, instead of what the client has.
    value: Option<Arc<str>>,
}

/// The longest label with its value that Kubernetes has: a prefix of 253, a name and a value of 63 bytes.
const LONGEST_LABEL: usize = 253 + 1 + 63 + 1 + 63;

impl FromStr for LabelMatch {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        let fits = text.len() <= LONGEST_LABEL && !name.is_empty();
        if !fits || !name.bytes().chain(value.unwrap_or_default().bytes()).all(legal) {
            let text = text.chars().take(LONGEST_LABEL).collect();
            let allowed = "a label, perhaps followed by '=' and its value";
            return Err(PolicyError::Text { what: "label", text, max: LONGEST_LABEL, allowed });
        }
        Ok(Self { name: name.into(), value: value.map(Into::into) })
    }
}

impl Failover {
    /// How far away an endpoint is, in levels, for [`crate::pick`], which looks at each endpoint of a service anew and keeps no tables.
    pub fn distance(&self, client: &Place, endpoint: &Place) -> Distance {
        Distance(u8::try_from(self.level(client, endpoint)).unwrap_or(u8::MAX))
    }

    /// The level of an endpoint: 0 is the best. Levels may be missing between two that are taken.
    fn level(&self, client: &Place, endpoint: &Place) -> usize {
        let labels = self.unlike(client, endpoint);
        if !self.priority.is_empty() && self.regions.is_empty() {
            return labels;
        }
        labels * 5 + self.hops(&client.locality, &endpoint.locality)
    }

    /// How many labels do not count because they, or one before them, differ.
    fn unlike(&self, client: &Place, endpoint: &Place) -> usize {
        let wanted = |label: &LabelMatch| {
            label.value.as_deref().unwrap_or_else(|| client.label(&label.name)) == endpoint.label(&label.name)
        };
        self.priority.len() - self.priority.iter().take_while(|label| wanted(label)).count()
    }

    /// Istio's priorities: subzone, zone, region, any; and after that regions it does not fail over to.
    fn hops(&self, client: &Locality, endpoint: &Locality) -> usize {
        let distance = Distance::between(client, endpoint);
        let avoided = distance == Distance::ELSEWHERE && self.avoids(&client.region, &endpoint.region);
        usize::from(distance.0) + usize::from(avoided)
    }

    fn avoids(&self, from: &str, to: &str) -> bool {
        self.regions.iter().find(|rule| *rule.from == *from).is_some_and(|rule| *rule.to != *to)
    }
}

/// `zoneAwareLbSetting`. Envoy zone_aware.rst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneAware {
    /// `minClusterSize`: with fewer endpoints in the client's region, zones make no difference. Envoy: 6.
    pub min_cluster_size: u32,
    /// What comes after the client's region.
    pub failover: Failover,
}

impl Default for ZoneAware {
    fn default() -> Self {
        Self { min_cluster_size: 6, failover: Failover::default() }
    }
}

/// A region, a zone of it, or a subzone of that, and all that is in it: `*`, `region/*`, `region/zone/*`, `region/zone/subzone`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalityPattern(Vec<Arc<str>>);

/// The longest name of a region, zone or subzone: a label's value. Kubernetes API v1.
const LONGEST_PART: usize = 63;

impl LocalityPattern {
    /// Whether a place is in it.
    pub fn matches(&self, place: &Locality) -> bool {
        self.0.iter().zip([&place.region, &place.zone, &place.subzone]).all(|(one, other)| one == other)
    }
}

impl FromStr for LocalityPattern {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let mut parts: Vec<&str> = text.split('/').collect();
        let few = parts.len() <= 3;
        if parts.last() == Some(&"*") {
            parts.pop();
        }
        let legal = |part: &&str| !part.is_empty() && part.len() <= LONGEST_PART && !part.contains('*');
        if few && parts.iter().all(legal) {
            return Ok(Self(parts.into_iter().map(Arc::from).collect()));
        }
        Err(PolicyError::Locality { text: text.chars().take(3 * LONGEST_PART + 3).collect() })
    }
}

impl fmt::Display for LocalityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("/"))?;
        // A subzone has nothing in it.
        f.write_str(match self.0.len() {
            0 => "*",
            1 | 2 => "/*",
            _ => "",
        })
    }
}

/// Where the traffic of a place goes, in percent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribute {
    from: LocalityPattern,
    /// The narrowest first.
    to: Vec<(LocalityPattern, u32)>,
}

impl Distribute {
    /// From there to those.
    ///
    /// # Errors
    /// When the percentages do not add up to 100, or a place is named twice.
    pub fn new(from: LocalityPattern, mut to: Vec<(LocalityPattern, u32)>) -> Result<Self, PolicyError> {
        let sum: u64 = to.iter().map(|(_, percent)| u64::from(*percent)).sum();
        if sum != 100 {
            return Err(PolicyError::Distribution { from: from.to_string(), sum });
        }
        to.sort_by(|(one, _), (other, _)| other.0.len().cmp(&one.0.len()).then_with(|| one.cmp(other)));
        if let Some([(twice, _), _]) = to.array_windows().find(|[(one, _), (other, _)]| one == other) {
            return Err(PolicyError::DistributedTwice { from: from.to_string(), to: twice.to_string() });
        }
        Ok(Self { from, to })
    }

    /// Of which of its parts a place is: that which says it the most narrowly.
    fn part(&self, place: &Locality) -> Option<usize> {
        self.to.iter().position(|(pattern, _)| pattern.matches(place))
    }
}

/// Endpoints by level, and within a level by what divides it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Arrangement(pub(crate) Vec<Level>);

/// The endpoints that are as good as each other, by their place in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Level {
    /// All alike.
    Alike(Vec<usize>),
    /// With a share in percent for each group.
    Shares(Vec<(u32, Vec<usize>)>),
    /// By zone. The least that all are to be, and the client's own zone first.
    Zones { min_cluster_size: u32, zones: Vec<(Locality, Vec<usize>)> },
}

/// Arranges endpoints as a client sees them.
pub(crate) fn arrange(
    policy: &LocalityPolicy,
    outliers_are_detected: bool,
    client: &Place,
    endpoints: &[&Place],
) -> Arrangement {
    let alike = || Arrangement(vec![Level::Alike((0..endpoints.len()).collect())]);
    let engaged = |failover: &Failover| outliers_are_detected || failover.engaged == Engaged::Always;
    match policy {
        LocalityPolicy::Disabled => alike(),
        LocalityPolicy::Failover(failover) if !engaged(failover) => alike(),
        LocalityPolicy::Failover(failover) => Arrangement(
            levels(endpoints, |place| failover.level(client, place)).into_iter().map(Level::Alike).collect(),
        ),
        LocalityPolicy::Distribute(rules) => match rules.iter().find(|rule| rule.from.matches(&client.locality)) {
            Some(rule) => Arrangement(vec![distributed(rule, endpoints)]),
            None => alike(),
        },
        LocalityPolicy::ZoneAware(aware) => zoned(aware, engaged(&aware.failover), client, endpoints),
    }
}

/// Endpoints by level, without empty levels.
fn levels(endpoints: &[&Place], level: impl Fn(&Place) -> usize) -> Vec<Vec<usize>> {
    let mut levels: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, place) in endpoints.iter().enumerate() {
        levels.entry(level(place)).or_default().push(at);
    }
    levels.into_values().collect()
}

fn distributed(rule: &Distribute, endpoints: &[&Place]) -> Level {
    let mut groups: Vec<(u32, Vec<usize>)> = rule.to.iter().map(|(_, percent)| (*percent, Vec::new())).collect();
    for (at, place) in endpoints.iter().enumerate() {
        if let Some((_, group)) = rule.part(&place.locality).and_then(|part| groups.get_mut(part)) {
            group.push(at);
        }
    }
    // Where nothing goes, endpoints do not count among those that could be had.
    groups.retain(|(percent, _)| *percent > 0);
    Level::Shares(groups)
}

fn zoned(aware: &ZoneAware, engaged: bool, client: &Place, endpoints: &[&Place]) -> Arrangement {
    let collapsed = |place: &Place| {
        let level = aware.failover.unlike(client, place) * 5;
        // Within the region it is not levels that matter.
        level + aware.failover.hops(&client.locality, &place.locality).max(2)
    };
    let all = if engaged { levels(endpoints, collapsed) } else { vec![(0..endpoints.len()).collect()] };
    let mut levels: Vec<Level> = all.into_iter().map(Level::Alike).collect();
    // Envoy zone_aware.rst: only the best level is divided.
    if let Some(Level::Alike(best)) = levels.first() {
        let mut zones: BTreeMap<(bool, &str, &str), (Locality, Vec<usize>)> = BTreeMap::new();
        for (at, place) in best.iter().filter_map(|at| Some((*at, endpoints.get(*at)?))) {
            let locality = Locality { subzone: "".into(), ..place.locality.clone() };
            let foreign = !same_zone(&locality, &client.locality);
            zones
                .entry((foreign, &place.locality.region, &place.locality.zone))
                .or_insert((locality, Vec::new()))
                .1
                .push(at);
        }
        let zones = zones.into_values().collect();
        if let Some(first) = levels.first_mut() {
            *first = Level::Zones { min_cluster_size: aware.min_cluster_size, zones };
        }
    }
    Arrangement(levels)
}

/// Whether both are in one zone of one region.
pub(crate) fn same_zone(one: &Locality, other: &Locality) -> bool {
    one.region == other.region && one.zone == other.zone
}

#[cfg(test)]
mod tests;
