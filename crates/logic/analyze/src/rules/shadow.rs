//! Matches that nothing comes to, because one before them takes everything they ask for. Only what is certain is told: of two regular
//! expressions that differ nobody says which takes more.

use weir_manifest::{
    ConfigObject, ConfigSpec, GatewayRouteSpec, VirtualAct, VirtualHttp, VirtualMatch, VirtualServiceSpec,
};
use weir_route::{AskerMatch, Case, HeaderName, Match, StringMatch};

use crate::{Code, Finding, ground::Ground};

/// Most pairs of matches that are compared in one object: one of thousands of matches is not gone through in full.
const MAX_PAIRS: usize = 200_000;

pub(super) fn all(ground: &Ground<'_>, findings: &mut Vec<Finding>) {
    for one in &ground.objects.configs {
        match &one.spec {
            ConfigSpec::VirtualService(spec) => virtual_service(ground, one, spec, findings),
            ConfigSpec::Route(spec) => route(ground, one, spec, findings),
            ConfigSpec::DestinationRule(_)
            | ConfigSpec::ServiceEntry(_)
            | ConfigSpec::Telemetry(_)
            | ConfigSpec::Gateway(_)
            | ConfigSpec::ReferenceGrant(_)
            | ConfigSpec::Rejected(_) => {}
        }
    }
}

fn virtual_service(ground: &Ground<'_>, one: &ConfigObject, spec: &VirtualServiceSpec, findings: &mut Vec<Finding>) {
    let mut left = MAX_PAIRS;
    for (at, rule) in spec.http.iter().enumerate() {
        // That one takes every request before it, the compiler tells; one without matches is behind nothing else.
        if rule.matches.is_empty() || spec.http.iter().take(at).any(takes_all) {
            continue;
        }
        let before = || spec.http.iter().enumerate().take(at).filter(|(_, rule)| takes(rule));
        let mut taken = Vec::new();
        for (index, wanted) in rule.matches.iter().enumerate() {
            let all = before().flat_map(|(by, rule)| rule.matches.iter().enumerate().map(move |(n, one)| (by, n, one)));
            let mut all = all.take_while(|_| {
                left = left.saturating_sub(1);
                left > 0
            });
            if let Some((by, n, _)) = all.find(|(_, _, one)| covers(one, wanted)) {
                taken.push((index, by, n));
            }
        }
        let object = one.object();
        if taken.len() == rule.matches.len() {
            let (field, by) = (format!("spec.http[{at}]"), taken.first().map_or(0, |(_, by, _)| *by));
            let message = format!("no request comes to it: spec.http[{by}] takes what it asks for before it");
            let origin = ground.place(&object, &field);
            findings.push(Finding::new(object, field, Code::VirtualServiceUnreachableRule, message, origin));
            continue;
        }
        for (index, by, n) in taken {
            let field = format!("spec.http[{at}].match[{index}]");
            let message = format!("no request comes to it: spec.http[{by}].match[{n}] takes all it asks for before it");
            let origin = ground.place(&object, &field);
            findings.push(Finding::new(object.clone(), field, Code::VirtualServiceIneffectiveMatch, message, origin));
        }
    }
}

/// Whether what matches a rule goes no further. What a delegate leaves goes on.
fn takes(rule: &VirtualHttp) -> bool {
    match rule.act {
        VirtualAct::Route(_) | VirtualAct::Redirect(_) | VirtualAct::Respond(_) => true,
        VirtualAct::Delegate(_) => false,
    }
}

fn takes_all(rule: &VirtualHttp) -> bool {
    takes(rule) && rule.matches.is_empty()
}

/// Whether every request that `narrow` asks for is one that `wide` asks for.
fn covers(wide: &VirtualMatch, narrow: &VirtualMatch) -> bool {
    let uri = match (&wide.uri, &narrow.uri) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => match (wide.case(), narrow.case()) {
            (Case::Counts, Case::Counts) => text_covers(wide.text(), narrow.text()),
            // A regular expression is asked as it stands, whatever is said of case.
            (_, _) => wide == narrow,
        },
    };
    uri && some_covers(wide.scheme.as_ref(), narrow.scheme.as_ref())
        && some_covers(wide.method.as_ref(), narrow.method.as_ref())
        && some_covers(wide.authority.as_ref(), narrow.authority.as_ref())
        && all_cover(&wide.headers, &narrow.headers)
        && wide.without_headers.iter().all(|one| narrow.without_headers.contains(one))
        && wide
            .query
            .iter()
            .all(|(name, asked)| narrow.query.iter().any(|(other, narrow)| name == other && text_covers(asked, narrow)))
        && asker_covers(&wide.asker, &narrow.asker)
}

fn all_cover(wide: &[(HeaderName, StringMatch)], narrow: &[(HeaderName, StringMatch)]) -> bool {
    wide.iter().all(|(name, asked)| narrow.iter().any(|(other, narrow)| name == other && text_covers(asked, narrow)))
}

fn some_covers(wide: Option<&StringMatch>, narrow: Option<&StringMatch>) -> bool {
    match (wide, narrow) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => text_covers(wide, narrow),
    }
}

/// Whether every text that one asks for is one that the other asks for, as far as that is certain.
fn text_covers(wide: &StringMatch, narrow: &StringMatch) -> bool {
    match (wide, narrow) {
        (StringMatch::Present, _) => true,
        (StringMatch::Prefix(wide), StringMatch::Exact(narrow) | StringMatch::Prefix(narrow)) => {
            narrow.starts_with(&**wide)
        }
        (StringMatch::Exact(wide), StringMatch::Exact(narrow)) => wide == narrow,
        (StringMatch::Regex(wide), StringMatch::Exact(narrow)) => wide.matches(narrow.as_bytes()),
        (StringMatch::Regex(wide), StringMatch::Regex(narrow)) => wide == narrow,
        (StringMatch::Prefix(_) | StringMatch::Exact(_), StringMatch::Regex(_) | StringMatch::Present)
        | (StringMatch::Exact(_), StringMatch::Prefix(_))
        | (StringMatch::Regex(_), StringMatch::Prefix(_) | StringMatch::Present) => false,
    }
}

fn asker_covers(wide: &AskerMatch, narrow: &AskerMatch) -> bool {
    wide.port.is_none_or(|port| narrow.port == Some(port))
        && wide.namespace.as_ref().is_none_or(|namespace| narrow.namespace.as_ref() == Some(namespace))
        && wide.labels.iter().all(|label| narrow.labels.contains(label))
        && (wide.gateways.is_empty() || wide.gateways == narrow.gateways)
}

/// A route of the Gateway API: the most specific match counts, so only one that asks for the very same is never asked.
fn route(ground: &Ground<'_>, one: &ConfigObject, spec: &GatewayRouteSpec, findings: &mut Vec<Finding>) {
    let mut before: Vec<(usize, usize, Match)> = Vec::new();
    let mut left = MAX_PAIRS;
    for (at, rule) in spec.rules.iter().enumerate() {
        for (index, wanted) in rule.matches.iter().enumerate() {
            // What it is called makes no difference.
            let wanted = Match { name: None, ..wanted.clone() };
            left = left.saturating_sub(before.len());
            if left == 0 {
                return;
            }
            if let Some((by, n, _)) = before.iter().find(|(_, _, other)| *other == wanted) {
                let (object, field) = (one.object(), format!("spec.rules[{at}].matches[{index}]"));
                let message =
                    format!("no request comes to it: spec.rules[{by}].matches[{n}] asks for the same before it");
                let origin = ground.place(&object, &field);
                findings.push(Finding::new(object, field, Code::ShadowedMatch, message, origin));
            } else {
                before.push((at, index, wanted));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_route::Pattern;

    use super::*;

    fn asked() -> impl Strategy<Value = StringMatch> {
        let text = "[ab]{0,3}";
        prop_oneof![
            Just(StringMatch::Present),
            text.prop_map(|text| StringMatch::Exact(text.into())),
            text.prop_map(|text| StringMatch::Prefix(text.into())),
            prop_oneof![Just("a.*"), Just("[ab]+"), Just("b?a")]
                .prop_map(|text| StringMatch::Regex(Pattern::new(text).unwrap())),
        ]
    }

    proptest! {
        #[test]
        fn what_covers_another_takes_every_text_that_it_takes(
            wide in asked(), narrow in asked(), texts in proptest::collection::vec("[ab]{0,4}", 1..20),
        ) {
            if text_covers(&wide, &narrow) {
                for text in texts {
                    prop_assert!(!narrow.matches(Some(text.as_bytes())) || wide.matches(Some(text.as_bytes())), "{wide:?} {narrow:?} {text}");
                }
            }
        }
    }

    #[test]
    fn what_is_certain_is_told() {
        let exact = |text: &str| StringMatch::Exact(text.into());
        let prefix = |text: &str| StringMatch::Prefix(text.into());
        for (wide, narrow, want) in [
            (prefix("/a"), exact("/a/b"), true),
            (prefix("/a"), prefix("/ab"), true),
            (prefix("/ab"), prefix("/a"), false),
            (exact("/a"), prefix("/a"), false),
            (exact("/a"), exact("/a"), true),
            (StringMatch::Present, prefix("/a"), true),
            (prefix("/a"), StringMatch::Present, false),
        ] {
            assert_eq!(text_covers(&wide, &narrow), want, "{wide:?} {narrow:?}");
        }
    }
}
