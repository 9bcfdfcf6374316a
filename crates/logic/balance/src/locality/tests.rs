//! Levels and shares, as Istio documents them.

use super::*;

fn locality(text: &str) -> Locality {
    let mut parts = text.split('/').map(Arc::from).chain(std::iter::repeat_with(|| Arc::from("")));
    let mut next = || parts.next().unwrap();
    Locality { region: next(), zone: next(), subzone: next() }
}

/// `region/zone/subzone key=value …`
fn place(text: &str) -> Place {
    let mut words = text.split(' ');
    let locality = locality(words.next().unwrap());
    let labels = words.filter_map(|word| word.split_once('=')).map(|(name, value)| (name.into(), value.into()));
    Place { locality, labels: Arc::new(labels.collect()) }
}

fn pattern(text: &str) -> LocalityPattern {
    text.parse().unwrap()
}

fn labels(texts: &[&str]) -> Vec<LabelMatch> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn arranged(policy: &LocalityPolicy, outliers: bool, client: &str, endpoints: &[&str]) -> Vec<Level> {
    let endpoints: Vec<Place> = endpoints.iter().map(|text| place(text)).collect();
    arrange(policy, outliers, &place(client), &endpoints.iter().collect::<Vec<_>>()).0
}

/// The level of each endpoint.
fn levels_of(policy: &LocalityPolicy, client: &str, endpoints: &[&str]) -> Vec<usize> {
    let levels = arranged(policy, true, client, endpoints);
    let is_in = |level: &Level, at: usize| matches!(level, Level::Alike(members) if members.contains(&at));
    (0..endpoints.len()).map(|at| levels.iter().position(|level| is_in(level, at)).unwrap()).collect()
}

#[test]
fn the_nearer_the_better() {
    let failover = |rules: &[(&str, &str)], priority: &[&str]| {
        let regions =
            rules.iter().map(|(from, to)| RegionFailover { from: (*from).into(), to: (*to).into() }).collect();
        LocalityPolicy::Failover(Failover { regions, priority: labels(priority), engaged: Engaged::default() })
    };
    for (rules, priority, client, endpoints, want) in [
        (vec![], vec![], "r/z/s", vec!["r/z/s", "r/z/t", "r/y/s", "q/z/s"], vec![0, 1, 2, 3]),
        // Levels that nobody is of are left out.
        (vec![], vec![], "r/z/s", vec!["q/z/s", "r/z/t"], vec![1, 0]),
        (vec![], vec![], "", vec!["", "r/z/s"], vec![0, 1]),
        (vec![("r", "eu")], vec![], "r/z", vec!["us/z", "eu/z", "r/y", "ap/z"], vec![2, 1, 0, 2]),
        (vec![("r", "eu")], vec![], "q/z", vec!["us/z", "eu/z"], vec![0, 0]),
        // The first rule for a region counts.
        (vec![("r", "eu"), ("r", "us")], vec![], "r/z", vec!["us/z", "eu/z"], vec![1, 0]),
        // failoverPriority: as many of the first labels as are alike.
        (
            vec![],
            vec!["a", "b", "c"],
            "r a=1 b=2 c=3",
            vec!["r a=1 b=2 c=3", "r a=1 b=2", "r a=1 c=3", "r b=2 c=3", "r"],
            vec![0, 1, 2, 3, 3],
        ),
        (vec![], vec!["a=7", "b"], "r a=1 b=2", vec!["r a=7 b=2", "r a=7", "r a=1 b=2"], vec![0, 1, 2]),
        (
            vec![],
            vec!["topology.kubernetes.io/region", "topology.kubernetes.io/zone"],
            "r/z",
            vec!["r/z", "r/y", "q/z"],
            vec![0, 1, 2],
        ),
        (vec![], vec!["topology.istio.io/subzone"], "r/z/s", vec!["r/z/s", "r/z/t"], vec![0, 1]),
        (vec![], vec!["a"], "r", vec!["r", "r a=1"], vec![0, 1]),
        // Both: labels first, then regions.
        (vec![("r", "eu")], vec!["a"], "r/z a=1", vec!["eu/z a=1", "us/z a=1", "r/z", "r/z a=1"], vec![1, 2, 3, 0]),
    ] {
        let policy = failover(&rules, &priority);
        assert_eq!(levels_of(&policy, client, &endpoints), want, "{rules:?} {priority:?} {client}");
        // Distances are in the same order.
        let LocalityPolicy::Failover(failover) = policy else { panic!("{policy:?}") };
        let distances = endpoints.iter().map(|at| failover.distance(&place(client), &place(at)));
        let mut sorted: Vec<(Distance, usize)> = distances.zip(want).collect();
        sorted.sort_unstable();
        assert!(sorted.is_sorted_by_key(|(_, level)| *level), "{sorted:?}");
        assert!(sorted.array_windows().all(|[one, other]| (one.0 == other.0) == (one.1 == other.1)), "{sorted:?}");
    }
}

#[test]
fn levels_count_only_where_somebody_finds_out_who_is_unwell() {
    let always = LocalityPolicy::Failover(Failover { engaged: Engaged::Always, ..Failover::default() });
    for (policy, outliers, want) in [
        (LocalityPolicy::default(), true, 2),
        (LocalityPolicy::default(), false, 1),
        (always, false, 2),
        (LocalityPolicy::Disabled, true, 1),
    ] {
        assert_eq!(arranged(&policy, outliers, "r/z", &["r/z", "q/z"]).len(), want, "{policy:?} {outliers}");
    }
}

#[test]
fn traffic_is_distributed_by_the_first_rule_and_the_narrowest_place() {
    let rule = |from: &str, to: &[(&str, u32)]| {
        Distribute::new(pattern(from), to.iter().map(|(text, percent)| (pattern(text), *percent)).collect()).unwrap()
    };
    let policy = LocalityPolicy::Distribute(vec![
        rule("us/z1/*", &[("us/*", 30), ("us/z1/*", 60), ("eu", 10)]),
        rule("us/*", &[("*", 100)]),
    ]);
    let endpoints = ["us/z1/a", "us/z2/a", "eu/z1", "ap/z1", "us/z1/b"];
    for (client, want) in [
        ("us/z1/c", Level::Shares(vec![(60, vec![0, 4]), (10, vec![2]), (30, vec![1])])),
        ("us/z2", Level::Shares(vec![(100, vec![0, 1, 2, 3, 4])])),
        ("eu/z1", Level::Alike(vec![0, 1, 2, 3, 4])),
    ] {
        assert_eq!(arranged(&policy, false, client, &endpoints), [want], "{client}");
    }
}

#[test]
fn a_distribution_is_all_of_the_traffic() {
    for (to, fits) in [
        (vec![("*", 100)], true),
        (vec![("a", 50), ("b", 50)], true),
        (vec![("a", 0), ("b", 100)], true),
        (vec![], false),
        (vec![("a", 99)], false),
        (vec![("a", u32::MAX), ("b", 101)], false),
        (vec![("a/*", 50), ("a", 50)], false),
    ] {
        let given = to.iter().map(|(text, percent)| (pattern(text), *percent)).collect();
        assert_eq!(Distribute::new(pattern("*"), given).is_ok(), fits, "{to:?}");
    }
}

#[test]
fn places_are_written_from_the_outside_in() {
    for (text, want) in [
        ("*", Some(("*", "x/y/z"))),
        ("r", Some(("r/*", "r/y/z"))),
        ("r/*", Some(("r/*", "r"))),
        ("r/z/*", Some(("r/z/*", "r/z/s"))),
        ("r/z/s", Some(("r/z/s", "r/z/s"))),
        ("", None),
        ("/z", None),
        ("*/z", None),
        ("r/*/s", None),
        ("r/z*", None),
        ("r/z/s/*", None),
        ("r/z/s/t", None),
    ] {
        let parsed = text.parse::<LocalityPattern>();
        assert_eq!(parsed.as_ref().ok().map(ToString::to_string).as_deref(), want.map(|(text, _)| text), "{text:?}");
        if let (Ok(pattern), Some((_, place))) = (parsed, want) {
            assert!(
                pattern.matches(&locality(place)) && (text == "*" || !pattern.matches(&locality("other"))),
                "{text}"
            );
        }
    }
    assert!("x".repeat(64).parse::<LocalityPattern>().is_err());
}

#[test]
fn labels_are_names_perhaps_with_values() {
    for (text, fits) in
        [("a", true), ("a.b/c=d", true), ("a=", true), ("", false), ("=x", false), ("a=b=c", false), ("a b", false)]
    {
        assert_eq!(text.parse::<LabelMatch>().is_ok(), fits, "{text:?}");
    }
}

#[test]
fn zones_divide_the_best_level_alone_the_clients_own_first() {
    let policy = LocalityPolicy::ZoneAware(ZoneAware::default());
    let levels = arranged(&policy, true, "r/m/s", &["q/m", "r/z", "r/m/t", "r/a", "r/m/s"]);
    let zones = vec![(locality("r/m"), vec![2, 4]), (locality("r/a"), vec![3]), (locality("r/z"), vec![1])];
    assert_eq!(levels, [Level::Zones { min_cluster_size: 6, zones }, Level::Alike(vec![0])]);
}
