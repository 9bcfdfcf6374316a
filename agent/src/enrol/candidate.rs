//! Pods that are to be caught, brought together: what the mesh says of each, and where its namespace is.

use std::sync::Arc;

use weir_model::{Enrolment, LocalPod, Workload};
use weir_net::NetnsId;
use weir_world::World;

use crate::{
    namespaces::{Found, Namespaces},
    proc::{Look, Wanted},
};

/// What finds pods' namespaces.
pub(crate) struct Places {
    /// What is known of them.
    pub(crate) namespaces: Namespaces,
    /// Who looks for those that nobody tells.
    pub(crate) look: Look,
    /// Namespaces that are no pod's, whoever says so.
    pub(crate) own: Vec<NetnsId>,
}

/// A pod that is to be caught: what the mesh knows of it, and where it is.
pub(super) struct Candidate<'w> {
    pub(super) pod: &'w LocalPod,
    pub(super) workload: Option<Arc<Workload>>,
    pub(super) found: Option<Found>,
}

impl<'w> Candidate<'w> {
    /// `metadata.uid`, empty where the mesh does not say.
    pub(super) fn incarnation(workload: Option<&Arc<Workload>>) -> &str {
        workload.map_or("", |workload| &workload.incarnation)
    }

    /// The pod, if it is to be caught.
    pub(super) fn find(pod: &'w LocalPod, world: &World, namespaces: &Namespaces) -> Option<Self> {
        let workload = world.workload(&pod.uid);
        let incarnation = Self::incarnation(workload.as_ref());
        if pod.enrolment != Enrolment::Enrolled || !namespaces.wants(pod, incarnation) {
            return None;
        }
        let found = namespaces.find(pod, incarnation);
        Some(Self { pod, workload, found })
    }

    /// The pod, if its namespace has to be looked for.
    pub(super) fn missing(&self) -> Option<Wanted> {
        let lost = self.found.as_ref().is_none_or(|found| found.place.is_lost());
        lost.then(|| Wanted {
            uid: self.pod.uid.clone(),
            incarnation: Self::incarnation(self.workload.as_ref()).into(),
            addresses: self.pod.addresses.clone(),
        })
    }

    /// Says if mesh and finder differ on the addresses of a pod that is caught.
    pub(super) fn complain(&self) {
        if let Some(found) = self.found.as_ref().filter(|found| found.contradicts(self.pod)) {
            tracing::error!(
                pod = %self.pod.uid, mesh = ?self.pod.addresses, plugin = ?found.addresses,
                "the mesh and the CNI plugin differ on its addresses: those of the mesh are caught"
            );
        }
    }
}
