//! The workloads, each on a seat that has a number. They are copied piece by piece: a change copies the piece it falls in, and shares
//! the others.

use std::{
    array,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use weir_model::Workload;

use crate::record::Record;

/// Seats of a piece.
const PIECE: usize = 128;
/// Seats whose wholes are kept together: room for all of them is made when the first is asked for.
const GROUP: usize = 16;

/// Where a workload sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Seat(u32);

/// Workloads by their seats. Cloning it copies a list of pointers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slab {
    pieces: Vec<Arc<Piece>>,
    /// The first seat nobody has: it knows the next.
    free: Option<Seat>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Piece {
    slots: [Slot; PIECE],
    wholes: [OnceLock<Arc<Wholes>>; PIECE / GROUP],
}

#[derive(Debug, Clone)]
enum Slot {
    Taken(Record),
    Free(Option<Seat>),
}

/// Workloads put together for the first connection that needed them: all share them, until they change.
type Wholes = [OnceLock<Arc<Workload>>; GROUP];

/// A workload on its seat.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member<'w> {
    record: &'w Record,
    wholes: &'w OnceLock<Arc<Wholes>>,
    /// Which of those is its own.
    at: usize,
}

impl Deref for Member<'_> {
    type Target = Record;

    fn deref(&self) -> &Record {
        self.record
    }
}

impl<'w> Member<'w> {
    /// What tells it from others, for as long as the world lives.
    pub(crate) fn record(&self) -> &'w Record {
        self.record
    }

    /// The workload for a connection, which keeps it.
    pub(crate) fn whole(&self) -> Arc<Workload> {
        let wholes = self.wholes.get_or_init(|| Arc::new(array::from_fn(|_| OnceLock::new())));
        wholes[self.at].get_or_init(|| Arc::new(self.record.workload())).clone()
    }
}

impl Seat {
    /// Its piece, and where it is there.
    fn split(self) -> (usize, usize) {
        let seat = usize::try_from(self.0).unwrap_or(usize::MAX);
        (seat / PIECE, seat % PIECE)
    }
}

impl Slab {
    /// How many workloads there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether most of its room is for workloads that are gone.
    pub(crate) fn is_sparse(&self) -> bool {
        self.room() > 8 * PIECE && self.len < self.room() / 4
    }

    /// How many there is room for.
    fn room(&self) -> usize {
        self.pieces.len() * PIECE
    }

    /// All workloads, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.pieces.iter().flat_map(|piece| &piece.slots).filter_map(|slot| match slot {
            Slot::Taken(record) => Some(record),
            Slot::Free(_) => None,
        })
    }

    /// The workload there. A seat that was given out has one until it is taken back.
    pub(crate) fn at(&self, seat: Seat) -> Member<'_> {
        let (piece, at) = seat.split();
        let piece = &*self.pieces[piece];
        match &piece.slots[at] {
            Slot::Taken(record) => Member { record, wholes: &piece.wholes[at / GROUP], at: at % GROUP },
            Slot::Free(_) => unreachable!("{seat:?} was taken back"),
        }
    }

    /// Gives it a seat.
    pub(crate) fn insert(&mut self, record: Record) -> Seat {
        let seat = self.free.unwrap_or_else(|| self.grow());
        let slot = self.slot(seat);
        match slot {
            Slot::Free(next) => self.free = *next,
            Slot::Taken(_) => unreachable!("{seat:?} is somebody's"),
        }
        *self.slot(seat) = Slot::Taken(record);
        self.len += 1;
        seat
    }

    /// Takes a seat back.
    pub(crate) fn remove(&mut self, seat: Seat) {
        let next = self.free.replace(seat);
        *self.slot(seat) = Slot::Free(next);
        self.len -= 1;
    }

    /// The slot of a seat, which is about to change.
    fn slot(&mut self, seat: Seat) -> &mut Slot {
        let (piece, at) = seat.split();
        let piece = Arc::make_mut(&mut self.pieces[piece]);
        let wholes = &mut piece.wholes[at / GROUP];
        if let Some(old) = wholes.get() {
            // The others of its group stay shared as far as they are made.
            let without = |other: usize| if other == at % GROUP { OnceLock::new() } else { old[other].clone() };
            *wholes = OnceLock::from(Arc::new(array::from_fn(without)));
        }
        &mut piece.slots[at]
    }

    /// Adds a piece; its first seat.
    fn grow(&mut self) -> Seat {
        let first = u32::try_from(self.room()).expect("fewer workloads than addresses");
        let last = first + u32::try_from(PIECE - 1).unwrap_or_default();
        let mut next = first;
        let slots = array::from_fn(|_| {
            next += 1;
            Slot::Free((next <= last).then_some(Seat(next)))
        });
        self.pieces.push(Arc::new(Piece { slots, wholes: array::from_fn(|_| OnceLock::new()) }));
        Seat(first)
    }
}

#[cfg(test)]
mod tests {
    use weir_model::Tunnel;

    use super::*;
    use crate::testing::workload;

    fn record(name: &str) -> Record {
        Record::new(workload(name, 1, Tunnel::Hbone), |shape, place| (Arc::new(shape), Arc::new(place)))
    }

    #[test]
    fn a_workload_takes_as_little_room_as_it_can() {
        assert_eq!((size_of::<Record>(), size_of::<Slot>()), (72, 72));
    }

    #[test]
    fn a_seat_is_given_out_again_and_an_old_copy_keeps_what_was_there() {
        let mut slab = Slab::default();
        let seats: Vec<Seat> = (0..300).map(|n| slab.insert(record(&format!("w{n}")))).collect();
        let name = |slab: &Slab, at: usize| slab.at(seats[at]).whole().name.to_string();
        let before = slab.clone();
        slab.remove(seats[7]);
        slab.remove(seats[200]);
        assert_eq!((slab.len(), slab.iter().count()), (298, 298));
        assert_eq!((slab.insert(record("x")), slab.insert(record("y"))), (seats[200], seats[7]));
        assert_eq!((slab.len(), slab.room()), (300, 384), "no further piece");
        assert_eq!([7, 8, 200].map(|at| name(&before, at)), ["w7", "w8", "w200"]);
        assert_eq!([7, 8, 200].map(|at| name(&slab, at)), ["y", "w8", "x"]);
    }

    #[test]
    fn a_whole_is_made_once_until_its_workload_changes() {
        let mut slab = Slab::default();
        let seats: Vec<Seat> = (0..3).map(|n| slab.insert(record(&format!("w{n}")))).collect();
        let wholes = seats.iter().map(|seat| slab.at(*seat).whole()).collect::<Vec<_>>();
        let before = slab.clone();
        slab.remove(seats[1]);
        slab.insert(record("w1"));
        for (seat, other) in [(0, true), (1, false), (2, true)] {
            assert!(Arc::ptr_eq(&before.at(seats[seat]).whole(), &wholes[seat]));
            assert_eq!(Arc::ptr_eq(&slab.at(seats[seat]).whole(), &wholes[seat]), other, "{seat}");
        }
    }
}
