//! Routes that are asked together: the matches in their order, and a way to the few that can hold.

use std::collections::BTreeSet;

use weir_model::Port;
use weir_request::Request;

use crate::{
    asker::Asker,
    decision::Chosen,
    index::Index,
    path::Case,
    rank::Rank,
    rule::{Family, RouteObject},
};

/// Routes that are asked together. An entry is one match of one rule, and the first that holds counts; so of those that a path leads to only such are asked that
/// stand before the best one yet.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    entries: Vec<Entry>,
    by_path: Index,
    by_path_in_any_case: Index,
    /// Those whose path may begin with anything.
    by_nothing: Vec<usize>,
    /// The ports that its routes are attached to; none if some route is for every port.
    ports: Option<BTreeSet<Port>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    object: usize,
    rule: usize,
    /// None for a rule that asks for nothing.
    matched: Option<usize>,
}

impl Layer {
    /// The layer of these objects.
    pub(crate) fn new(objects: &[RouteObject], members: &[usize]) -> Self {
        let mut ranked = Vec::new();
        for &object in members {
            for (rule, asked) in objects.get(object).into_iter().flat_map(|object| object.rules.iter().enumerate()) {
                let count = asked.matches.len();
                let all = if count == 0 { vec![None] } else { (0..count).map(Some).collect() };
                for matched in all {
                    let entry = Entry { object, rule, matched };
                    ranked.extend(Rank::of(objects, object, rule, matched).map(|rank| (rank, entry)));
                }
            }
        }
        ranked.sort_by(|(one, _), (other, _)| one.cmp(other));
        let entries: Vec<Entry> = ranked.into_iter().map(|(_, entry)| entry).collect();
        let ports: Option<BTreeSet<Port>> = entries.iter().map(|entry| entry.attached_to(objects)).collect();

        let starts = entries.iter().map(|entry| entry.read(objects)?.matched?.1.path.as_ref()?.start());
        let starts: Vec<Option<(&str, Case)>> = starts.collect();
        let of_case = |wanted: Case| {
            let of = starts.iter().zip(0..).filter_map(move |(start, at)| Some(((*start)?, at)));
            of.filter(move |((_, case), _)| *case == wanted).map(|((text, _), at)| (text, at))
        };
        Self {
            by_path: Index::new(Case::Counts, of_case(Case::Counts)),
            by_path_in_any_case: Index::new(Case::Ignored, of_case(Case::Ignored)),
            by_nothing: starts.iter().zip(0..).filter(|(start, _)| start.is_none()).map(|(_, at)| at).collect(),
            ports: ports.filter(|ports| !ports.is_empty()),
            entries,
        }
    }

    /// Whether a route is attached to this port. Gateway API `ParentReference.port`: at all others of the service it is as if there was none.
    pub(crate) fn is_for(&self, port: Port) -> bool {
        self.ports.as_ref().is_none_or(|ports| ports.contains(&port))
    }

    /// The first match that holds.
    pub(crate) fn find<'t>(
        &self,
        objects: &'t [RouteObject],
        request: &Request<'_>,
        asker: &Asker<'_>,
    ) -> Option<Chosen<'t>> {
        let mut best: Option<(usize, Chosen<'t>)> = None;
        for at in self.lists(request.path().as_str()) {
            let before_best = |at: &&usize| best.is_none_or(|(best, _)| **at < best);
            let held = at.iter().take_while(before_best).find_map(|&at| {
                let chosen = self.entries.get(at)?.read(objects)?;
                chosen.matched.is_none_or(|(_, asked)| asked.holds(request, asker)).then_some((at, chosen))
            });
            best = held.or(best);
        }
        best.map(|(_, chosen)| chosen)
    }

    /// The entries that a path leads to, in lists, each in order. What needs a regular expression comes last.
    fn lists<'l>(&'l self, path: &str) -> impl Iterator<Item = &'l [usize]> {
        let by_path = self.by_path.along(path).chain(self.by_path_in_any_case.along(path));
        by_path.chain(std::iter::once(self.by_nothing.as_slice()))
    }

    /// How many entries a path leads to: at most so many are asked.
    #[cfg(test)]
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.lists(path).map(<[usize]>::len).sum()
    }

    /// Every entry, in order: what `find` would walk if it had no index.
    #[cfg(test)]
    pub(crate) fn walk<'t>(&self, objects: &'t [RouteObject]) -> Vec<Chosen<'t>> {
        self.entries.iter().filter_map(|entry| entry.read(objects)).collect()
    }
}

impl Entry {
    /// The port that its route is attached to. A VirtualService is for every port of its host, whatever its matches ask.
    fn attached_to(self, objects: &[RouteObject]) -> Option<Port> {
        let chosen = self.read(objects)?;
        match chosen.object.kind.family() {
            Family::GatewayApi => chosen.matched?.1.asker.port,
            Family::VirtualService => None,
        }
    }

    fn read(self, objects: &[RouteObject]) -> Option<Chosen<'_>> {
        let object = objects.get(self.object)?;
        let rule = object.rules.get(self.rule)?;
        let matched = match self.matched {
            Some(index) => Some((index, rule.matches.get(index)?)),
            None => None,
        };
        Some(Chosen { object, rule, matched })
    }
}
