//! One rule, ready to be asked: only what it asks for, in a shape that answers fast.

use std::sync::Arc;

use weir_model::{Clause, Match, Namespace, PolicyRule, Port, ServiceAccount, Sides, TextMatch};

use crate::{
    facts::Facts,
    keys::{Key, keys},
    ranges::Ranges,
    texts::Texts,
};

/// A rule, ready to be asked.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// Facts of which a connection must have one for the rule to match. None if nothing of the kind can be said.
    pub(crate) keys: Option<Box<[Key]>>,
    pub(crate) tests: Tests,
}

/// What a rule asks, its clauses and their alternatives in a row, so that little memory is touched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tests(Arc<[Step]>);

#[derive(Debug, Clone)]
struct Step {
    /// None of an alternative that asks nothing, or of a clause without alternatives: that matches nothing.
    test: Option<Test>,
    ends: Ends,
}

/// What a test is the last of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ends {
    Nothing,
    Alternative,
    Clause,
}

/// A field of a match, and what it must or must not be.
#[derive(Debug, Clone)]
struct Test {
    asked: Asked,
    values: Values,
}

/// What a match asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) field: Field,
    pub(crate) side: Side,
}

/// A field of [`Match`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Namespaces,
    Principals,
    ServiceAccounts,
    TrustDomains,
    SourceIps,
    DestinationIps,
    DestinationPorts,
}

/// A side of [`Sides`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Any,
    None,
}

#[derive(Debug, Clone)]
enum Values {
    Texts(Texts),
    /// Sorted.
    Accounts(Box<[(Namespace, ServiceAccount)]>),
    Ranges(Ranges),
    Ports(Ports),
}

/// Ports, few or many.
#[derive(Debug, Clone)]
pub(crate) enum Ports {
    /// Up to so many are in place: no further memory is touched.
    Few([Option<Port>; 8]),
    /// Sorted.
    Many(Box<[Port]>),
}

impl Ports {
    pub(crate) fn new(all: &[Port]) -> Self {
        let mut few = [None; 8];
        if all.len() > few.len() {
            return Self::Many(sorted(all));
        }
        for (place, port) in few.iter_mut().zip(all) {
            *place = Some(*port);
        }
        Self::Few(few)
    }

    pub(crate) fn hold(&self, port: Port) -> bool {
        match self {
            Self::Few(all) => all.contains(&Some(port)),
            Self::Many(all) => all.binary_search(&port).is_ok(),
        }
    }
}

/// Why a rule does not match: the first clause that does not hold, by its index, and of each of its alternatives what is asked first
/// and does not hold; none of an alternative that asks nothing, since that matches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Miss {
    pub(crate) clause: usize,
    pub(crate) asked: Vec<Option<Asked>>,
}

impl Rule {
    pub(crate) fn new(rule: &PolicyRule) -> Self {
        Self { keys: keys(rule), tests: Tests::new(rule) }
    }
}

impl Tests {
    fn new(rule: &PolicyRule) -> Self {
        let mut steps = Vec::new();
        for Clause(alternatives) in &rule.clauses {
            for one in alternatives {
                let from = steps.len();
                steps.extend(tests(one).into_iter().map(|test| Step { test: Some(test), ends: Ends::Nothing }));
                end(&mut steps, from, Ends::Alternative);
            }
            let from = if alternatives.is_empty() { steps.len() } else { 0 };
            end(&mut steps, from, Ends::Clause);
        }
        Self(steps.into())
    }

    /// Whether all clauses hold.
    pub(crate) fn hold(&self, facts: &Facts<'_>) -> bool {
        let (mut clause, mut alternative) = (false, true);
        for step in &*self.0 {
            // What is decided already is not asked.
            alternative = alternative && (clause || step.holds(facts));
            if step.ends >= Ends::Alternative {
                clause = alternative;
                alternative = true;
            }
            if step.ends == Ends::Clause {
                if !clause {
                    return false;
                }
                clause = false;
            }
        }
        true
    }

    /// Why they do not hold; none if they do.
    pub(crate) fn miss(&self, facts: &Facts<'_>) -> Option<Miss> {
        let clauses = self.0.split_inclusive(|step| step.ends == Ends::Clause);
        clauses.enumerate().find_map(|(clause, steps)| {
            let alternatives = steps.split_inclusive(|step| step.ends >= Ends::Alternative);
            let asked = alternatives.map(|steps| steps.iter().find(|step| !step.holds(facts)));
            let asked: Option<Vec<&Step>> = asked.collect();
            let asked = asked?.into_iter().map(|step| step.test.as_ref().map(|test| test.asked)).collect();
            Some(Miss { clause, asked })
        })
    }
}

/// Marks the last of the steps from there on, of which there is one.
fn end(steps: &mut Vec<Step>, from: usize, ends: Ends) {
    if steps.len() == from {
        steps.push(Step { test: None, ends });
    } else if let Some(last) = steps.last_mut() {
        last.ends = ends;
    }
}

impl Step {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        self.test.as_ref().is_some_and(|test| test.holds(facts))
    }
}

fn tests(one: &Match) -> Vec<Test> {
    let mut tests = Vec::new();
    let texts = |all: &[TextMatch]| Values::Texts(Texts::new(all));
    let ranges = |all: &[_]| Values::Ranges(Ranges::new(all));
    sides(&mut tests, Field::Namespaces, &one.namespaces, texts);
    sides(&mut tests, Field::Principals, &one.principals, texts);
    sides(&mut tests, Field::ServiceAccounts, &one.service_accounts, |all| Values::Accounts(sorted(all)));
    sides(&mut tests, Field::TrustDomains, &one.trust_domains, texts);
    sides(&mut tests, Field::SourceIps, &one.source_ips, ranges);
    sides(&mut tests, Field::DestinationIps, &one.destination_ips, ranges);
    sides(&mut tests, Field::DestinationPorts, &one.destination_ports, |all| Values::Ports(Ports::new(all)));
    tests
}

/// An empty side asks for nothing.
fn sides<T>(tests: &mut Vec<Test>, field: Field, sides: &Sides<T>, values: impl Fn(&[T]) -> Values) {
    for (side, all) in [(Side::Any, &sides.any), (Side::None, &sides.none)] {
        if !all.is_empty() {
            tests.push(Test { asked: Asked { field, side }, values: values(all) });
        }
    }
}

pub(crate) fn sorted<T: Ord + Clone>(all: &[T]) -> Box<[T]> {
    let mut all = all.to_vec();
    all.sort_unstable();
    all.dedup();
    all.into()
}

impl Test {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        match self.asked.side {
            Side::Any => self.is_one(facts),
            Side::None => !self.is_one(facts),
        }
    }

    /// Whether the fact is one of the values. A peer without an identity is none of any.
    fn is_one(&self, facts: &Facts<'_>) -> bool {
        match &self.values {
            Values::Texts(texts) => self.asked.field.text(facts).is_some_and(|text| texts.match_text(text)),
            Values::Accounts(all) => facts.identity.is_some_and(|identity| {
                let own = (identity.namespace(), identity.service_account());
                all.binary_search_by(|(namespace, account)| (namespace, account).cmp(&own)).is_ok()
            }),
            Values::Ranges(ranges) => ranges.hold(match self.asked.field {
                Field::DestinationIps => facts.destination,
                Field::Namespaces
                | Field::Principals
                | Field::ServiceAccounts
                | Field::TrustDomains
                | Field::SourceIps
                | Field::DestinationPorts => facts.source,
            }),
            Values::Ports(ports) => ports.hold(facts.port),
        }
    }
}

impl Field {
    /// The text that patterns of the field are compared with.
    fn text<'f>(self, facts: &Facts<'f>) -> Option<&'f str> {
        match self {
            Self::Namespaces => facts.identity.map(|identity| identity.namespace().as_str()),
            Self::Principals => facts.principal,
            Self::TrustDomains => facts.identity.map(|identity| identity.trust_domain().as_str()),
            Self::ServiceAccounts | Self::SourceIps | Self::DestinationIps | Self::DestinationPorts => None,
        }
    }
}
