//! PeerAuthentication: which peers need not prove who they are.
//!
//! Each object makes its policies by itself, from nothing but what it says; a workload names the one that is right for what it
//! inherits. They are plain DENY policies, so that any agent of Istio's enforces them alike: whoever has no identity is denied.

use std::sync::Arc;

use weir_manifest::{MtlsMode, PeerAuthenticationSpec};
use weir_model::{
    Clause, Match, Namespace, Policy, PolicyAction, PolicyKind, PolicyName, PolicyRule, PolicyScope, PolicySource,
    Port, RulePlace, Sides, TextMatch,
};

/// Before the name of a PeerAuthentication, in that of its policy. As istiod has it: no object's name has a `_` (RFC 1123).
const CONVERTED: &str = "converted_peer_authentication_";
/// After it, where everything but some ports is STRICT because something wider says so.
const INHERITED: &str = "~strict";

/// Whether a peer may come without an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It may not.
    Strict,
    /// It may.
    Permissive,
}

/// A mode, if it says anything. Agents cannot be without mutual TLS, so DISABLE asks no more of them than PERMISSIVE.
pub(crate) fn said(mode: MtlsMode) -> Option<Mode> {
    match mode {
        MtlsMode::Unset => None,
        MtlsMode::Disable | MtlsMode::Permissive => Some(Mode::Permissive),
        MtlsMode::Strict => Some(Mode::Strict),
    }
}

/// A PeerAuthentication that is legal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Modes {
    pub(crate) namespace: Namespace,
    pub(crate) own: Arc<str>,
    pub(crate) file: Option<Arc<str>>,
    pub(crate) line: Option<u32>,
    pub(crate) spec: PeerAuthenticationSpec,
}

/// The name of the policy that a workload is to name; none where everything may come without an identity. `levels` are those that
/// cover it, the narrowest first.
pub(crate) fn named(own: Option<&Modes>, wider: [Option<&Modes>; 2]) -> Option<PolicyName> {
    let levels = [own].into_iter().chain(wider).flatten();
    let decided = levels.filter_map(|one| Some((one, said(one.spec.mode)?))).next();
    let mode = decided.map_or(Mode::Permissive, |(_, mode)| mode);
    if let Some(own) = own
        && !own.ports(other(mode)).is_empty()
    {
        return Some(own.name(mode));
    }
    match decided {
        Some((one, Mode::Strict)) => Some(one.name(Mode::Strict)),
        Some((_, Mode::Permissive)) | None => None,
    }
}

/// The name under which the object is known that a policy of this name is made of.
pub(crate) fn object_of(policy: &PolicyName) -> Option<PolicyName> {
    let name = policy.name().strip_prefix(CONVERTED)?;
    let name = name.strip_suffix(INHERITED).unwrap_or(name);
    super::name(&PolicyKind::PeerAuthentication.to_string(), &policy.namespace, name).ok()
}

impl Modes {
    /// Its policies: what it says by itself, and what it says where it inherits.
    pub(crate) fn policies(&self) -> Vec<Policy> {
        let modes = match said(self.spec.mode) {
            Some(mode) => vec![mode],
            None => vec![Mode::Permissive, Mode::Strict],
        };
        modes.into_iter().filter_map(|mode| self.policy(mode)).collect()
    }

    /// The one for a workload whose ports are of that mode unless it says otherwise of them; none where others say it all.
    fn policy(&self, mode: Mode) -> Option<Policy> {
        let inherited = said(self.spec.mode).is_none();
        let ports = self.ports(other(mode));
        let destination_ports = match (mode, ports.is_empty()) {
            (Mode::Strict, true) if inherited => return None,
            (Mode::Permissive, true) => return None,
            (Mode::Strict, _) => Sides::none(ports),
            (Mode::Permissive, false) => Sides::any(ports),
        };
        let nobody = Match { principals: Sides::none([TextMatch::Present]), destination_ports, ..Match::default() };
        let place = RulePlace { index: None, line: self.line };
        Some(Policy {
            name: self.name(mode),
            scope: PolicyScope::Workloads,
            action: PolicyAction::Deny,
            dry_run: false,
            rules: vec![PolicyRule { place, clauses: vec![Clause(vec![nobody])] }],
            rejected: None,
            source: PolicySource {
                kind: PolicyKind::PeerAuthentication,
                name: self.own.clone(),
                file: self.file.clone(),
            },
        })
    }

    fn name(&self, mode: Mode) -> PolicyName {
        let variant = match (mode, said(self.spec.mode)) {
            (Mode::Strict, None) => INHERITED,
            (Mode::Strict, Some(_)) | (Mode::Permissive, _) => "",
        };
        PolicyName::new(self.namespace.clone(), &format!("{CONVERTED}{}{variant}", self.own))
            .expect("the name of an object is visible ASCII and short")
    }

    /// The ports that are said to be of that mode.
    fn ports(&self, mode: Mode) -> Vec<Port> {
        self.spec.ports.iter().filter(|(_, one)| said(**one) == Some(mode)).map(|(port, _)| *port).collect()
    }

    /// Whether it says DISABLE anywhere.
    pub(crate) fn disables(&self) -> bool {
        self.spec.mode == MtlsMode::Disable || self.spec.ports.values().any(|mode| *mode == MtlsMode::Disable)
    }
}

fn other(mode: Mode) -> Mode {
    match mode {
        Mode::Strict => Mode::Permissive,
        Mode::Permissive => Mode::Strict,
    }
}
