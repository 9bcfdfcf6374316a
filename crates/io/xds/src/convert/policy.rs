//! Policies, as `istio.security.Authorization` and as the model has them.
//!
//! Ours carry an extension, `weir.dev/policy`, with all that form cannot say: who reads it gets exactly what was sent. Who does not know
//! it, such as a ztunnel, reads the rest, the plain form, and that never admits what the policy refuses:
//!
//! | of the policy | in the plain form |
//! | --- | --- |
//! | a rule that can be said | the same |
//! | a rule of an ALLOW or DENY that cannot | one that matches less, or more (`plain`) |
//! | rejected | a DENY of everything |
//! | AUDIT; ALLOW as a dry run | a DENY without rules, which decides nothing: there are readers to whom a dry run is a policy like any other |
//!
//! One without the extension means what it means to a ztunnel: rules are alternatives, all clauses of one must match, any match of a
//! clause; a rule without clauses and a clause without matches match everything, a match that says nothing matches nothing. Of one that cannot be read
//! whole nothing is left out: it is rejected, with the fields named, and denies what it covers, which is the whole mesh if its scope is not known. So
//! is one with any other extension, or with any field that is not known, since what is skipped may have been what made it narrow.

mod plain;
mod rule;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use weir_model::{
    Clause, Policy, PolicyAction, PolicyKind, PolicyName, PolicyRule, PolicyScope, PolicySource, RulePlace,
};

use super::{ConvertError, MAX_LABEL, Named};
use crate::{
    proto::{self, OwnAction, OwnKind, OwnPolicy, OwnRule},
    request::cut,
};
use plain::{Bend, bent, fits};
use rule::{Form, MAX_PARTS, Reader, UNKNOWN, rule_to, whole};

/// Most a policy may have, in bytes: a million ranges of IPv6 addresses have 22 MiB.
pub const MAX_POLICY_BYTES: usize = 24 << 20;

/// The extension that carries a policy of ours.
const POLICY: &str = "weir.dev/policy";
/// Its type.
const OWN_POLICY: &str = "type.googleapis.com/weir.dev.Policy";
/// How istiod calls what it makes of a PeerAuthentication that is STRICT without exceptions; no object has such a name.
const STATIC_STRICT: &str = "istio_converted_static_strict";
/// What istiod puts before the name of one with exceptions.
const CONVERTED: &str = "converted_peer_authentication_";

/// What an `Authorization` holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// The policy. One that cannot be read is rejected.
    pub policy: Policy,
    /// Why it cannot be read, if it cannot.
    pub unread: Option<String>,
}

impl Authorization {
    /// Reads the `istio.security.Authorization` of a resource called `name`.
    ///
    /// # Errors
    /// When `name` is no policy's, or the bytes are too many or no such message, so that not even its scope is known.
    pub fn decode(name: &str, bytes: impl Into<Bytes>) -> Result<Self, ConvertError> {
        let own: PolicyName = name.parse().map_err(Named(name).bad("name"))?;
        let bytes: Bytes = bytes.into();
        let len = bytes.len();
        if len > MAX_POLICY_BYTES {
            return Err(ConvertError::TooLong { name: name.to_owned(), len, most: MAX_POLICY_BYTES });
        }
        let what = "istio.security.Authorization";
        let message = proto::Authorization::decode(bytes).map_err(|error| ConvertError::Malformed {
            name: name.to_owned(),
            what,
            why: error.to_string(),
        })?;
        let mut reader = Reader::default();
        if message.encoded_len() != len {
            reader.faults.note(what, UNKNOWN);
        }
        let said = format!("{}/{}", message.namespace, message.name);
        if said != name {
            reader.faults.note("name", format_args!("it is {said:?} by its own words"));
        }
        let policy = read(own, message, &mut reader);
        Ok(match reader.faults.words() {
            None => Self { policy, unread: None },
            Some(why) => {
                let rejected = Some(cut(why.clone(), MAX_LABEL).into());
                let policy = Policy { action: PolicyAction::Deny, rules: Vec::new(), rejected, ..policy };
                Self { policy, unread: Some(format!("{name:?}: {why}")) }
            }
        })
    }

    /// The policy of that name of which nothing is known but that it cannot be read: it denies everything.
    pub(crate) fn unreadable(name: PolicyName, why: &ConvertError) -> Policy {
        Policy {
            scope: PolicyScope::Mesh,
            action: PolicyAction::Deny,
            dry_run: false,
            rules: Vec::new(),
            rejected: Some(cut(why.to_string(), MAX_LABEL).into()),
            source: source_of(&name),
            name,
        }
    }

    /// The bytes [`Authorization::decode`] reads. A policy beyond what it reads is sent as one that is rejected.
    pub fn encode(policy: &Policy) -> Vec<u8> {
        let parts = parts(policy);
        if parts > MAX_PARTS {
            let why = format!("{parts} rules, clauses and matches, at most {MAX_PARTS} are sent");
            return message_of(&rejected(policy, why)).encode_to_vec();
        }
        let message = message_of(policy);
        match message.encoded_len() {
            0..=MAX_POLICY_BYTES => message.encode_to_vec(),
            len => {
                let why = format!("{len} bytes as it is sent, at most {MAX_POLICY_BYTES} are");
                message_of(&rejected(policy, why)).encode_to_vec()
            }
        }
    }
}

/// The policy without what makes it too large.
fn rejected(policy: &Policy, why: String) -> Policy {
    let (name, scope, action) = (policy.name.clone(), policy.scope, policy.action);
    let source = PolicySource { file: None, ..policy.source.clone() };
    Policy { name, scope, action, dry_run: policy.dry_run, rules: Vec::new(), rejected: Some(why.into()), source }
}

fn parts(policy: &Policy) -> usize {
    let matches = |clauses: &[Clause]| clauses.iter().map(|clause| 1 + clause.0.len()).sum::<usize>();
    policy.rules.iter().map(|rule| 1 + matches(&rule.clauses)).sum()
}

/// What the plain form of a policy is.
enum Plain {
    /// One that decides nothing, whoever reads it.
    Nothing,
    /// One that denies everything.
    Everything,
    /// The policy's own, as far as it can be said.
    Own(proto::Action, Bend),
}

fn plain_of(policy: &Policy) -> Plain {
    match (policy.dry_run, &policy.rejected, policy.action) {
        (false, Some(_), _) => Plain::Everything,
        (true, Some(_), _) | (_, None, PolicyAction::Audit) | (true, None, PolicyAction::Allow) => Plain::Nothing,
        (_, None, PolicyAction::Deny) => Plain::Own(proto::Action::Deny, Bend::Wider),
        (false, None, PolicyAction::Allow) => Plain::Own(proto::Action::Allow, Bend::Narrower),
    }
}

fn message_of(policy: &Policy) -> proto::Authorization {
    let scope = match policy.scope {
        PolicyScope::Mesh => proto::Scope::Global,
        PolicyScope::Namespace => proto::Scope::Namespace,
        PolicyScope::Workloads => proto::Scope::WorkloadSelector,
    };
    let (action, dry_run, rules) = match plain_of(policy) {
        Plain::Nothing => (proto::Action::Deny, true, Vec::new()),
        // A rule without clauses.
        Plain::Everything => (proto::Action::Deny, false, vec![Bytes::new()]),
        Plain::Own(action, bend) => {
            let rule = |rule: &PolicyRule| match fits(rule) {
                true => rule_to(&rule.clauses),
                false => rule_to(&bent(rule, bend)),
            };
            (action, policy.dry_run, policy.rules.iter().map(rule).collect())
        }
    };
    let value = own_of(policy).encode_to_vec();
    let config = Some(prost_types::Any { type_url: OWN_POLICY.to_owned(), value });
    proto::Authorization {
        name: policy.name.name().to_owned(),
        namespace: policy.name.namespace.to_string(),
        scope: scope.into(),
        action: action.into(),
        rules,
        dry_run,
        extensions: vec![proto::Extension { name: POLICY.to_owned(), config }],
    }
}

fn own_of(policy: &Policy) -> OwnPolicy {
    let kind = match policy.source.kind {
        PolicyKind::Authorization => OwnKind::Authorization,
        PolicyKind::PeerAuthentication => OwnKind::PeerAuthentication,
        PolicyKind::RequestAuthentication => OwnKind::RequestAuthentication,
        PolicyKind::RequiredWaypoint => OwnKind::RequiredWaypoint,
    };
    let action = match policy.action {
        PolicyAction::Allow => OwnAction::Allow,
        PolicyAction::Deny => OwnAction::Deny,
        PolicyAction::Audit => OwnAction::Audit,
    };
    let has_rules = matches!(plain_of(policy), Plain::Own(..));
    let rule = |rule: &PolicyRule| {
        let exact = (!has_rules || !fits(rule)).then(|| rule_to(&rule.clauses));
        OwnRule { index: rule.place.index, line: rule.place.line, exact }.encode_to_vec().into()
    };
    OwnPolicy {
        kind: kind.into(),
        name: policy.source.name.to_string(),
        file: policy.source.file.as_ref().map(ToString::to_string),
        rejected: policy.rejected.as_ref().map(ToString::to_string),
        action: action.into(),
        dry_run: policy.dry_run,
        rules: policy.rules.iter().map(rule).collect(),
    }
}

/// The policy in a message. What is wrong with it is a fault, and then the policy is not to be used as it is.
fn read(name: PolicyName, message: proto::Authorization, reader: &mut Reader) -> Policy {
    let scope = match proto::Scope::try_from(message.scope) {
        Ok(proto::Scope::Global) => PolicyScope::Mesh,
        Ok(proto::Scope::Namespace) => PolicyScope::Namespace,
        Ok(proto::Scope::WorkloadSelector) => PolicyScope::Workloads,
        Err(_) => {
            reader.faults.note("scope", format_args!("{} is not known", message.scope));
            PolicyScope::Mesh
        }
    };
    for other in message.extensions.iter().filter(|extension| extension.name != POLICY) {
        reader.faults.note("extensions", format_args!("{:?} is not known", other.name));
    }
    let mut ours = message.extensions.into_iter().filter(|extension| extension.name == POLICY);
    match (ours.next(), ours.next()) {
        (None, _) => {
            let action = match proto::Action::try_from(message.action) {
                Ok(proto::Action::Allow) => PolicyAction::Allow,
                Ok(proto::Action::Deny) => PolicyAction::Deny,
                Err(_) => {
                    reader.faults.note("action", format_args!("{} is not known", message.action));
                    PolicyAction::Deny
                }
            };
            let rules = if reader.room(message.rules.len()) { message.rules } else { Vec::new() };
            let rules = rules.into_iter().enumerate().map(|(index, bytes)| PolicyRule {
                // Istiod leaves rules out: their place among what is left is not the one their author knows.
                place: RulePlace::default(),
                clauses: reader.rule(index, bytes, Form::Plain),
            });
            let (rules, source) = (rules.collect(), source_of(&name));
            Policy { name, scope, action, dry_run: message.dry_run, rules, rejected: None, source }
        }
        (Some(ours), None) => read_own(name, scope, ours, &message.rules, reader),
        (Some(_), Some(_)) => {
            reader.faults.note("extensions", format_args!("{POLICY:?} is there twice"));
            let source = source_of(&name);
            let (action, rules) = (PolicyAction::Deny, Vec::new());
            Policy { name, scope, action, dry_run: false, rules, rejected: None, source }
        }
    }
}

/// The policy in our extension and, where they are exact, in the plain rules.
fn read_own(
    name: PolicyName,
    scope: PolicyScope,
    extension: proto::Extension,
    plain: &[Bytes],
    reader: &mut Reader,
) -> Policy {
    let config = extension.config.filter(|config| config.type_url == OWN_POLICY);
    let own = config.ok_or_else(|| "it holds no policy".to_owned());
    let own = own.and_then(|config| whole::<OwnPolicy>(config.value.into())).unwrap_or_else(|why| {
        reader.faults.note(POLICY, why);
        OwnPolicy::default()
    });
    let kind = match OwnKind::try_from(own.kind) {
        Ok(OwnKind::Authorization) => PolicyKind::Authorization,
        Ok(OwnKind::PeerAuthentication) => PolicyKind::PeerAuthentication,
        Ok(OwnKind::RequestAuthentication) => PolicyKind::RequestAuthentication,
        Ok(OwnKind::RequiredWaypoint) => PolicyKind::RequiredWaypoint,
        Err(_) => {
            reader.faults.note(POLICY, format_args!("the kind {} is not known", own.kind));
            PolicyKind::Authorization
        }
    };
    let action = match OwnAction::try_from(own.action) {
        Ok(OwnAction::Allow) => PolicyAction::Allow,
        Ok(OwnAction::Deny) => PolicyAction::Deny,
        Ok(OwnAction::Audit) => PolicyAction::Audit,
        Err(_) => {
            reader.faults.note(POLICY, format_args!("the action {} is not known", own.action));
            PolicyAction::Deny
        }
    };
    let rules = if reader.room(own.rules.len()) { own.rules } else { Vec::new() };
    let rules = rules.into_iter().enumerate();
    let rules = rules.map(|(index, bytes)| own_rule(index, bytes, plain.get(index), reader)).collect();
    let text = |text: String| Arc::<str>::from(text);
    let source = PolicySource { kind, name: own.name.into(), file: own.file.map(text) };
    Policy { name, scope, action, dry_run: own.dry_run, rules, rejected: own.rejected.map(text), source }
}

fn own_rule(index: usize, bytes: Bytes, plain: Option<&Bytes>, reader: &mut Reader) -> PolicyRule {
    let own = whole::<OwnRule>(bytes).unwrap_or_else(|why| {
        reader.faults.note(format_args!("{POLICY}: rules[{index}]"), why);
        OwnRule::default()
    });
    let clauses = match (own.exact, plain) {
        (Some(exact), _) => reader.rule(index, exact, Form::Exact),
        (None, Some(plain)) => reader.rule(index, plain.clone(), Form::Plain),
        (None, None) => {
            reader.faults.note(format_args!("rules[{index}]"), "it is not there");
            Vec::new()
        }
    };
    PolicyRule { place: RulePlace { index: own.index, line: own.line }, clauses }
}

/// What a policy was made of, as far as its name says.
fn source_of(name: &PolicyName) -> PolicySource {
    let (kind, own) = match name.name().strip_prefix(CONVERTED) {
        Some(own) if !own.is_empty() => (PolicyKind::PeerAuthentication, own),
        Some(_) | None if name.name() == STATIC_STRICT => (PolicyKind::PeerAuthentication, STATIC_STRICT),
        Some(_) | None => (PolicyKind::Authorization, name.name()),
    };
    PolicySource { kind, name: own.into(), file: None }
}
