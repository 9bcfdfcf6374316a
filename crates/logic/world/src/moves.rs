//! What a change does to services: each that someone joins or leaves is copied once.

use std::collections::{BTreeMap, HashSet};

use weir_model::ServiceName;

use crate::{record::Record, slab::Seat};

/// Who joins and leaves which service.
#[derive(Default)]
pub(crate) struct Moves(pub(crate) BTreeMap<ServiceName, Move>);

#[derive(Default)]
pub(crate) struct Move {
    pub(crate) come: Vec<Seat>,
    pub(crate) gone: HashSet<Seat>,
}

impl Moves {
    pub(crate) fn come(&mut self, seat: Seat, record: &Record) {
        for membership in &record.shape.services {
            self.0.entry(membership.service.clone()).or_default().come.push(seat);
        }
    }

    pub(crate) fn gone(&mut self, seat: Seat, record: &Record) {
        for membership in &record.shape.services {
            let change = self.0.entry(membership.service.clone()).or_default();
            // It may have come with this very change.
            change.come.retain(|other| *other != seat);
            change.gone.insert(seat);
        }
    }
}
