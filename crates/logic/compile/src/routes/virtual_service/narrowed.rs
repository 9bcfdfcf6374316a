//! What a delegate's rule and the rule that delegates to it ask for together. Istio: the delegate's `HTTPMatchRequest` must be a subset of the
//! root's, else the rule does not take effect.

use std::borrow::Cow;

use weir_manifest::{VirtualMatch, VirtualUri};
use weir_route::{AskerMatch, Case, StringMatch};

/// Every match of the delegate within every match of the root that has room for it; none if any has no room at all.
pub(super) fn narrowed<'c>(root: &'c [VirtualMatch], own: &'c [VirtualMatch]) -> Option<Cow<'c, [VirtualMatch]>> {
    if root.is_empty() {
        return Some(Cow::Borrowed(own));
    }
    if own.is_empty() {
        return Some(Cow::Borrowed(root));
    }
    let mut matches = Vec::new();
    for asked in own {
        let before = matches.len();
        matches.extend(root.iter().filter_map(|wider| both(wider, asked)));
        if matches.len() == before {
            return None;
        }
    }
    Some(Cow::Owned(matches))
}

/// What both ask for, if the second asks for nothing that the first excludes.
fn both(root: &VirtualMatch, own: &VirtualMatch) -> Option<VirtualMatch> {
    Some(VirtualMatch {
        name: match (&root.name, &own.name) {
            (Some(root), Some(own)) => Some(format!("{root}-{own}").into()),
            (root, own) => own.clone().or_else(|| root.clone()),
        },
        stat_prefix: own.stat_prefix.clone().or_else(|| root.stat_prefix.clone()),
        uri: inner(&root.uri, &own.uri, is_uri_within)?,
        scheme: inner(&root.scheme, &own.scheme, is_within)?,
        method: inner(&root.method, &own.method, is_within)?,
        authority: inner(&root.authority, &own.authority, is_within)?,
        headers: entries(&root.headers, &own.headers)?,
        // What is not to be so may be more.
        without_headers: root.without_headers.iter().chain(&own.without_headers).cloned().collect(),
        query: entries(&root.query, &own.query)?,
        asker: asker(&root.asker, &own.asker)?,
    })
}

/// The narrower one; `None` if they are at odds.
fn inner<T: Clone>(root: &Option<T>, own: &Option<T>, is_within: fn(&T, &T) -> bool) -> Option<Option<T>> {
    match (root, own) {
        (Some(root), Some(own)) => is_within(own, root).then(|| Some(own.clone())),
        (root, own) => Some(own.clone().or_else(|| root.clone())),
    }
}

/// Whether every text that is as the first asks is as the second asks. Of regular expressions nobody knows, but of equal ones.
fn is_within(own: &StringMatch, root: &StringMatch) -> bool {
    match (root, own) {
        (StringMatch::Present, _) => true,
        (StringMatch::Prefix(root), StringMatch::Exact(own) | StringMatch::Prefix(own)) => own.starts_with(&**root),
        (root, own) => root == own,
    }
}

fn is_uri_within(own: &VirtualUri, root: &VirtualUri) -> bool {
    let lower = |uri: &VirtualUri| match uri.text() {
        StringMatch::Exact(text) => StringMatch::Exact(text.to_ascii_lowercase().into()),
        StringMatch::Prefix(text) => StringMatch::Prefix(text.to_ascii_lowercase().into()),
        other @ (StringMatch::Regex(_) | StringMatch::Present) => other.clone(),
    };
    match (root.case(), own.case()) {
        (Case::Counts, Case::Counts) => is_within(own.text(), root.text()),
        (Case::Ignored, Case::Counts | Case::Ignored) => is_within(&lower(own), &lower(root)),
        (Case::Counts, Case::Ignored) => false,
    }
}

/// Entries of both; of one name the delegate's, which must be within the other's.
fn entries<N: Clone + PartialEq>(root: &[(N, StringMatch)], own: &[(N, StringMatch)]) -> Option<Vec<(N, StringMatch)>> {
    let of = |name: &N| own.iter().find(|(own, _)| own == name);
    if root.iter().any(|(name, wider)| of(name).is_some_and(|(_, asked)| !is_within(asked, wider))) {
        return None;
    }
    Some(root.iter().filter(|(name, _)| of(name).is_none()).chain(own).cloned().collect())
}

fn asker(root: &AskerMatch, own: &AskerMatch) -> Option<AskerMatch> {
    let is_odd =
        |(key, value): &(Box<str>, Box<str>)| own.labels.iter().any(|(own, other)| own == key && other != value);
    let gateways = match (root.gateways.as_slice(), own.gateways.as_slice()) {
        ([], gateways) | (gateways, []) => gateways,
        (root, own) if own.iter().all(|gateway| root.contains(gateway)) => own,
        (_, _) => return None,
    };
    if root.labels.iter().any(is_odd) {
        return None;
    }
    let is_new = |label: &&(Box<str>, Box<str>)| !own.labels.contains(label);
    Some(AskerMatch {
        port: inner(&root.port, &own.port, PartialEq::eq)?,
        labels: root.labels.iter().filter(is_new).chain(&own.labels).cloned().collect(),
        namespace: inner(&root.namespace, &own.namespace, PartialEq::eq)?,
        gateways: gateways.to_vec(),
    })
}
