//! What is to be told to authors: each thing once, and not without end.

use std::collections::{BTreeMap, BTreeSet};

use weir_manifest::ConfigObject;

use crate::routes::{Finding, FindingReason};

/// Most that is told of one object.
const MAX_FINDINGS: usize = 100;

type Place = (String, String);

/// What is to be told, in the order it was found.
#[derive(Default)]
pub(super) struct Told {
    findings: Vec<Finding>,
    /// Field and message, by namespace and name.
    seen: BTreeMap<Place, BTreeSet<Place>>,
}

impl Told {
    /// Tells something about an object. The line is that of the field, 0 for the object's own.
    pub(super) fn tell(
        &mut self,
        object: &ConfigObject,
        line: usize,
        field: impl Into<String>,
        reason: FindingReason,
        message: impl Into<String>,
    ) {
        let (field, message) = (field.into(), message.into());
        let seen = self.seen.entry((object.namespace.to_string(), object.name.to_string())).or_default();
        let told = seen.len();
        if told > MAX_FINDINGS || !seen.insert((field.clone(), message.clone())) {
            return;
        }
        let mut finding = match told {
            MAX_FINDINGS => Finding::new(object, "", reason, "more than this is to be told of it, and left out"),
            _ => Finding::new(object, field, reason, message),
        };
        if line > 0 && told < MAX_FINDINGS {
            let mut origin = object.origin.clone();
            origin.line = line;
            finding.place = Some(origin.to_string());
            finding.origin = origin;
        }
        self.findings.push(finding);
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }
}
