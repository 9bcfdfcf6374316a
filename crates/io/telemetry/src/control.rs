//! What is known of the control plane itself: for readiness, metrics and people.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    metrics::{Kind, Metrics, Sample, Value as Number},
    readiness::Unready,
};

/// Whether the control plane is there.
#[derive(Debug, Clone, Default)]
pub struct ControlState(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Done when everything was told for the first time.
    first: Option<Unready>,
    synced: bool,
    connected: bool,
    heard: Option<SystemTime>,
    lost: Option<(SystemTime, String)>,
    terminations: u64,
}

impl ControlState {
    /// `first` is done when everything was told for the first time.
    pub fn waiting(first: Unready) -> Self {
        Self(Arc::new(Mutex::new(Known { first: Some(first), ..Known::default() })))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was told.
    pub fn heard(&self) {
        let mut known = self.known();
        known.connected = true;
        known.heard = Some(SystemTime::now());
    }

    /// Everything was told.
    pub fn synced(&self) {
        let mut known = self.known();
        known.connected = true;
        known.synced = true;
        known.heard = Some(SystemTime::now());
        if let Some(first) = known.first.take() {
            first.done();
        }
    }

    /// Whether everything was told at least once.
    pub fn is_synced(&self) -> bool {
        self.known().synced
    }

    /// The connection is gone.
    pub fn lost(&self, reason: String) {
        let mut known = self.known();
        if known.connected {
            known.terminations += 1;
        }
        known.connected = false;
        known.lost = Some((SystemTime::now(), reason));
    }

    /// For `config_dump`.
    pub fn dump(&self) -> Value {
        let known = self.known();
        json!({
            "connected": known.connected,
            "lastHeard": known.heard.map(timestamp),
            "lastLost": known.lost.as_ref().map(|(at, reason)| json!({ "at": timestamp(*at), "reason": reason })),
        })
    }

    /// Metrics that are read when they are asked for.
    pub fn collect(&self, metrics: &Metrics) {
        let one = |number| vec![Sample { labels: Vec::new(), value: Number::Whole(number) }];
        let state = self.clone();
        metrics.collect("weir_control_connected", "Whether the control plane is connected", Kind::Gauge, move || {
            one(u64::from(state.known().connected))
        });
        let state = self.clone();
        metrics.collect(
            "weir_control_last_heard_timestamp_seconds",
            "When the control plane last told something, in Unix seconds",
            Kind::Gauge,
            move || {
                let heard = state.known().heard.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                one(heard.map_or(0, |since| since.as_secs()))
            },
        );
        let state = self.clone();
        metrics.collect(
            "istio_xds_connection_terminations",
            "Connections to the control plane that ended",
            Kind::Counter,
            move || one(state.known().terminations),
        );
    }
}

/// A time as people and programs read it. RFC 3339.
fn timestamp(at: SystemTime) -> String {
    OffsetDateTime::from(at).format(&Rfc3339).unwrap_or_default()
}
