//! Findings that nobody wants to see: by an annotation of the object, or by whoever asks.

use std::{collections::BTreeMap, fmt, str::FromStr};

use weir_manifest::{Labels, ObjectRef, Origin};

use crate::{Code, Finding};

/// Codes with commas between them, or `*` for all. Istio's annotation.
const ANNOTATION: &str = "galley.istio.io/analyze-suppress";

/// A code on the objects of a name. Written as istioctl's `--suppress`: `IST0103=Pod web.shop`, with `*` for any letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    code: Code,
    object: String,
}

/// Why a text is no suppression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuppressionError {
    /// Without a code or an object.
    #[error("{text:?}: expected CODE=KIND NAME.NAMESPACE, as in IST0103=Pod web.shop")]
    Form {
        /// The text.
        text: String,
    },
    /// With a code that there is not.
    #[error("{0}")]
    Code(String),
}

impl FromStr for Suppression {
    type Err = SuppressionError;

    fn from_str(text: &str) -> Result<Self, SuppressionError> {
        let form = || SuppressionError::Form { text: text.to_owned() };
        let (code, object) = text.split_once('=').ok_or_else(form)?;
        if object.is_empty() || object.contains('=') {
            return Err(form());
        }
        let code = code.trim().parse().map_err(SuppressionError::Code)?;
        Ok(Self { code, object: object.to_owned() })
    }
}

impl fmt::Display for Suppression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.code, self.object)
    }
}

impl Suppression {
    fn covers(&self, finding: &Finding) -> bool {
        let Some(object) = &finding.object else { return false };
        let name = match &object.namespace {
            Some(namespace) => format!("{} {}.{namespace}", object.kind, object.name),
            None => format!("{} {}", object.kind, object.name),
        };
        self.code == finding.code && fits(&self.object, &name)
    }
}

/// Takes out what an annotation of its object, or somebody who asks, does not want to see. What is refused is never taken out.
pub fn suppressed(
    findings: Vec<Finding>,
    annotations: &BTreeMap<ObjectRef, (Origin, Labels)>,
    by: &[Suppression],
) -> Vec<Finding> {
    let own = |finding: &Finding| {
        let own = finding.object.as_ref().and_then(|object| annotations.get(object));
        own.is_some_and(|(_, own)| by_annotation(finding, own))
    };
    let kept = |finding: &Finding| !own(finding) && !by.iter().any(|one| one.covers(finding));
    findings.into_iter().filter(|finding| finding.code.refuses() || kept(finding)).collect()
}

/// Whether an annotation of its object does not want to see it.
pub(crate) fn by_annotation(finding: &Finding, annotations: &Labels) -> bool {
    annotations.get(ANNOTATION).is_some_and(|codes| {
        let mut codes = codes.split(',').map(str::trim);
        codes.any(|code| code == "*" || code.eq_ignore_ascii_case(finding.code.as_str()))
    })
}

/// Whether a text is as a pattern has it, in which `*` stands for any letters.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(before) = last.replace(part) {
            let Some(at) = rest.find(before) else { return false };
            rest = &rest[at + before.len()..];
        }
    }
    match last {
        Some(last) => rest.ends_with(last),
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_letters() {
        for (pattern, text, want) in [
            ("Pod web.shop", "Pod web.shop", true),
            ("Pod web.shop", "Pod web.shop2", false),
            ("Pod *.shop", "Pod web.shop", true),
            ("Pod *.shop", "Pod web.other", false),
            ("*", "anything", true),
            ("*a*a*", "a", false),
            ("*a*a*", "banana", true),
            ("a*", "b", false),
            ("ab*ab", "ab", false),
        ] {
            assert_eq!(fits(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_not_wanted_is_left_out_but_for_what_is_refused() {
        let object = ObjectRef { kind: "Pod".into(), namespace: Some("shop".into()), name: "web".into() };
        let of = |code| Finding::new(object.clone(), "", code, "m", None);
        let all = vec![of(Code::NoEffect), of(Code::NoPods), of(Code::SchemaValidationError)];
        let said = |codes: &str| {
            let origin = Origin { file: weir_manifest::FileName::new("f"), document: 1, line: 1 };
            let labels = Labels::from([(ANNOTATION.into(), codes.into())]);
            BTreeMap::from([(object.clone(), (origin, labels))])
        };
        let none = BTreeMap::new();
        let by = |text: &str| vec![text.parse::<Suppression>().unwrap()];
        for (annotations, by, want) in [
            (&none, vec![], 3),
            (&said("WEIR0002, weir0017"), vec![], 1),
            (&said("*"), vec![], 1),
            (&said("IST0101"), vec![], 3),
            (&none, by("WEIR0002=Pod web.shop"), 2),
            (&none, by("WEIR0002=Pod web.other"), 3),
            (&none, by("IST0106=Pod *"), 3),
        ] {
            assert_eq!(suppressed(all.clone(), annotations, &by).len(), want, "{annotations:?} {by:?}");
        }
        for bad in ["", "IST0101", "IST0101=", "IST9999=Pod a", "IST0101=a=b"] {
            assert!(bad.parse::<Suppression>().is_err(), "{bad:?} was taken");
        }
    }
}
