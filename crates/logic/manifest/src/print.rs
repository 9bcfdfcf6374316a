//! A policy as text: YAML as `kubectl get -o yaml` lays it out, or JSON on one line.
//!
//! What is printed is read again as the same policy. Fields are written that say something, in the order of Istio's reference;
//! text is quoted in YAML unless any reader takes it for text.

mod token;

use std::fmt::Write;

use ipnet::IpNet;
use weir_model::{Namespace, ServiceAccount, Sides};

use crate::object::{
    AuthorizationAction, AuthorizationRule, AuthorizationSpec, Condition, MtlsMode, Operation, PathMatch,
    PeerAuthenticationSpec, PolicyObject, PolicySpec, PolicyTarget, Source,
};

/// A value on its way to text.
enum Out {
    Text(String),
    Number(i64),
    Boolean(bool),
    List(Vec<Out>),
    Map(Vec<(String, Out)>),
}

impl PolicyObject {
    /// The policy as YAML. None for one that was not read whole, as that would print another policy.
    pub fn to_yaml(&self) -> Option<String> {
        let mut text = String::new();
        yaml(&mut text, &self.out()?, 0, Start::Line);
        Some(text)
    }

    /// The policy as JSON. None where there is no YAML of it.
    pub fn to_json(&self) -> Option<String> {
        let mut text = String::new();
        json(&mut text, &self.out()?);
        Some(text)
    }

    fn out(&self) -> Option<Out> {
        let mut spec = Vec::new();
        match &self.target {
            PolicyTarget::All => {}
            PolicyTarget::Selector(labels) => {
                let labels = labels.iter().map(|(key, value)| (key.to_string(), text(value))).collect();
                spec.push(field("selector", map([field("matchLabels", Out::Map(labels))])));
            }
            PolicyTarget::Refs(refs) => {
                let one = |target: &crate::object::TargetRef| {
                    map([
                        field("group", text(&target.group)),
                        field("kind", text(&target.kind)),
                        field("name", text(&target.name)),
                    ])
                };
                spec.push(field("targetRefs", Out::List(refs.iter().map(one).collect())));
            }
            PolicyTarget::Unknown => return None,
        }
        let mut annotations = Vec::new();
        match &self.spec {
            PolicySpec::Authorization(said) => {
                if said.dry_run {
                    annotations.push(field("istio.io/dry-run", text("true")));
                }
                authorization(said, &mut spec);
            }
            PolicySpec::PeerAuthentication(said) => peer_authentication(said, &mut spec),
            PolicySpec::RequestAuthentication(said) => token::request_authentication(said, &mut spec),
            PolicySpec::Rejected(_) => return None,
        }
        let mut metadata = Vec::new();
        if !annotations.is_empty() {
            metadata.push(field("annotations", Out::Map(annotations)));
        }
        metadata.extend(self.created.as_ref().map(|created| field("creationTimestamp", text(created))));
        metadata.extend(self.generation.map(|generation| field("generation", Out::Number(generation))));
        metadata.push(field("name", text(&self.name)));
        metadata.push(field("namespace", text(self.namespace.as_str())));
        Some(map([
            field("apiVersion", text("security.istio.io/v1")),
            field("kind", text(&self.kind.to_string())),
            field("metadata", Out::Map(metadata)),
            field("spec", Out::Map(spec)),
        ]))
    }
}

fn field(name: &str, value: Out) -> (String, Out) {
    (name.to_owned(), value)
}

fn map(fields: impl IntoIterator<Item = (String, Out)>) -> Out {
    Out::Map(fields.into_iter().collect())
}

fn text(text: &str) -> Out {
    Out::Text(text.to_owned())
}

fn authorization(said: &AuthorizationSpec, spec: &mut Vec<(String, Out)>) {
    let (action, provider) = match &said.action {
        AuthorizationAction::Allow => ("ALLOW", None),
        AuthorizationAction::Deny => ("DENY", None),
        AuthorizationAction::Audit => ("AUDIT", None),
        AuthorizationAction::Custom { provider } => ("CUSTOM", Some(provider)),
    };
    spec.push(field("action", text(action)));
    spec.extend(provider.map(|name| field("provider", map([field("name", text(name))]))));
    if !said.rules.is_empty() {
        spec.push(field("rules", Out::List(said.rules.iter().map(rule).collect())));
    }
}

fn rule(rule: &AuthorizationRule) -> Out {
    let mut fields = Vec::new();
    let mut part = |name, entries: Vec<Out>| {
        if !entries.is_empty() {
            fields.push(field(name, Out::List(entries)));
        }
    };
    part("from", rule.from.iter().map(|one| map([field("source", source(one))])).collect());
    part("to", rule.to.iter().map(|one| map([field("operation", operation(one))])).collect());
    part("when", rule.when.iter().map(condition).collect());
    Out::Map(fields)
}

fn source(source: &Source) -> Out {
    let mut fields = Vec::new();
    sides(&mut fields, ["principals", "notPrincipals"], &source.principals, ToString::to_string);
    let (names, values) = (["requestPrincipals", "notRequestPrincipals"], &source.request_principals);
    sides(&mut fields, names, values, ToString::to_string);
    sides(&mut fields, ["namespaces", "notNamespaces"], &source.namespaces, ToString::to_string);
    sides(&mut fields, ["serviceAccounts", "notServiceAccounts"], &source.service_accounts, account);
    sides(&mut fields, ["trustDomains", "notTrustDomains"], &source.trust_domains, ToString::to_string);
    sides(&mut fields, ["ipBlocks", "notIpBlocks"], &source.ip_blocks, block);
    sides(&mut fields, ["remoteIpBlocks", "notRemoteIpBlocks"], &source.remote_ip_blocks, block);
    Out::Map(fields)
}

fn operation(operation: &Operation) -> Out {
    let mut fields = Vec::new();
    sides(&mut fields, ["hosts", "notHosts"], &operation.hosts, ToString::to_string);
    sides(&mut fields, ["ports", "notPorts"], &operation.ports, ToString::to_string);
    sides(&mut fields, ["methods", "notMethods"], &operation.methods, ToString::to_string);
    sides(&mut fields, ["paths", "notPaths"], &operation.paths, |path| match path {
        PathMatch::Text(text) => text.to_string(),
        PathMatch::Template(template) => template.to_string(),
    });
    Out::Map(fields)
}

fn condition(condition: &Condition) -> Out {
    let mut fields = Vec::new();
    let key = match condition {
        Condition::SourceIp(_) => "source.ip",
        Condition::SourceNamespace(_) => "source.namespace",
        Condition::SourcePrincipal(_) => "source.principal",
        Condition::SourceServiceAccount(_) => "source.serviceAccount",
        Condition::SourceTrustDomain(_) => "source.trustDomain",
        Condition::DestinationIp(_) => "destination.ip",
        Condition::DestinationPort(_) => "destination.port",
        Condition::RemoteIp(_) => "remote.ip",
        Condition::Request { key, .. } => key,
    };
    fields.push(field("key", text(key)));
    let names = ["values", "notValues"];
    match condition {
        Condition::SourceIp(values) | Condition::DestinationIp(values) | Condition::RemoteIp(values) => {
            sides(&mut fields, names, values, block);
        }
        Condition::SourceNamespace(values)
        | Condition::SourcePrincipal(values)
        | Condition::SourceTrustDomain(values)
        | Condition::Request { values, .. } => sides(&mut fields, names, values, ToString::to_string),
        Condition::SourceServiceAccount(values) => sides(&mut fields, names, values, account),
        Condition::DestinationPort(values) => sides(&mut fields, names, values, ToString::to_string),
    }
    Out::Map(fields)
}

fn sides<T>(fields: &mut Vec<(String, Out)>, names: [&str; 2], sides: &Sides<T>, print: fn(&T) -> String) {
    for (name, values) in names.into_iter().zip([&sides.any, &sides.none]) {
        if !values.is_empty() {
            fields.push(field(name, Out::List(values.iter().map(|value| Out::Text(print(value))).collect())));
        }
    }
}

fn account((namespace, name): &(Namespace, ServiceAccount)) -> String {
    format!("{namespace}/{name}")
}

/// A network of one address as that address.
fn block(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

fn peer_authentication(said: &PeerAuthenticationSpec, spec: &mut Vec<(String, Out)>) {
    let mode = |mode: MtlsMode| {
        let mode = match mode {
            MtlsMode::Unset => "UNSET",
            MtlsMode::Disable => "DISABLE",
            MtlsMode::Permissive => "PERMISSIVE",
            MtlsMode::Strict => "STRICT",
        };
        map([field("mode", text(mode))])
    };
    if said.mode != MtlsMode::Unset {
        spec.push(field("mtls", mode(said.mode)));
    }
    if !said.ports.is_empty() {
        let ports = said.ports.iter().map(|(port, own)| (port.to_string(), mode(*own)));
        spec.push(field("portLevelMtls", map(ports)));
    }
}

/// What stands before a value on its line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// Nothing: the first field is written where the line stands.
    Line,
    /// `key:`.
    Key,
}

/// Writes a value and ends its line. `depth` is the indent of its fields or items, in spaces.
fn yaml(text: &mut String, value: &Out, depth: usize, start: Start) {
    let indent = |text: &mut String, depth| text.extend(std::iter::repeat_n(' ', depth));
    match value {
        Out::Map(fields) if !fields.is_empty() => {
            for (i, (key, value)) in fields.iter().enumerate() {
                if i == 0 && start == Start::Key {
                    text.push('\n');
                }
                if i > 0 || start == Start::Key {
                    indent(text, depth);
                }
                plain(text, key);
                text.push(':');
                // Items of a list stand below the key, not behind it, as kubectl has it.
                let deeper = if matches!(value, Out::List(_)) { depth } else { depth + 2 };
                yaml(text, value, deeper, Start::Key);
            }
        }
        Out::List(items) if !items.is_empty() => {
            text.push('\n');
            for item in items {
                indent(text, depth);
                text.push_str("- ");
                yaml(text, item, depth + 2, Start::Line);
            }
        }
        Out::Map(_) | Out::List(_) | Out::Text(_) | Out::Number(_) | Out::Boolean(_) => {
            if start == Start::Key {
                text.push(' ');
            }
            match value {
                Out::Text(own) => plain(text, own),
                Out::Map(_) | Out::List(_) | Out::Number(_) | Out::Boolean(_) => json(text, value),
            }
            text.push('\n');
        }
    }
}

/// Text without quotes, if no reader of YAML takes it for anything else.
fn plain(text: &mut String, own: &str) {
    const WORDS: &[&str] = &["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf", "infinity"];
    let letters = own.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && own.chars().all(|c| c.is_ascii_alphanumeric() || "-._/".contains(c));
    if letters && !WORDS.contains(&own.to_ascii_lowercase().as_str()) {
        text.push_str(own);
    } else {
        quoted(text, own);
    }
}

fn json(text: &mut String, value: &Out) {
    match value {
        Out::Text(own) => quoted(text, own),
        Out::Number(number) => text.push_str(&number.to_string()),
        Out::Boolean(value) => text.push_str(&value.to_string()),
        Out::List(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                text.push_str(if i > 0 { "," } else { "" });
                json(text, item);
            }
            text.push(']');
        }
        Out::Map(fields) => {
            text.push('{');
            for (i, (key, value)) in fields.iter().enumerate() {
                text.push_str(if i > 0 { "," } else { "" });
                quoted(text, key);
                text.push(':');
                json(text, value);
            }
            text.push('}');
        }
    }
}

/// Text in quotes, as both JSON and YAML read it: RFC 8259 §7, and what YAML 1.2.2 §5.1 does not print is escaped, too.
fn quoted(text: &mut String, own: &str) {
    text.push('"');
    for c in own.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}' => escaped(text, c),
            c if c.is_control() => escaped(text, c),
            c => text.push(c),
        }
    }
    text.push('"');
}

fn escaped(text: &mut String, c: char) {
    write!(text, "\\u{:04x}", u32::from(c)).expect("a String takes all that is written");
}

#[cfg(test)]
#[path = "print/tests.rs"]
mod tests;
