//! What is set for the whole program.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use weir_balance::{Breaker, Limits, Shared};
use weir_model::{Hostname, Port};
use weir_request::Normalization;

/// Sizes and times. The defaults are Envoy's as Istio sets them, where they have them.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How paths are brought into one spelling. Istio `MeshConfig.pathNormalization`.
    pub normalization: Normalization,
    /// How long the first bytes of a client may take before a port of which nothing is said is taken for TCP. Envoy `listener_filters_timeout`, 100 ms.
    pub sniff: Duration,
    /// How long the head of a request may take from its first byte. Envoy `request_headers_timeout`; ours, 30 s.
    pub head: Duration,
    /// How long a client's connection may be without a request. Envoy `idle_timeout`, 1 h.
    pub idle: Duration,
    /// How long a request may go without a byte in either direction. Ours, 1 h.
    pub silence: Duration,
    /// The most bytes of the head of a message. Envoy `max_request_headers_kb`, 60 KiB.
    pub head_bytes: usize,
    /// The most bytes of a request's body that are held for another attempt. Envoy `per_request_buffer_limit_bytes`, 64 KiB.
    pub retry_bytes: usize,
    /// The most bytes of a request's body that are held for copies of it. Ours, 1 MiB.
    pub mirror_bytes: usize,
    /// The most copies of requests that are under way. Ours, 128.
    pub mirrors: usize,
    /// The most connections that are kept for each endpoint while they have nothing to do. Ours, 256.
    pub idle_links: usize,
    /// The most requests at once of one client's connection. Envoy `max_concurrent_streams` 1024.
    pub streams: u32,
    /// How often what has become too old is looked for.
    pub tick: Duration,
    /// The breakers that all workers share.
    pub breakers: Breakers,
}

impl Default for Settings {
    fn default() -> Self {
        let hour = Duration::from_secs(3_600);
        Self {
            normalization: Normalization::default(),
            sniff: Duration::from_millis(100),
            head: Duration::from_secs(30),
            idle: hour,
            silence: hour,
            head_bytes: 60 << 10,
            retry_bytes: 64 << 10,
            mirror_bytes: 1 << 20,
            mirrors: 128,
            idle_links: 256,
            streams: 1_024,
            tick: Duration::from_millis(250),
            breakers: Breakers::default(),
        }
    }
}

type Key = (Hostname, Port, Option<Box<str>>);

/// The circuit breakers of all services whose policy sets a number: such a number is that of the whole program, whatever the count of its workers.
#[derive(Debug, Clone, Default)]
pub struct Breakers(Arc<Mutex<HashMap<Key, Breaker<Shared>>>>);

impl Breakers {
    /// The breaker of one service's port or subset. One without limits is its worker's own.
    pub(crate) fn of(&self, host: &Hostname, port: Port, subset: Option<&str>, limits: Limits) -> Breaker<Shared> {
        if limits.are_none() {
            return Breaker::new(limits);
        }
        let key = (host.clone(), port, subset.map(Into::into));
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(key).or_default().limited(limits)
    }
}
