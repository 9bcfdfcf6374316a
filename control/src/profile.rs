//! Where processor time goes, when `--profiling` asks for it. Off unless it does: samples are taken in a signal handler.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use pprof::{ProfilerGuard, ProfilerGuardBuilder, Report};
use serde_json::{Value, json};

/// Samples a second of processor time: not in step with anything that happens every so many milliseconds.
const FREQUENCY: i32 = 99;
/// Objects whose code must not be interrupted by a sample: their locks may be held. As `pprof` advises.
const NOT_IN: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];
/// Most stacks that are told, the most frequent.
const MOST: usize = 10_000;

/// Samples since it was asked last.
pub(crate) struct Profiler(Option<Mutex<Running>>);

struct Running {
    guard: Option<ProfilerGuard<'static>>,
    since: Instant,
}

impl Profiler {
    /// Begins to take samples if it is `on`.
    ///
    /// # Errors
    /// If the system does not let it.
    pub(crate) fn new(on: bool) -> anyhow::Result<Self> {
        let running = on.then(start).transpose()?;
        Ok(Self(running.map(Mutex::new)))
    }

    /// Stacks and how often each was found since this was asked last, as flame graphs are made of; then it begins anew.
    ///
    /// # Errors
    /// If profiling is off, or fails.
    pub(crate) fn take(&self) -> Result<Value, String> {
        let Some(running) = &self.0 else { return Err("profiling is off; --profiling switches it on".to_owned()) };
        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
        let guard = running.guard.take().ok_or("profiling did not start again")?;
        let report = guard.report().build().map_err(|error| error.to_string());
        let took = running.since.elapsed();
        // There is one profiler in a process: the old one must be gone.
        drop(guard);
        *running = start().map_err(|error| error.to_string())?;
        Ok(told(&report?, took))
    }
}

fn start() -> anyhow::Result<Running> {
    let guard = ProfilerGuardBuilder::default().frequency(FREQUENCY).blocklist(&NOT_IN).build()?;
    Ok(Running { guard: Some(guard), since: Instant::now() })
}

fn told(report: &Report, took: Duration) -> Value {
    let mut stacks: BTreeMap<String, u64> = BTreeMap::new();
    for (frames, count) in &report.data {
        let calls = frames.frames.iter().rev().flat_map(|inlined| inlined.iter().rev());
        let calls = std::iter::once(frames.thread_name.clone()).chain(calls.map(ToString::to_string));
        let stack: Vec<String> = calls.map(|call| call.replace(';', ":")).collect();
        *stacks.entry(stack.join(";")).or_default() += u64::try_from(*count).unwrap_or_default();
    }
    let samples: u64 = stacks.values().sum();
    let mut folded: Vec<(String, u64)> = stacks.into_iter().collect();
    folded.sort_by_key(|(_, count)| Reverse(*count));
    let left_out = folded.len().saturating_sub(MOST);
    let folded: Vec<String> = folded.into_iter().take(MOST).map(|(stack, count)| format!("{stack} {count}")).collect();
    json!({
        "seconds": took.as_secs_f64(),
        "samplesPerSecond": FREQUENCY,
        "samples": samples,
        "folded": folded,
        "leftOut": left_out,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn busy(until: Instant) -> u64 {
        let mut sum = 0_u64;
        while Instant::now() < until {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        sum
    }

    #[test]
    fn it_is_off_unless_asked_for_and_then_says_where_time_went() {
        let off = Profiler::new(false).unwrap().take().unwrap_err();
        assert_eq!(off, "profiling is off; --profiling switches it on");
        let on = Profiler::new(true).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            std::hint::black_box(busy(Instant::now() + Duration::from_millis(200)));
            let profile = on.take().unwrap();
            let folded = profile["folded"].as_array().unwrap();
            if folded.iter().any(|stack| stack.as_str().unwrap().contains("busy")) {
                assert!(profile["samples"].as_u64() > Some(0) && profile["seconds"].as_f64() > Some(0.1));
                return;
            }
            assert!(Instant::now() < deadline, "{profile}");
        }
    }
}
