//! One rule, ready to be asked.

use weir_request::Normalization;

use super::{
    ask::Test,
    facts::{Reading, Seen},
    policy::HttpRule,
};

/// A rule, ready to be asked.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    clauses: Box<[Clause]>,
    of_requests: bool,
    pub(super) asks_for_the_path: bool,
}

/// Alternatives, each of tests that must all hold.
#[derive(Debug, Clone)]
struct Clause(Box<[Box<[Test]>]>);

/// How a rule is held against what can be read in more than one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stance {
    /// It must match however the path is read, and nothing can be left open: what admits.
    Strict,
    /// It matches if there is a way to read the path in which it does, and does not ask what is not there to be asked: what refuses.
    Wide,
    /// The same of paths, but nothing can be left open: what is told of.
    Watching,
}

impl Rule {
    pub(super) fn new(rule: &HttpRule, level: Normalization) -> Self {
        let tests = |fields: &[_]| fields.iter().flat_map(|field| Test::all(field, level)).collect::<Box<[Test]>>();
        let clause = |clause: &super::HttpClause| Clause(clause.alternatives.iter().map(|one| tests(&one.0)).collect());
        let clauses: Box<[Clause]> = rule.clauses.iter().map(clause).collect();
        let any = |is: fn(&Test) -> bool| clauses.iter().flat_map(|one| &one.0).flatten().any(is);
        let (of_requests, asks_for_the_path) = (any(Test::is_of_request), any(Test::asks_for_the_path));
        Self { clauses, of_requests, asks_for_the_path }
    }

    pub(super) fn matches(&self, seen: &Seen<'_>, stance: Stance) -> bool {
        self.asks_what_is_not_there(seen, stance).is_none() && self.miss(seen, stance).is_none()
    }

    /// The reading of the path in which it does not match; none if it does.
    pub(super) fn miss<'s>(&self, seen: &'s Seen<'_>, stance: Stance) -> Option<Reading<'s>> {
        let plain = seen.plain();
        let holds = self.holds(seen, plain);
        if !self.asks_for_the_path {
            return (!holds).then_some(plain);
        }
        match stance {
            Stance::Strict if !holds => Some(plain),
            Stance::Strict => {
                let others = [seen.served(), seen.folded_to_admit()];
                others.into_iter().flatten().find(|reading| !self.holds(seen, *reading))
            }
            Stance::Wide | Stance::Watching => {
                let others = [seen.served(), seen.folded_to_refuse()];
                let holds = holds || others.into_iter().flatten().any(|reading| self.holds(seen, reading));
                (!holds).then_some(plain)
            }
        }
    }

    /// Whether it asks for facts of requests, and there is none to ask: an error, if that must not be passed over.
    pub(super) fn asks_what_is_not_there(&self, seen: &Seen<'_>, stance: Stance) -> Option<NoRequest> {
        match stance {
            Stance::Strict | Stance::Watching if self.of_requests && seen.request.is_none() => Some(NoRequest),
            Stance::Strict | Stance::Watching | Stance::Wide => None,
        }
    }

    fn holds(&self, seen: &Seen<'_>, reading: Reading<'_>) -> bool {
        let all = |tests: &[Test]| !tests.is_empty() && tests.iter().all(|test| test.holds(seen, reading));
        self.clauses.iter().all(|Clause(alternatives)| alternatives.iter().any(|tests| all(tests)))
    }
}

/// A rule asks for facts of requests, and the connection is no HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRequest;
