//! Changes at the source, and when each subscriber hears of them.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    cluster::{MARK, MARK_DIGITS},
    control::Control,
    probe,
    source::Source,
    subscriber::{Known, Subscriber},
};

/// Subscribers that connect at a time.
const AT_ONCE: usize = 32;
/// How long the last change may take to be heard of.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that is awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Subscribers that are connected and listen.
pub(crate) struct Crowd {
    listening: JoinSet<anyhow::Result<Vec<Duration>>>,
    /// When each change was made, by its number.
    made: Arc<Vec<OnceLock<Instant>>>,
    heard: Arc<AtomicU64>,
    stop: watch::Sender<bool>,
    /// Resources that were sent while they connected.
    pub(crate) resources: usize,
    size: usize,
}

/// What became of changes.
pub(crate) struct Pushed {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) most: Duration,
    /// Processors used meanwhile: by the control plane, by this program, by everything else.
    pub(crate) control_cores: f64,
    pub(crate) own_cores: f64,
    pub(crate) other_cores: f64,
}

impl Crowd {
    /// Connects so many, who know what is known, and are to hear of so many changes.
    pub(crate) async fn connect(
        control: &Control,
        size: u32,
        nodes: u32,
        known: &Known,
        changes: usize,
    ) -> anyhow::Result<Self> {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut opening = JoinSet::new();
        for number in 0..size {
            let called = control.called(number % nodes);
            let (known, turns) = (known.clone(), turns.clone());
            opening.spawn(async move {
                let _turn = turns.acquire().await?;
                let mut subscriber = Subscriber::open(&called.dial()?, &called.node, &known).await?;
                let first = subscriber.first_answers().await?;
                anyhow::Ok((subscriber, first.resources))
            });
        }
        let mut crowd = Self {
            listening: JoinSet::new(),
            made: Arc::new((0..changes).map(|_| OnceLock::new()).collect()),
            heard: Arc::default(),
            stop: watch::Sender::new(false),
            resources: 0,
            size: 0,
        };
        while let Some(opened) = opening.join_next().await {
            let (subscriber, resources) = opened??;
            crowd.resources += resources;
            crowd.size += 1;
            let (made, heard) = (crowd.made.clone(), crowd.heard.clone());
            crowd.listening.spawn(listen(subscriber, made, heard, crowd.stop.subscribe()));
        }
        Ok(crowd)
    }

    /// Makes all the changes, so many in a second, each to another pod, and waits until everybody has heard of each.
    pub(crate) async fn push(self, control: &Control, source: &Source, pods: u32, rate: u32) -> anyhow::Result<Pushed> {
        let count = self.made.len();
        let read = || anyhow::Ok([control.cpu()?, probe::cpu_of(std::process::id())?, probe::cpu_of_all()?]);
        let (before, start) = (read()?, Instant::now());
        let mut ticks = interval(Duration::from_secs(1) / rate.max(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        // Far apart from each other, and each pod once.
        let stride = pods / u32::try_from(count)?.max(1);
        ensure!(stride > 0, "there are more changes than pods");
        for (number, made) in self.made.iter().enumerate() {
            ticks.tick().await;
            made.set(Instant::now()).ok().context("each change is made once")?;
            source.change(u32::try_from(number)? * stride, &format!("{MARK}{number:0MARK_DIGITS$}"))?;
        }
        let (after, took) = (read()?, start.elapsed());
        let latencies = self.heard_of_all(count).await?;
        let at = |per_mille: usize| latencies.get((latencies.len() - 1) * per_mille / 1000).copied().context("changes");
        let cores = |place: usize| (after[place] - before[place]).as_secs_f64() / took.as_secs_f64();
        Ok(Pushed {
            p50: at(500)?,
            p99: at(990)?,
            most: at(1000)?,
            control_cores: cores(0),
            own_cores: cores(1),
            other_cores: (cores(2) - cores(0) - cores(1)).max(0.0),
        })
    }

    /// Waits until everybody has heard of so many changes: how long each took, sorted.
    async fn heard_of_all(mut self, changes: usize) -> anyhow::Result<Vec<Duration>> {
        let all = u64::try_from(changes * self.size)?;
        let deadline = Instant::now() + PATIENCE;
        while self.heard.load(Relaxed) < all && Instant::now() < deadline {
            sleep(LOOK_AGAIN).await;
        }
        self.stop.send_replace(true);
        let mut latencies = Vec::with_capacity(changes * self.size);
        while let Some(heard) = self.listening.join_next().await {
            latencies.extend(heard??);
        }
        ensure!(latencies.len() == changes * self.size, "of {all} changes to hear of, {} were", latencies.len());
        latencies.sort_unstable();
        Ok(latencies)
    }

    /// Ends all streams.
    pub(crate) async fn leave(self) -> anyhow::Result<()> {
        self.heard_of_all(0).await.map(drop)
    }
}

/// Notes when each change is heard of, the first time.
async fn listen(
    mut subscriber: Subscriber,
    made: Arc<Vec<OnceLock<Instant>>>,
    heard: Arc<AtomicU64>,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<Vec<Duration>> {
    let mut latencies: Vec<Option<Duration>> = vec![None; made.len()];
    loop {
        let response = tokio::select! {
            response = subscriber.next() => response?,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let now = Instant::now();
        for number in response.resources.iter().filter_map(marked) {
            if let (Some(made), Some(latency)) = (made.get(number).and_then(OnceLock::get), latencies.get_mut(number))
                && latency.is_none()
            {
                *latency = Some(now.duration_since(*made));
                heard.fetch_add(1, Relaxed);
            }
        }
    }
    Ok(latencies.into_iter().flatten().collect())
}

/// The number of the change a resource shows.
fn marked(resource: &Bytes) -> Option<usize> {
    let at = resource.windows(MARK.len()).position(|window| window == MARK.as_bytes())? + MARK.len();
    std::str::from_utf8(resource.get(at..at + MARK_DIGITS)?).ok()?.parse().ok()
}

/// Waits until a control plane has seen that everybody left.
pub(crate) async fn nobody_left(control: &Control) -> anyhow::Result<()> {
    let look = async {
        while control.metric("pilot_xds").await? > 0.0 {
            sleep(LOOK_AGAIN).await;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, look).await.context("streams stay open")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_shows_its_change() {
        for (resource, want) in [
            (&b"\x0a\x08push-00000042\x12"[..], Some(42)),
            (b"\x0a\x02v1", None),
            (b"push-0000", None),
            (b"push-0000000x", None),
        ] {
            assert_eq!(marked(&Bytes::from_static(resource)), want);
        }
    }
}
