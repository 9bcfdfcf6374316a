//! Rules that delegate, and what comes in their place. Istio `HTTPRoute.delegate`.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use weir_manifest::{ConfigObject, VirtualAct, VirtualDelegate, VirtualHttp, VirtualMatch, VirtualRoute};
use weir_model::Namespace;
use weir_route::{AskerMatch, DirectResponse, Redirect, StringMatch};

use super::{Declared, narrowed::narrowed, told::Told};
use crate::routes::FindingReason;

/// Most matches that the rules of a delegate come to.
const MAX_MATCHES: usize = 65_536;

/// A rule for requests, and where it was written.
#[derive(Clone, Copy)]
pub(super) struct Written<'c> {
    pub(super) object: &'c ConfigObject,
    pub(super) index: usize,
    pub(super) rule: &'c VirtualHttp,
}

/// What becomes of a request, once nothing delegates any more.
#[derive(Clone, Copy)]
pub(super) enum Does<'c> {
    Route(&'c [VirtualRoute]),
    Redirect(&'c Redirect),
    Respond(&'c DirectResponse),
}

/// A rule for requests: one as it was written, or one of a delegate in place of it.
pub(super) struct Expanded<'c> {
    /// Its place among the rules of the root.
    pub(super) index: usize,
    pub(super) root: Written<'c>,
    pub(super) delegate: Option<Written<'c>>,
    pub(super) matches: Cow<'c, [VirtualMatch]>,
    pub(super) does: Does<'c>,
}

impl<'c> Expanded<'c> {
    /// What is said of something: by the delegate, or else by the rule itself; and who said so.
    pub(super) fn said<T>(&self, field: impl Fn(&'c VirtualHttp) -> Option<&'c T>) -> Option<(Written<'c>, &'c T)> {
        let of = |written: Written<'c>| field(written.rule).map(|said| (written, said));
        self.delegate.and_then(of).or_else(|| of(self.root))
    }

    /// Who says what becomes of a request.
    pub(super) fn author(&self) -> Written<'c> {
        self.delegate.unwrap_or(self.root)
    }

    /// What it is called: by both, as Istio calls it; or, where neither has a name, by where the delegate's is.
    pub(super) fn name(&self) -> Option<Box<str>> {
        let own = self.root.rule.name.as_deref();
        let Some(delegate) = self.delegate else { return own.map(Into::into) };
        let name = match (own, delegate.rule.name.as_deref()) {
            (Some(own), Some(name)) => format!("{own}-{name}"),
            (Some(name), None) | (None, Some(name)) => name.to_owned(),
            (None, None) => {
                let ConfigObject { namespace, name, .. } = delegate.object;
                format!("{namespace}/{name} spec.http[{}]", delegate.index)
            }
        };
        Some(name.into())
    }

    /// Whether no request that comes to it goes on to the next.
    pub(super) fn takes_all(&self) -> bool {
        self.matches.is_empty() || self.matches.iter().any(is_everything)
    }
}

/// Whether every request is so.
fn is_everything(asked: &VirtualMatch) -> bool {
    let VirtualMatch {
        name: _,
        stat_prefix: _,
        uri,
        scheme,
        method,
        authority,
        headers,
        without_headers,
        query,
        asker,
    } = asked;
    let any_path = uri.as_ref().is_none_or(|uri| matches!(uri.text(), StringMatch::Prefix(text) if &**text == "/"));
    let texts = [scheme, method, authority].into_iter().all(Option::is_none);
    let entries = headers.is_empty() && without_headers.is_empty() && query.is_empty();
    any_path && texts && entries && *asker == AskerMatch::default()
}

/// The objects that others may delegate to.
pub(super) struct Delegates<'c> {
    all: BTreeMap<(&'c Namespace, &'c str), Declared<'c>>,
    /// Those that any object delegates to.
    used: BTreeSet<(&'c Namespace, &'c str)>,
}

impl<'c> Delegates<'c> {
    pub(super) fn new(all: &[Declared<'c>]) -> Self {
        let named = all.iter().map(|one| ((&one.object.namespace, &*one.object.name), *one));
        let mut used = BTreeSet::new();
        for one in all.iter().filter(|one| !one.spec.hosts.is_empty()) {
            for rule in &one.spec.http {
                if let VirtualAct::Delegate(named) = &rule.act {
                    used.insert((named.namespace.as_ref().unwrap_or(&one.object.namespace), &*named.name));
                }
            }
        }
        Self { all: named.collect(), used }
    }

    /// The rules of an object, those of its delegates in place of what delegates.
    pub(super) fn expanded(&self, root: Declared<'c>, told: &mut Told) -> Vec<Expanded<'c>> {
        let mut expanded = Vec::new();
        for (index, rule) in root.spec.http.iter().enumerate() {
            let written = Written { object: root.object, index, rule };
            let matches = Cow::Borrowed(rule.matches.as_slice());
            let does = match &rule.act {
                VirtualAct::Route(routes) => Does::Route(routes),
                VirtualAct::Redirect(redirect) => Does::Redirect(redirect),
                VirtualAct::Respond(respond) => Does::Respond(respond),
                VirtualAct::Delegate(named) => {
                    match self.find(root.object, named) {
                        Ok(delegate) => expanded.extend(self.merged(written, delegate, told)),
                        Err((reason, why)) => {
                            let message = format!("{why}: the rule has no effect, the others have");
                            told.tell(root.object, rule.line, format!("spec.http[{index}].delegate"), reason, message);
                        }
                    }
                    continue;
                }
            };
            expanded.push(Expanded { index, root: written, delegate: None, matches, does });
        }
        expanded
    }

    /// The object that is delegated to, or why that is none.
    fn find(&self, root: &ConfigObject, named: &VirtualDelegate) -> Result<Declared<'c>, (FindingReason, String)> {
        let namespace = named.namespace.as_ref().unwrap_or(&root.namespace);
        let shown = format!("VirtualService {namespace}/{}", named.name);
        let bad = |why: String| Err((FindingReason::BadDelegate, why));
        let Some(found) = self.all.get(&(namespace, &*named.name)).copied() else {
            return bad(format!("there is no {shown}"));
        };
        if std::ptr::eq(found.object, root) {
            return bad("it delegates to itself".to_owned());
        }
        if !found.spec.hosts.is_empty() {
            return bad(format!("{shown} has hosts of its own, and only one without is delegated to"));
        }
        if !found.spec.export_to.reaches(namespace, &root.namespace) {
            let why = format!("{shown} is not exported to {}", root.namespace);
            return Err((FindingReason::NotPermitted, why));
        }
        Ok(found)
    }

    /// The rules of a delegate, each for what both it and the rule that delegates ask for.
    fn merged(&self, root: Written<'c>, delegate: Declared<'c>, told: &mut Told) -> Vec<Expanded<'c>> {
        let mut merged = Vec::new();
        let mut count = 0;
        for (index, rule) in delegate.spec.http.iter().enumerate() {
            let of = |part: &str| format!("spec.http[{index}]{part}");
            let mut bad = |part: &str, why: String| {
                let message = format!("{why}: the rule has no effect, the others have");
                told.tell(delegate.object, rule.line, of(part), FindingReason::BadDelegate, message);
            };
            let does = match &rule.act {
                VirtualAct::Route(routes) => Does::Route(routes),
                VirtualAct::Redirect(redirect) => Does::Redirect(redirect),
                VirtualAct::Respond(respond) => Does::Respond(respond),
                VirtualAct::Delegate(next) => {
                    bad(".delegate", onward(delegate.object, root.object, next));
                    continue;
                }
            };
            let (object, asked) = (root.object, &root.rule.matches);
            let from = format!("VirtualService {}/{} spec.http[{}]", object.namespace, object.name, root.index);
            count += asked.len().max(1).saturating_mul(rule.matches.len().max(1));
            if count > MAX_MATCHES {
                bad("", format!("with those of {from} it comes to more than {MAX_MATCHES} matches"));
                continue;
            }
            let Some(matches) = narrowed(asked, &rule.matches) else {
                bad(".match", format!("it asks for what {from}, which delegates to it, does not"));
                continue;
            };
            let written = Written { object: delegate.object, index, rule };
            merged.push(Expanded { index: root.index, root, delegate: Some(written), matches, does });
        }
        merged
    }

    /// Those that nobody delegates to.
    pub(super) fn tell_unused(&self, told: &mut Told) {
        for (_, one) in self.all.iter().filter(|(key, one)| one.spec.hosts.is_empty() && !self.used.contains(*key)) {
            let message = "it has no hosts, and no VirtualService delegates to it";
            told.tell(one.object, 0, "spec.hosts", FindingReason::NoEffect, message);
        }
    }
}

/// Why a delegate does not delegate.
fn onward(delegate: &ConfigObject, root: &ConfigObject, next: &VirtualDelegate) -> String {
    let namespace = next.namespace.as_ref().unwrap_or(&delegate.namespace);
    let is = |object: &ConfigObject| *namespace == object.namespace && *next.name == *object.name;
    if is(delegate) || is(root) {
        format!("it comes round to VirtualService {namespace}/{}, which delegates to it", next.name)
    } else {
        "it is delegated to itself, and only one level is followed".to_owned()
    }
}
