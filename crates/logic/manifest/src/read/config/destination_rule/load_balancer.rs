//! `loadBalancer`: which endpoint.

use std::sync::Arc;

use weir_balance::{
    Algorithm, ConsistentHash, Cookie, Distribute, Failover, HashSource, HashTable, LabelMatch, LocalityPattern,
    LocalityPolicy, Period, RegionFailover, RingSize, TableSize, Warmup, ZoneAware,
};

use super::super::scalar::{Remarks, duration, legal, number, percent, period, whole};
use crate::{
    error::Cause,
    object::LoadBalancer,
    reader::{At, Fields, Reader},
    tree::Value,
};

const LOAD_BALANCER: &[&str] = &[
    "backendUtilization",
    "consistentHash",
    "localityLbSetting",
    "simple",
    "warmup",
    "warmupDurationSecs",
    "zoneAwareLbSetting",
];
const CONSISTENT_HASH: &[&str] =
    &["httpCookie", "httpHeaderName", "httpQueryParameterName", "maglev", "minimumRingSize", "ringHash", "useSourceIp"];
const COOKIE: &[&str] = &["attributes", "name", "path", "ttl"];
const LOCALITY: &[&str] = &["distribute", "enabled", "failover", "failoverPriority"];
const ZONE_AWARE: &[&str] = &["enabled", "failover", "failoverPriority", "minClusterSize"];
const WARMUP: &[&str] = &["aggression", "duration", "minimumPercent"];
const BACKEND_UTILIZATION: &[&str] = &[
    "errorUtilizationPenaltyPercent",
    "metricNamesForComputingUtilization",
    "weightExpirationPeriod",
    "weightStabilizationPeriod",
    "weightUpdatePeriod",
];

/// Most items of each list about localities. Ours.
const MAX_PLACES: usize = 256;
/// Most labels of `failoverPriority`. Ours.
const MAX_LABELS: usize = 32;

/// `loadBalancer`.
pub(super) fn load_balancer(reader: &mut Reader, remarks: &mut Remarks, at: &At<'_>) -> Option<LoadBalancer> {
    let fields = reader.fields(at, LOAD_BALANCER)?;
    let algorithm = algorithm(reader, remarks, &fields);
    let warmup = warmup(reader, &fields);
    let locality = locality(reader, remarks, &fields);
    let algorithm = algorithm?;
    if warmup.is_some() {
        let text = "only LEAST_REQUEST and ROUND_ROBIN warm up";
        match &algorithm {
            Algorithm::LeastRequest | Algorithm::RoundRobin => {}
            Algorithm::Random | Algorithm::Passthrough | Algorithm::ConsistentHash(_) => {
                remarks.no_effect(fields.path("warmup"), text);
            }
        }
    }
    Some(LoadBalancer { algorithm, warmup, locality })
}

/// `simple`, `consistentHash` or `backendUtilization`, one of them at most.
fn algorithm(reader: &mut Reader, remarks: &mut Remarks, fields: &Fields<'_>) -> Option<Algorithm> {
    let said = ["simple", "consistentHash", "backendUtilization"].map(|name| fields.field(name));
    if let [_, second, third] = &said
        && said.iter().flatten().count() > 1
        && let Some(at) = third.as_ref().or(second.as_ref())
    {
        reader.fail(at, Cause::NotWith { other: "another of simple, consistentHash and backendUtilization" });
        return None;
    }
    match said {
        [Some(at), _, _] => simple(reader, &at),
        [None, Some(at), _] => consistent_hash(reader, &at).map(Algorithm::ConsistentHash),
        [None, None, Some(at)] => {
            reader.fields(&at, BACKEND_UTILIZATION)?;
            remarks.unsupported(at.path, "no load reports are read from backends; ROUND_ROBIN instead");
            Some(Algorithm::RoundRobin)
        }
        [None, None, None] => Some(Algorithm::default()),
    }
}

fn simple(reader: &mut Reader, at: &At<'_>) -> Option<Algorithm> {
    match reader.text(at)? {
        "UNSPECIFIED" | "LEAST_CONN" | "LEAST_REQUEST" => Some(Algorithm::LeastRequest),
        "ROUND_ROBIN" => Some(Algorithm::RoundRobin),
        "RANDOM" => Some(Algorithm::Random),
        "PASSTHROUGH" => Some(Algorithm::Passthrough),
        _ => reader.expected(
            at,
            "\"UNSPECIFIED\", \"LEAST_REQUEST\", \"LEAST_CONN\", \"ROUND_ROBIN\", \"RANDOM\" or \"PASSTHROUGH\"",
        ),
    }
}

fn consistent_hash(reader: &mut Reader, at: &At<'_>) -> Option<ConsistentHash> {
    const KEYS: &str = "one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName";
    let fields = reader.fields(at, CONSISTENT_HASH)?;
    let mut sources = Vec::new();
    if let Some(at) = fields.field("httpHeaderName") {
        let name = reader.text(&at)?;
        sources.push(legal(reader, &at, HashSource::header(name))?);
    }
    if let Some(at) = fields.field("httpCookie") {
        sources.push(HashSource::Cookie(cookie(reader, &at)?));
    }
    if reader.boolean(fields.field("useSourceIp")) == Some(true) {
        sources.push(HashSource::SourceIp);
    }
    if let Some(at) = fields.field("httpQueryParameterName") {
        let name = reader.text(&at)?;
        sources.push(legal(reader, &at, HashSource::query(name))?);
    }
    let table = table(reader, &fields)?;
    let several = sources.len() > 1;
    match sources.pop() {
        Some(source) if !several => Some(ConsistentHash { source, table }),
        Some(_) | None => reader.expected(at, KEYS),
    }
}

/// `ringHash` or `maglev`; the older `minimumRingSize` counts if neither is there.
fn table(reader: &mut Reader, fields: &Fields<'_>) -> Option<HashTable> {
    let older = size(reader, fields.field("minimumRingSize"));
    let (ring, maglev) = (fields.field("ringHash"), fields.field("maglev"));
    match (ring, maglev) {
        (Some(_), Some(at)) => {
            reader.fail(&at, Cause::NotWith { other: "ringHash" });
            None
        }
        (Some(at), None) => {
            let fields = reader.fields(&at, &["minimumRingSize"])?;
            let size = size(reader, fields.field("minimumRingSize"));
            ring_size(reader, size).map(HashTable::Ring)
        }
        (None, Some(at)) => {
            let fields = reader.fields(&at, &["tableSize"])?;
            match size(reader, fields.field("tableSize")) {
                Some((size, at)) => legal(reader, &at, TableSize::new(size)).map(HashTable::Maglev),
                None => Some(HashTable::Maglev(TableSize::default())),
            }
        }
        (None, None) => ring_size(reader, older).map(HashTable::Ring),
    }
}

fn ring_size(reader: &mut Reader, size: Option<(u64, At<'_>)>) -> Option<RingSize> {
    match size {
        Some((size, at)) => legal(reader, &at, RingSize::new(size)),
        None => Some(RingSize::default()),
    }
}

/// A size that is not said when it is 0.
fn size<'n>(reader: &mut Reader, at: Option<At<'n>>) -> Option<(u64, At<'n>)> {
    let at = at?;
    let number = match &at.node.value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    match number {
        Some(0) => None,
        Some(number) => Some((number, at)),
        None => reader.expected(&at, "a whole number, 0 or more"),
    }
}

fn cookie(reader: &mut Reader, at: &At<'_>) -> Option<Cookie> {
    let fields = reader.fields(at, COOKIE)?;
    let name = reader.required(&fields, "name", "the cookie's name")?;
    let name = reader.text(&name)?;
    let path = reader.some_text(fields.field("path")).map(|(path, _)| path);
    let ttl = duration(reader, fields.field("ttl"));
    let mut attributes = Vec::new();
    for at in reader.items(fields.field("attributes")) {
        let Some(fields) = reader.fields(&at, &["name", "value"]) else { continue };
        let name = reader.required(&fields, "name", "the attribute's name").and_then(|at| reader.text(&at));
        let value = reader.some_text(fields.field("value")).map(|(value, _)| value);
        attributes.extend(name.map(|name| (name, value)));
    }
    legal(reader, at, Cookie::new(name, path, ttl, &attributes))
}

/// `warmup`, or the older `warmupDurationSecs`.
fn warmup(reader: &mut Reader, fields: &Fields<'_>) -> Option<Warmup> {
    let older = period(reader, fields.field("warmupDurationSecs"));
    let (minimum, aggression, length) = match fields.field("warmup") {
        Some(at) => {
            let fields = reader.fields(&at, WARMUP)?;
            let minimum = percent(reader, fields.field("minimumPercent"), "minimum");
            let aggression = number(reader, fields.field("aggression"));
            let at = reader.required(&fields, "duration", "how long an endpoint warms up")?;
            (minimum, aggression, period(reader, Some(at))?)
        }
        None => (None, None, older?),
    };
    let (length, at) = length;
    let length = legal(reader, &at, Period::new("warmup", length))?;
    let (steepness, place) = aggression.map_or((None, at), |(steepness, at)| (Some(steepness), at));
    // Zero is not said.
    legal(reader, &place, Warmup::new(length, minimum, steepness.filter(|one| *one != 0.0)))
}

/// `zoneAwareLbSetting`, or `localityLbSetting`.
fn locality(reader: &mut Reader, remarks: &mut Remarks, fields: &Fields<'_>) -> Option<LocalityPolicy> {
    let setting = fields.field("localityLbSetting");
    let by_locality = setting.as_ref().and_then(|at| locality_setting(reader, at));
    match fields.field("zoneAwareLbSetting").and_then(|at| zone_aware(reader, &at)) {
        Some(zone_aware) => {
            if let Some(at) = setting {
                remarks.no_effect(at.path, "zoneAwareLbSetting counts in its place");
            }
            Some(zone_aware)
        }
        None => by_locality,
    }
}

fn locality_setting(reader: &mut Reader, at: &At<'_>) -> Option<LocalityPolicy> {
    let fields = reader.fields(at, LOCALITY)?;
    let enabled = reader.boolean(fields.field("enabled"));
    let distribute = distributions(reader, &fields);
    let failover = failover(reader, &fields);
    let prefers = failover != Failover::default();
    if !distribute.is_empty() && prefers {
        reader.fail_at(
            fields.path("distribute"),
            fields.line("distribute"),
            Cause::NotWith { other: "failover or failoverPriority" },
        );
        return None;
    }
    Some(match enabled {
        Some(false) => LocalityPolicy::Disabled,
        Some(true) | None if distribute.is_empty() => LocalityPolicy::Failover(failover),
        Some(true) | None => LocalityPolicy::Distribute(distribute),
    })
}

/// `zoneAwareLbSetting`; absent when it is not enabled.
fn zone_aware(reader: &mut Reader, at: &At<'_>) -> Option<LocalityPolicy> {
    let fields = reader.fields(at, ZONE_AWARE)?;
    let enabled = reader.boolean(fields.field("enabled"));
    let failover = failover(reader, &fields);
    let least = match fields.field("minClusterSize") {
        Some(at) => match whole(reader, Some(at.clone()))? {
            0 => return reader.expected(&at, "1 or more"),
            least => Some(least),
        },
        None => None,
    };
    let min_cluster_size = least.unwrap_or(ZoneAware::default().min_cluster_size);
    (enabled != Some(false)).then_some(LocalityPolicy::ZoneAware(ZoneAware { min_cluster_size, failover }))
}

fn failover(reader: &mut Reader, fields: &Fields<'_>) -> Failover {
    let mut failover = Failover::default();
    for at in reader.few(fields.field("failover"), "regions", MAX_PLACES) {
        let Some(fields) = reader.fields(&at, &["from", "to"]) else { continue };
        let (from, to) = (region(reader, &fields, "from"), region(reader, &fields, "to"));
        match (from, to) {
            (Some(from), Some(to)) if from == to => {
                reader.expected::<()>(&at, "two regions that differ");
            }
            (Some(from), Some(to)) => failover.regions.push(RegionFailover { from, to }),
            (None, _) | (_, None) => {}
        }
    }
    for at in reader.few(fields.field("failoverPriority"), "labels", MAX_LABELS) {
        let Some(text) = reader.text(&at) else { continue };
        failover.priority.extend(legal(reader, &at, text.parse::<LabelMatch>()));
    }
    failover
}

fn region(reader: &mut Reader, fields: &Fields<'_>, name: &str) -> Option<Arc<str>> {
    let at = reader.required(fields, name, "a region")?;
    let text = reader.text(&at)?;
    if text.is_empty() || text.len() > 63 || text.contains(['/', '*']) {
        return reader.expected(&at, "a region, without '/' and '*', of at most 63 bytes");
    }
    Some(text.into())
}

fn distributions(reader: &mut Reader, fields: &Fields<'_>) -> Vec<Distribute> {
    let items = reader.few(fields.field("distribute"), "distributions", MAX_PLACES);
    items.iter().filter_map(|at| distribution(reader, at)).collect()
}

fn distribution(reader: &mut Reader, at: &At<'_>) -> Option<Distribute> {
    let fields = reader.fields(at, &["from", "to"])?;
    let from = reader.required(&fields, "from", "where the traffic comes from")?;
    let text = reader.text(&from)?;
    let from = legal(reader, &from, text.parse::<LocalityPattern>());
    let to_at = reader.required(&fields, "to", "where it goes, in percent")?;
    let to = reader.map(&to_at)?;
    if to.len() > MAX_PLACES {
        reader.fail(&to_at, Cause::Exceeds { what: "places", max: MAX_PLACES });
        return None;
    }
    let mut shares = Vec::new();
    for (place, at) in to.all() {
        let pattern = legal(reader, &at, place.parse::<LocalityPattern>());
        let share = whole(reader, Some(at.clone()));
        match share {
            Some(share @ 1..=100) => shares.extend(pattern.map(|pattern| (pattern, share))),
            Some(_) => reader.expected(&at, "a percentage, 1 to 100")?,
            None => {}
        }
    }
    if shares.len() != to.len() {
        return None;
    }
    legal(reader, at, Distribute::new(from?, shares))
}
