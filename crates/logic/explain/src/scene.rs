//! What whoever is asked knows of the mesh.

use std::{sync::Arc, time::SystemTime};

use weir_model::{Namespace, WorkloadUid};
use weir_serving::Serving;
use weir_token::Keys;
use weir_world::{Thing, World};

/// The mesh, as whoever is asked knows it. Keys that it does not have are said to be missing, not fetched.
pub trait Scene: Keys {
    /// Workloads, services and policies of agents.
    fn world(&self) -> &World;

    /// What the waypoint of a Gateway serves; none if that is not known here.
    fn serving(&self, namespace: &Namespace, gateway: &str) -> Option<Served>;

    /// The labels of a workload, if they are known.
    fn labels(&self, workload: &WorkloadUid) -> Option<Vec<(&str, &str)>>;

    /// Which label of which object binds it to its waypoint, and where that stands.
    fn binding(&self, thing: &Thing) -> Option<String>;

    /// The time that tokens are held against.
    fn now(&self) -> SystemTime;

    /// How many proxies before the waypoint are believed in `x-forwarded-for`. Istio `numTrustedProxies`.
    fn trusted_hops(&self) -> u32 {
        0
    }
}

/// What a waypoint serves, and what their authors are to be told of the objects it was made of.
#[derive(Debug, Clone)]
pub struct Served {
    /// All of it.
    pub serving: Arc<Serving>,
    /// A line each, which begins with `Kind namespace/name`.
    pub notes: Vec<String>,
}
