//! Outlier detection as Envoy describes it, and laws.

use proptest::prelude::*;

use super::*;

fn n(number: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(number)
}

fn percent(value: f64) -> Percent {
    Percent::new("x", value).unwrap()
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Everybody may be out, so that one endpoint is enough for a table.
fn settings(five: u32, gateway: u32, origins: Origins) -> OutlierDetection {
    let (consecutive_5xx, consecutive_gateway) = (n(five), n(gateway));
    OutlierDetection {
        consecutive_5xx,
        consecutive_gateway,
        origins,
        max_ejected: percent(100.0),
        ..OutlierDetection::default()
    }
}

/// After how many of the outcomes the endpoint is out, and why.
fn out_after(settings: OutlierDetection, outcomes: &[Outcome]) -> Option<(usize, Cause)> {
    let mut detector = Detector::new(settings, 1, s(0));
    (1..).zip(outcomes).find_map(|(after, outcome)| match detector.report(0, *outcome, s(1)) {
        Reaction::Ejected { cause, .. } => Some((after, cause)),
        Reaction::Noted | Reaction::Spared { .. } => None,
    })
}

#[test]
fn failures_in_a_row_eject() {
    use Cause::{Consecutive5xx, ConsecutiveGateway, ConsecutiveLocal};
    use Outcome::{Connected, Done, Failed, Status, TimedOut};
    let split = Origins::Split { consecutive_local: NonZeroU32::new(2).unwrap() };
    let together = Origins::Together;
    for (five, gateway, origins, outcomes, want) in [
        (3, 0, together, vec![Status(500), Status(503), Status(599)], Some((3, Consecutive5xx))),
        (3, 0, together, vec![Status(500), Status(500), Status(200), Status(500), Status(500)], None),
        (3, 0, together, vec![Status(500), Status(404), Status(500), Status(500)], None),
        (0, 0, together, vec![Status(500); 100], None),
        // Gateway errors are errors, too.
        (5, 2, together, vec![Status(502), Status(504)], Some((2, ConsecutiveGateway))),
        (
            5,
            2,
            together,
            vec![Status(502), Status(500), Status(502), Status(500), Status(500)],
            Some((5, Consecutive5xx)),
        ),
        (2, 2, together, vec![Status(503), Status(503)], Some((2, ConsecutiveGateway))),
        (2, 9, together, vec![Status(503), Status(503)], Some((2, Consecutive5xx))),
        // outlier.rst: two timeouts and a 500 are three.
        (3, 0, together, vec![TimedOut, TimedOut, Connected, Status(500)], Some((4, Consecutive5xx))),
        (0, 2, together, vec![Failed, TimedOut], Some((2, ConsecutiveGateway))),
        (3, 0, together, vec![Failed, Failed, Done, Failed, Failed], None),
        // Split: each to its own counter.
        (2, 0, split, vec![Failed, TimedOut], Some((2, ConsecutiveLocal))),
        (2, 0, split, vec![Failed, Status(500), Failed], None),
        (2, 0, split, vec![Failed, Connected, Failed], None),
        (2, 0, split, vec![Failed, Done, Failed], None),
        (2, 0, split, vec![Status(500), Failed, Status(500)], Some((3, Consecutive5xx))),
        (0, 0, split, vec![Status(500); 9], None),
    ] {
        assert_eq!(
            out_after(settings(five, gateway, origins), &outcomes),
            want,
            "{five} {gateway} {origins:?} {outcomes:?}"
        );
    }
}

#[test]
fn the_answers_that_are_errors_can_be_named() {
    let codes = ErrorCodes::new([429, 503]).unwrap();
    let settings = OutlierDetection { codes, ..settings(2, 0, Origins::Together) };
    for (outcomes, want) in [([429, 503], Some((2, Cause::Consecutive5xx))), ([429, 500], None), ([500, 500], None)] {
        assert_eq!(out_after(settings.clone(), &outcomes.map(Outcome::Status)), want, "{outcomes:?}");
    }
    for code in [0, 99, 600] {
        assert_eq!(ErrorCodes::new([code]), Err(PolicyError::Status { code }));
    }
}

#[test]
fn each_time_lasts_longer_and_is_forgotten_while_it_goes_well() {
    let mut detector = Detector::new(settings(1, 0, Origins::Together), 1, s(0));
    let mut now = s(0);
    let mut fail = |now| match detector.report(0, Outcome::Failed, now) {
        Reaction::Ejected { lasts, .. } => {
            assert!(detector.is_ejected(0));
            // Not a sweep too early.
            assert!(
                !detector.sweep(now + lasts - s(1)) && detector.sweep(now + lasts + s(10)) && !detector.is_ejected(0)
            );
            (lasts, now + lasts + s(10))
        }
        other @ (Reaction::Noted | Reaction::Spared { .. }) => panic!("{other:?}"),
    };
    // 30 s times how often, 300 s at most.
    for want in [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300] {
        let (lasts, later) = fail(now);
        assert_eq!(lasts, s(want));
        now = later;
    }
    // Each interval that it is in, one less: the first is due ten seconds after it came back.
    for _ in 0..4 {
        now += s(10);
        detector.sweep(now);
    }
    let Reaction::Ejected { lasts, .. } = detector.report(0, Outcome::Failed, now) else { panic!("not ejected") };
    assert_eq!(lasts, s(30 * (11 - 4 + 1)));
}

#[test]
fn who_may_return_is_looked_at_once_in_an_interval() {
    let base_ejection = Period::new("base", s(1)).unwrap();
    let mut detector = Detector::new(OutlierDetection { base_ejection, ..settings(1, 0, Origins::Together) }, 1, s(0));
    for (fails, sweeps) in [(1, [(9, false), (10, true)]), (11, [(19, false), (20, true)])] {
        assert!(matches!(detector.report(0, Outcome::Failed, s(fails)), Reaction::Ejected { .. }));
        assert_eq!(sweeps.map(|(now, _)| detector.sweep(s(now))), sweeps.map(|(_, returns)| returns));
    }
}

#[test]
fn a_first_time_that_is_longer_than_the_longest_stays_as_long() {
    let settings =
        OutlierDetection { base_ejection: Period::new("base", s(900)).unwrap(), ..settings(1, 0, Origins::Together) };
    let mut detector = Detector::new(settings, 1, s(0));
    for now in [0, 2_000] {
        let Reaction::Ejected { lasts, .. } = detector.report(0, Outcome::Failed, s(now)) else {
            panic!("not ejected")
        };
        assert_eq!(lasts, s(900));
        assert!(detector.sweep(s(now + 1_000)));
    }
}

#[test]
fn no_more_than_the_percentage_is_ejected() {
    for (endpoints, max, want) in [(10, 10.0, 1), (9, 10.0, 0), (20, 10.0, 2), (3, 50.0, 1), (3, 100.0, 3), (5, 0.0, 0)]
    {
        let settings = OutlierDetection { max_ejected: percent(max), ..settings(1, 0, Origins::Together) };
        let mut detector = Detector::new(settings, endpoints, s(0));
        let reactions: Vec<Reaction> = (0..endpoints).map(|at| detector.report(at, Outcome::Failed, s(1))).collect();
        let spared = reactions.iter().filter(|one| **one == Reaction::Spared { cause: Cause::Consecutive5xx }).count();
        assert_eq!((detector.ejected(), spared), (want, endpoints - want), "{endpoints} {max}");
    }
}

#[test]
fn who_stays_keeps_its_state_and_fewer_endpoints_have_fewer_out() {
    let limited = OutlierDetection { max_ejected: percent(50.0), ..settings(1, 0, Origins::Together) };
    let mut detector = Detector::new(limited.clone(), 4, s(0));
    for (at, now) in [(3, 1), (0, 2)] {
        assert!(matches!(detector.report(at, Outcome::Failed, s(now)), Reaction::Ejected { .. }));
    }
    // One new, the others in another order.
    let moved = detector.moved(limited.clone(), &[None, Some(3), Some(2), Some(1), Some(0)], s(3));
    assert_eq!((0..5).map(|at| moved.is_ejected(at)).collect::<Vec<_>>(), [false, true, false, false, true]);
    assert_eq!(moved.ejected(), 2);
    // One of two may be out: the one that is out for the longer time comes back.
    let moved = detector.moved(limited, &[Some(0), Some(3)], s(3));
    assert_eq!((moved.is_ejected(0), moved.is_ejected(1), moved.ejected()), (true, false, 1));
}

#[test]
fn endpoints_that_are_not_there_are_nobodys_fault() {
    let mut detector = Detector::new(OutlierDetection::default(), 0, s(0));
    assert_eq!(detector.report(7, Outcome::Failed, s(1)), Reaction::Noted);
    assert!(!detector.is_ejected(7));
}

proptest! {
    #[test]
    fn whatever_happens_no_more_are_out_than_may_be(
        endpoints in 1_usize..30,
        max in 0_u32..=100,
        events in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..6, 0_u64..40), 0..300),
    ) {
        let allowed = percent(f64::from(max));
        let settings = OutlierDetection { max_ejected: allowed, ..settings(2, 2, Origins::SPLIT) };
        let mut detector = Detector::new(settings.clone(), endpoints, s(0));
        let mut count = endpoints;
        let mut now = s(0);
        for (at, what, later) in events {
            now += s(later);
            let at = at.index(count);
            let reported = match what {
                0 => Some(Outcome::Status(500)),
                1 => Some(Outcome::Status(503)),
                2 => Some(Outcome::TimedOut),
                3 => Some(Outcome::Status(200)),
                _ => None,
            };
            if let Some(outcome) = reported {
                detector.report(at, outcome, now);
            } else if what == 4 {
                detector.sweep(now);
            } else if count > 1 {
                let from: Vec<Option<usize>> = (0..count).filter(|one| *one != at).map(Some).collect();
                detector = detector.moved(settings.clone(), &from, now);
                count -= 1;
            }
            let out = (0..count).filter(|at| detector.is_ejected(*at)).count();
            prop_assert_eq!(out, detector.ejected());
            prop_assert!(allowed.allows(out, count), "{} of {}", out, count);
        }
        // And nobody stays out for ever.
        for _ in 0..2 {
            now += s(400);
            detector.sweep(now);
        }
        prop_assert_eq!(detector.ejected(), 0);
    }
}
