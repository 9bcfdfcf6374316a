//! `weirctl analyze`: what is wrong or without effect in manifests, by the code that decides at admission.

mod files;

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::Value;
use weir_analyze::{Finding, Severity, Suppression, analyze as judged, suppressed};
use weir_compile::{ClusterDomain, Settings};
use weir_manifest::{FileName, survey};
use weir_model::{Namespace, TrustDomain};

/// What istioctl ends with when it has found something as bad as it was asked for.
const FOUND: u8 = 79;
/// And when a file cannot be read. BSD's `EX_DATAERR`.
const UNREAD: u8 = 65;

/// Manifests, and what is to be said of them.
#[derive(Debug, Args)]
pub(crate) struct Analyze {
    /// Files and folders of manifests; `-` is standard input. Of folders *.yaml, *.yml and *.json are read.
    #[arg(value_name = "FILE|DIR|-", required = true)]
    pub(crate) sources: Vec<String>,

    /// Read the folders in folders, too.
    #[arg(long, short = 'R')]
    pub(crate) recursive: bool,

    /// Only what is about objects of this namespace, and the Namespace itself.
    #[arg(long, short = 'n', value_name = "NAME")]
    pub(crate) namespace: Option<Namespace>,

    /// How the answer is printed.
    #[arg(long, short = 'o', value_enum, default_value = "table", value_name = "table|json|yaml")]
    pub(crate) output: Form,

    /// From when on it ends with 79.
    #[arg(long, visible_alias = "failure-threshold", default_value = "error", value_name = "error|warning|info")]
    pub(crate) fail_on: Severity,

    /// Leave out a code of objects of that name, such as 'WEIR0017=Service web.shop'; `*` stands for any letters. May be given several times.
    #[arg(long, short = 'S', value_name = "CODE=KIND NAME.NAMESPACE")]
    pub(crate) suppress: Vec<Suppression>,

    /// The trust domain of every workload.
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN")]
    pub(crate) trust_domain: TrustDomain,

    /// The namespace whose policies without a selector cover the whole mesh.
    #[arg(long, default_value = "istio-system", value_name = "NAME")]
    pub(crate) root_namespace: Namespace,

    /// The suffix of service names.
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN")]
    pub(crate) cluster_domain: ClusterDomain,
}

/// How findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For people.
    Table,
    /// A list, JSON.
    Json,
    /// The same, YAML.
    Yaml,
}

/// The findings as they are printed, and what the program ends with.
///
/// # Errors
/// If what manifests do not say cannot be made out.
pub(crate) fn analyze(flags: &Analyze) -> Result<(String, u8)> {
    let settings = Settings {
        trust_domain: flags.trust_domain.clone(),
        cluster: "Kubernetes".parse()?,
        network: "".parse()?,
        node: None,
        cluster_domain: flags.cluster_domain.clone(),
        root_namespace: flags.root_namespace.clone(),
    };
    let texts = match files::read(&flags.sources, flags.recursive) {
        Ok(texts) => texts,
        Err(error) => return Ok((format!("weirctl: {error:#}\n"), UNREAD)),
    };
    let sources: Vec<(FileName, &str)> = texts.iter().map(|(name, text)| (name.clone(), text.as_str())).collect();
    let survey = survey(&sources);
    let findings = suppressed(judged(&survey, &settings), &survey.annotations, &flags.suppress);
    let wanted = |finding: &Finding| flags.namespace.as_ref().is_none_or(|wanted| is_of(finding, wanted));
    let findings: Vec<Finding> = findings.into_iter().filter(wanted).collect();
    let is_bad = findings.iter().any(|finding| finding.severity() >= flags.fail_on);
    let text = match flags.output {
        Form::Table => table(&findings, texts.len()),
        Form::Json => serde_json::to_string_pretty(&findings)? + "\n",
        Form::Yaml => yaml(&findings)?,
    };
    Ok((text, if is_bad { FOUND } else { 0 }))
}

/// Whether it is about the namespace. What is of no object is everybody's.
fn is_of(finding: &Finding, namespace: &Namespace) -> bool {
    let Some(object) = &finding.object else { return true };
    let own = object.namespace.as_deref().unwrap_or(&object.name);
    own == namespace.as_str()
}

fn table(findings: &[Finding], files: usize) -> String {
    if findings.is_empty() {
        return format!("nothing to be said (files: {files})\n");
    }
    let mut text = String::new();
    for finding in findings {
        let _never = writeln!(text, "{finding}\n    {}", finding.advice()).is_ok();
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity() == severity).count();
    let (errors, warnings, infos) = (count(Severity::Error), count(Severity::Warning), count(Severity::Info));
    let _never = writeln!(text, "\nerrors: {errors}, warnings: {warnings}, information: {infos}").is_ok();
    text
}

/// A list of maps of texts. A text of JSON is one of YAML.
fn yaml(findings: &[Finding]) -> Result<String> {
    if findings.is_empty() {
        return Ok("[]\n".to_owned());
    }
    let mut text = String::new();
    for finding in findings {
        let Value::Object(fields) = serde_json::to_value(finding)? else { continue };
        // Whatever order a map has.
        let fields: BTreeMap<String, Value> = fields.into_iter().collect();
        for (index, (name, value)) in fields.iter().enumerate() {
            let _never = writeln!(text, "{} {name}: {value}", if index == 0 { "-" } else { " " }).is_ok();
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
