//! Everything there is to be told of objects.

use weir_compile::Settings;
use weir_manifest::{Cause, Found, ManifestError, ObjectRef, Objects, Survey};

use crate::{Code, Finding, compiled, ground::Ground, meant::meant, rules};

/// Groups of kinds that are the mesh's: an unknown one of another group is somebody else's.
const GROUPS: &[&str] = &["istio.io", "gateway.networking.k8s.io", "weir.dev"];

/// Everything there is to be told of what files declare, the worst first.
///
/// Where something cannot be read, nothing is told of what seems to be absent: it may be just that.
pub fn analyze(survey: &Survey, settings: &Settings) -> Vec<Finding> {
    let mut findings: Vec<Finding> = survey.errors.iter().filter(|error| is_ours(error)).map(unreadable).collect();
    let is_whole = findings.is_empty();
    let told = told(&survey.objects, settings);
    findings.extend(told.into_iter().filter(|one| is_whole || !one.code.is_of_absence()));
    findings.extend(rules::annotations(&survey.annotations));
    sorted(findings)
}

/// What there is to be told of one object among others, the worst first.
pub fn judge(objects: &Objects, about: &ObjectRef, settings: &Settings) -> Vec<Finding> {
    let told = told(objects, settings);
    sorted(told.into_iter().filter(|one| one.object.as_ref() == Some(about)).collect())
}

fn told(objects: &Objects, settings: &Settings) -> Vec<Finding> {
    let ground = Ground::new(objects, settings);
    let compiled = compiled::Compiled::new(objects, settings);
    let mut findings = compiled.findings(&ground);
    rules::all(&ground, &compiled, &mut findings);
    findings
}

fn sorted(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|one, other| {
        other.severity().cmp(&one.severity()).then_with(|| one.object.cmp(&other.object)).then_with(|| one.cmp(other))
    });
    findings.dedup();
    findings
}

/// Whether an error is of something that is the mesh's at all.
fn is_ours(error: &ManifestError) -> bool {
    let Cause::UnknownKind { api_version, .. } = &error.cause else { return true };
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    GROUPS.iter().any(|own| group == *own || group.ends_with(&format!(".{own}")))
}

/// What cannot be read, as a finding.
pub(crate) fn unreadable(error: &ManifestError) -> Finding {
    let is_misplaced = matches!(error.cause, Cause::Misplaced { .. });
    let code = if is_misplaced { Code::MisplacedAnnotation } else { Code::SchemaValidationError };
    let meant = match (&error.cause, error.field.contains("dataplane-mode")) {
        (Cause::Expected { found: Found::Text(found), .. }, true) => meant(found, ["ambient", "none"]),
        (_, _) => None,
    };
    let finding = Finding {
        object: error.object.clone(),
        field: error.field.clone(),
        code,
        message: error.cause.to_string(),
        hint: String::new(),
        origin: Some(error.origin.clone()),
    };
    finding.meaning(meant)
}

#[cfg(test)]
#[path = "analyze/tests.rs"]
mod tests;
