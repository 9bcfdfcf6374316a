//! The same odd requests to Envoy, set up as Istio sets up a waypoint, and to ours. What they do differently is written, with its reason, in
//! `docs/envoy-differences.md`; this test fails when they differ in a way that is not written there, and when something written there is no longer so.
//!
//! `UPDATE_DIFFERENCES=1` writes the page anew, from what was seen and from the reasons in `reasons.txt`.

mod backend;
mod case;
mod client;
mod frames;
mod observed;
mod page;
mod proxies;
mod talk;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::case::Case;
use crate::observed::Difference;
use crate::page::Page;
use crate::proxies::{LANES, Proxies};

/// How long nothing is heard before it is said that nothing comes; and how long when a difference is looked at again.
const QUIET: Duration = Duration::from_millis(700);
const CERTAIN: Duration = Duration::from_secs(3);
/// How often a difference that nobody expects is looked at again: a machine that is busy makes a proxy look silent.
const LOOKS: usize = 2;
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn requests_are_taken_as_by_envoy_except_where_it_is_said_why_not() {
    let cases = case::all().unwrap();
    assert!(cases.len() >= 200, "{} cases", cases.len());
    let page = Page::read().unwrap();
    let proxies = Proxies::start().unwrap();
    let begun = Instant::now();
    let next = Mutex::new(cases.iter());
    let found: Mutex<Vec<(&Case, Difference)>> = Mutex::default();
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let (proxies, next, found, page) = (&proxies, &next, &found, &page);
            scope.spawn(move || {
                let mut lane = proxies.lane(lane).unwrap();
                loop {
                    let Some(case) = next.lock().unwrap().next() else { return };
                    let mut difference = lane.compare(case, QUIET).unwrap();
                    for _ in 0..LOOKS {
                        if page.says(case) == difference.as_ref().map(ToString::to_string) {
                            break;
                        }
                        difference = lane.compare(case, CERTAIN).unwrap();
                    }
                    if let Some(difference) = difference {
                        found.lock().unwrap().push((case, difference));
                    }
                }
            });
        }
    });
    let took = begun.elapsed();
    let mut found = found.into_inner().unwrap();
    found.sort_by_key(|(case, _)| case.number);
    proxies.are_alive().unwrap();
    let seen = page::text(&cases, &found).unwrap();
    if std::env::var_os("UPDATE_DIFFERENCES").is_some() {
        return page::write(&seen).unwrap();
    }
    let changes = page.changes(&cases, &found);
    assert!(changes.is_empty(), "not as docs/envoy-differences.md says:\n{}", changes.join("\n"));
    assert_eq!(page.text(), seen, "its words are not those of reasons.txt: UPDATE_DIFFERENCES=1 writes it anew");
    assert!(took < LIMIT, "it took {took:?}");
}
