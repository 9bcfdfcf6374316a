//! Conditions of retries against outcomes, and the laws of waiting.

use proptest::prelude::*;
use rand::{SeedableRng, rngs::SmallRng};

use super::*;

fn answer(status: u16) -> Outcome {
    Outcome::Answer { status, grpc: None }
}

fn grpc(status: &str) -> Outcome {
    Outcome::Answer { status: 200, grpc: Some(status.parse().unwrap()) }
}

fn policy(attempts: u32, on: &str) -> RetryPolicy {
    RetryPolicy::new(attempts, on.parse().unwrap(), None).unwrap()
}

fn retry(policy: &RetryPolicy, retries: u32, outcome: Outcome, body: Body, load: Load) -> Retry {
    policy.may_retry(retries, outcome, body, load, &mut SmallRng::seed_from_u64(5))
}

#[test]
fn a_condition_asks_for_its_outcomes_and_no_others() {
    let all = [
        Outcome::ConnectFailure,
        Outcome::RefusedStream,
        Outcome::ResetBeforeRequest,
        Outcome::Reset,
        Outcome::TryTimeout,
        answer(200),
        answer(409),
        answer(429),
        answer(500),
        answer(503),
        grpc("CANCELLED"),
        grpc("DEADLINE_EXCEEDED"),
        grpc("INTERNAL"),
        grpc("RESOURCE_EXHAUSTED"),
        grpc("UNAVAILABLE"),
    ];
    let no_answer = [0, 1, 2, 3, 4];
    for (on, want) in [
        ("5xx", [&no_answer[..], &[8, 9]].concat()),
        ("gateway-error", [&no_answer[..], &[9]].concat()),
        ("reset", no_answer.to_vec()),
        ("reset-before-request", vec![0, 2]),
        ("connect-failure", vec![0]),
        ("refused-stream", vec![1]),
        ("retriable-4xx", vec![6]),
        ("retriable-status-codes", vec![]),
        ("429,500", vec![7, 8]),
        ("retriable-status-codes, 503", vec![9]),
        ("cancelled", vec![10]),
        ("deadline-exceeded", vec![11]),
        ("internal", vec![12]),
        ("resource-exhausted", vec![13]),
        ("unavailable", vec![14]),
        ("connect-failure,refused-stream,unavailable,cancelled", vec![0, 1, 10, 14]),
    ] {
        let policy = policy(1, on);
        for (i, outcome) in all.into_iter().enumerate() {
            let again = matches!(retry(&policy, 0, outcome, Body::Held, Load::default()), Retry::After(_));
            assert_eq!(again, want.contains(&i), "{on} {outcome:?}");
        }
    }
    let codes = RetryPolicy::new(1, RetryOn::codes([500, 503]).unwrap(), None).unwrap();
    for (i, outcome) in all.into_iter().enumerate() {
        let again = matches!(retry(&codes, 0, outcome, Body::Held, Load::default()), Retry::After(_));
        assert_eq!(again, [0, 1, 2, 3, 4, 8, 9].contains(&i), "codes {outcome:?}");
    }
}

#[test]
fn conditions_that_nobody_knows_are_refused() {
    for text in ["", "5xx,", "5XX", "connect_failure", "envoy-ratelimited", "200", "600", "-1"] {
        assert!(text.parse::<RetryOn>().is_err(), "{text:?}");
    }
    assert!(RetryOn::codes([500, 200]).is_err());
    assert_eq!(RetryPolicy::new(101, RetryOn::default(), None), Err(RetryError::Attempts(101)));
    assert_eq!("5xx,404 , reset".parse::<RetryOn>().unwrap().to_string(), "5xx,reset,retriable-status-codes,404");
    assert_eq!(
        RetryPolicy::default().to_string(),
        "up to 2 retries on connect-failure,refused-stream,cancelled,unavailable"
    );
    assert_eq!(policy(0, "5xx").to_string(), "no retries");
}

#[test]
fn what_must_not_be_sent_twice_is_not() {
    let budget = |percent, least| RetryPolicy { budget: Some(RetryBudget { percent, least }), ..policy(3, "5xx") };
    let load = |active, retrying| Load { active, retrying };
    let none = Load::default();
    for (policy, retries, outcome, body, load, want) in [
        (RetryPolicy::default(), 0, Outcome::ConnectFailure, Body::Held, none, None),
        (RetryPolicy::default(), 1, Outcome::ConnectFailure, Body::Held, none, None),
        (RetryPolicy::default(), 2, Outcome::ConnectFailure, Body::Held, none, Some(WhyNot::Exhausted)),
        (RetryPolicy::default(), 0, Outcome::Reset, Body::Held, none, Some(WhyNot::NotAsked)),
        (RetryPolicy::default(), 0, answer(503), Body::Held, none, Some(WhyNot::NotAsked)),
        (RetryPolicy::default(), 0, Outcome::RefusedStream, Body::Consumed, none, Some(WhyNot::BodyConsumed)),
        (policy(0, "5xx"), 0, answer(500), Body::Held, none, Some(WhyNot::Exhausted)),
        (budget(20, 3), 0, answer(500), Body::Held, load(0, 2), None),
        (budget(20, 3), 0, answer(500), Body::Held, load(0, 3), Some(WhyNot::Budget)),
        (budget(20, 3), 0, answer(500), Body::Held, load(100, 19), None),
        (budget(20, 3), 0, answer(500), Body::Held, load(100, 20), Some(WhyNot::Budget)),
        (budget(100, 0), 0, answer(500), Body::Held, load(u32::MAX, u32::MAX), Some(WhyNot::Budget)),
    ] {
        let got = match retry(&policy, retries, outcome, body, load) {
            Retry::After(_) => None,
            Retry::No(why) => Some(why),
        };
        assert_eq!(got, want, "{policy} {retries} {outcome:?} {body:?} {load:?}");
    }
}

proptest! {
    #[test]
    fn a_wait_is_never_sooner_than_asked_nor_longer_than_ten_times_that(
        millis in 0_u64..100_000,
        retries in 0_u32..100,
        seed in any::<u64>(),
    ) {
        let asked = Duration::from_millis(millis);
        let policy = RetryPolicy::new(100, RetryOn::default(), Some(asked)).unwrap();
        let mut rng = SmallRng::seed_from_u64(seed);
        let wait = policy.may_retry(retries, Outcome::ConnectFailure, Body::Held, Load::default(), &mut rng);
        let least = if asked.is_zero() { DEFAULT_BACKOFF } else { asked };
        let Retry::After(wait) = wait else { panic!("{wait:?}") };
        prop_assert!((least..=least * 10).contains(&wait), "{:?} of {:?}", wait, least);
    }

    #[test]
    fn a_consumed_body_is_never_sent_again(status in 100_u16..600, retries in 0_u32..9) {
        let policy = policy(9, "5xx,gateway-error,reset,retriable-4xx,429,unavailable");
        for outcome in [answer(status), Outcome::Reset, Outcome::ConnectFailure, Outcome::TryTimeout] {
            let again = retry(&policy, retries, outcome, Body::Consumed, Load::default());
            prop_assert!(matches!(again, Retry::No(_)));
        }
    }
}
